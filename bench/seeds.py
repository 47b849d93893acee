"""Seeds from hashes: every random choice of a run follows from names, never from a counter or from the clock."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def derive_seed(*parts: Any) -> int:
    """A 63-bit seed from the parts' canonical JSON (neighbouring seeds share nothing)."""
    # One spelling per value, so the same parts hash alike on every machine.  Python's hash() is salted per process.
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1
