"""Foreign text made fit to be shown: completions and names may hold anything.

Escaping is left to the template engine and to ``json_block``; here characters that a reader could not see, or that
would change how other text is drawn, become visible, and what is too long is cut.
"""

from __future__ import annotations

import json
import re
from typing import Any

HEAD, TAIL = 3000, 1000  # characters kept of a long text: the answer usually stands at its end
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    """The text with control, direction and other unseen characters written out: NUL is U+2400, others "<U+202E>".

    Line feeds and tabs stay; carriage returns do not, as a terminal would overwrite the line.
    """
    return UNSEEN.sub(lambda match: named(ord(match[0])), text)


def named(code: int) -> str:
    """The picture of an ASCII control character, the number of any other character."""
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"\u27e8U+{code:04X}\u27e9"


def bounded(text: str) -> tuple[str, str, int]:
    """Beginning and end of a text, both visible, and how many characters were cut between them."""
    cut = len(text) - HEAD - TAIL
    if cut <= 0:
        return visible(text), "", 0
    return visible(text[:HEAD]), visible(text[-TAIL:]), cut


def json_block(value: Any) -> str:
    """JSON that may stand inside a script element of any page: ASCII without <, > and &."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
