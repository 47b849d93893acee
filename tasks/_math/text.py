r"""LaTeX answers as text: finds the answer in a completion and reduces its many spellings to one.

Everything here is linear in the text and changes no value.
"""

from __future__ import annotations

import re

from tasks.common import last_answer

MAX_ANSWER = 1000  # characters of an answer that are worth reading
BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|([0-9A-Za-z]))")
DRESSING = ((r"\(", r"\)"), (r"\[", r"\]"))
DOLLAR = re.compile(r"(?<!\\)\$")
SPELLINGS = [
    (re.compile(pattern), plain)
    for pattern, plain in (
        (r",\s*\\!\s*", ","),  # 18,\!107
        (r"\{,\}", ","),
        (r"\\(?:left|right|displaystyle|bigl?|bigr?|Bigl?|Bigr?)(?![a-zA-Z])", ""),
        (r"\\[!,;: ]|~|\\q?quad(?![a-zA-Z])|\u00a0", " "),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\math(?:rm|bf|it)\s*\{([A-Za-z])\}", r"\1"),
        (r"\\(?:text(?:bf|rm|it|sf|tt)?|math(?:rm|bf|it|sf|tt)|mbox|operatorname)\s*\{", r"\\text{"),
        ("\u2212", "-"),
        ("\u03c0", r"\\pi "),
        ("\u221e", r"\\infty "),
        ("\u2264", r"\\le "),
        ("\u2265", r"\\ge "),
        ("\u222a", r"\\cup "),
        ("\u00d7|\u22c5", r"\\cdot "),
        (r"\u00b0|\\degree(?![a-zA-Z])|\^\s*\\circ(?![a-zA-Z])|\^\s*\{\s*\\circ\s*\}", r"^\\circ"),
        (r"\\%", "%"),
        (r"\\\$", " dollarsign "),
        (r"\\(?:lbrace|\{)", r"\\{"),
        (r"\\(?:rbrace|\})", r"\\}"),
    )
]


def closing_brace(text: str, start: int) -> int:
    r"""Place of the brace that closes the group opened just before ``start``, else -1; ``\{`` does not count."""
    depth, place = 1, start
    while place < len(text):
        character = text[place]
        if character == "\\":
            place += 1
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return place
        place += 1
    return -1


def last_boxed(text: str) -> str | None:
    r"""Content of the last ``\boxed{...}`` or ``\boxed 5``; None if there is none or if its brace is never closed.

    ValueError if it is longer than MAX_ANSWER characters: no more are read.
    """
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    opening = BOX.match(text, start, start + MAX_ANSWER) if start >= 0 else None
    if opening is None:
        return None
    if opening.group(1):
        return opening.group(1)
    inner = text[opening.end() : opening.end() + MAX_ANSWER + 1]
    end = closing_brace(inner, 0)
    if end < 0 and len(inner) > MAX_ANSWER:
        raise ValueError(f"longer than {MAX_ANSWER} characters")
    return inner[:end] if end >= 0 else None


def answer_of(text: str) -> str | None:
    r"""The answer of a completion: the last ``<answer>`` tag, else the last ``\boxed{}``; None if there is neither.

    Boxes inside the tag are answers instead of the tag's whole text.  ValueError if the answer is too long, or if
    one tag holds boxes that differ.
    """
    tag = last_answer(text)
    answer = last_boxed(text) if tag is None else tag
    if answer is not None and len(answer) > MAX_ANSWER:
        raise ValueError(f"longer than {MAX_ANSWER} characters")
    if tag is None or "\\boxed" not in tag:
        return answer
    boxes = []
    for opening in BOX.finditer(tag):
        end = opening.end(1) if opening.group(1) else closing_brace(tag, opening.end())
        if end < 0:
            raise ValueError("\\boxed{ without its closing brace")
        inner = opening.group(1) or tag[opening.end() : end]
        if "\\boxed" not in inner:
            boxes.append(inner)
    if not boxes:
        raise ValueError("\\boxed without braces")
    if len({clean_latex(box) for box in boxes}) > 1:
        raise ValueError(f"{len(boxes)} different boxed answers in one answer tag")
    return boxes[-1]


def clean_latex(text: str) -> str:
    """One spelling: no dollar signs around formulas, no spacing commands, single blanks."""
    text = text.strip()
    for opening, end in DRESSING:
        if text.startswith(opening) and text.endswith(end) and len(text) >= len(opening) + len(end):
            text = text[len(opening) : -len(end)].strip()
    if len(DOLLAR.findall(text)) % 2 == 0:  # around formulas; a single one is money
        text = DOLLAR.sub("", text)
    for pattern, plain in SPELLINGS:
        text = pattern.sub(plain, text)
    return " ".join(text.split()).rstrip(".").rstrip()
