"""Where a model comes from: the embedded one, a directory or the hub.  Imports no torch."""

from __future__ import annotations

import hashlib
import json
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bench.types import UserError

TINY = Path(__file__).parent / "tiny"


def model_path(name: str) -> str:
    """``tiny`` is the embedded model; an existing directory or a hub name stands for itself."""
    if name == "tiny":
        return str(TINY)
    if Path(name).is_dir():
        if not (Path(name) / "config.json").exists():
            raise UserError(f"model directory '{name}' has no config.json: expected a Hugging Face causal LM")
        return name
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or name.endswith("/"):
        hint = "did you mean tiny? " if get_close_matches(name.lower(), ["tiny"], cutoff=0.5) else ""
        raise UserError(
            f"model '{name}' does not exist: {hint}expected 'tiny', a directory or a hub name such as org/model"
        )
    return name


def model_settings(path: str) -> dict[str, Any]:
    """A model directory's own defaults (``bench.json``: template, completion length, tuned hyper-parameters)."""
    file = Path(path) / "bench.json"
    if not file.exists():
        return {}
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"'{file}' is not a JSON object: {error}") from None


def model_digest(path: str) -> str:
    """Hash of a local model's weights, tokenizer and configuration; a hub model is named by its id."""
    if not Path(path).is_dir():
        return path
    total = hashlib.blake2b(digest_size=16)
    for file in sorted(Path(path).iterdir()):
        if file.suffix in {".safetensors", ".json"} and file.name != "bench.json":
            total.update(file.name.encode())
            total.update(file.read_bytes())
    return total.hexdigest()
