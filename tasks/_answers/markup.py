r"""What stands around an answer and says nothing: code fences, dollar signs, boxes, bold print, fonts of LaTeX.

Every function takes a text of bounded length and returns one that is no longer.  What is not whole (a fence without an
end, a single asterisk, a command that is not listed) stays, for the reader to refuse.
"""

from __future__ import annotations

import re

MAX_LAYERS = 6  # wrappings within wrappings that are taken off
LANGUAGE = r"(?i:text|plaintext|txt|json|python|markdown|md|latex|tex|math|csv)?"  # no other word: it could be "not"
FENCE = re.compile(rf"```{LANGUAGE}[ \t]*\r?\n(.*)```", re.DOTALL)
PAIRS = (("```", "```"), ("`", "`"), ("$$", "$$"), ("$", "$"), (r"\[", r"\]"), (r"\(", r"\)"), ("**", "**"))
BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
MARKED = re.compile(r"(\*\*\*|\*\*|\*|`|\$)(?![\s*`$])([^*`$\n]*[^\s*`$])\1")
FONT = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt)?|math(?:bf|it|rm|sf|tt)|mbox|boxed|fbox)\s*\{([^{}]*)\}")


def unwrapped(text: str) -> str:
    """A text without what encloses all of it, and without white space at its ends."""
    text = text.strip()
    for _ in range(MAX_LAYERS):
        inner = inside(text)
        if inner is None:
            break
        text = inner.strip()
    return text


def inside(text: str) -> str | None:
    """What one wrapping holds, None if the text does not stand in one."""
    fenced = FENCE.fullmatch(text)
    if fenced is not None and "```" not in fenced[1]:
        return fenced[1]
    for start, end in PAIRS:
        if len(text) > len(start + end) and text.startswith(start) and text.endswith(end):
            content = text[len(start) : -len(end)]
            # "$1$ and $2$" begins and ends so, too, but is not one text in dollar signs.
            if start not in content and end not in content:
                return content
    box = BOX.match(text)
    return text[box.end() : -1] if box and closing_brace(text, box.end()) == len(text) - 1 else None


def closing_brace(text: str, start: int) -> int:
    """Place of the brace that closes the one before ``start``, -1 without one."""
    depth = 1
    for place in range(start, len(text)):
        depth += (text[place] == "{") - (text[place] == "}")
        if depth == 0:
            return place
    return -1


def unmarked(text: str) -> str:
    """A text without pairs of asterisks, backticks and dollar signs within its lines."""
    for _ in range(MAX_LAYERS):
        text, count = MARKED.subn(r"\2", text)
        if not count:
            break
    return text


def without_fonts(text: str) -> str:
    r"""A text whose LaTeX fonts and boxes (``\text{}``, ``\boxed{}``) are replaced by what they hold."""
    for _ in range(MAX_LAYERS):
        text, count = FONT.subn(r"\1", text)
        if not count:
            break
    return text
