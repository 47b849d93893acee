r"""Where the answer of a completion is: the last ``<answer>`` tag, else the last ``\boxed{}``.  Linear in the text."""

from __future__ import annotations

import re

from tasks._math.tokens import UnreadableError, tokens_of
from tasks.common import last_answer

MAX_ANSWER = 1000  # characters of an answer that are worth reading
MAX_BARE = 100  # boxes without content that are skipped
BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|([0-9A-Za-z])(?![0-9A-Za-z.]))")


def closing(text: str, start: int) -> int:
    r"""Place of the brace that closes the group opened just before ``start``, -1 if none does; ``\{`` counts not."""
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


def last_opening(text: str) -> re.Match[str] | None:
    r"""The last box that has content; a bare ``\boxed`` after it, as in talk about the answer, does not count."""
    start = len(text)
    for _ in range(MAX_BARE):
        start = max(text.rfind("\\boxed", 0, start), text.rfind("\\fbox", 0, start))
        if start < 0:
            return None
        opening = BOX.match(text, start, start + MAX_ANSWER)
        if opening is not None:
            return opening
    return None


def last_boxed(text: str) -> str | None:
    r"""Content of the last ``\boxed{...}`` or ``\boxed 5``; None if there is none or if its brace is never closed.

    ValueError if it is longer than MAX_ANSWER characters: no more are read.
    """
    opening = last_opening(text)
    if opening is None:
        return None
    if opening.group(1):
        return opening.group(1)
    inner = text[opening.end() : opening.end() + MAX_ANSWER + 1]
    end = closing(inner, 0)
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
    boxes = boxes_of(tag)
    if len({spelling(box) for box in boxes}) > 1:
        raise ValueError(f"{len(boxes)} different boxed answers in one answer tag")
    return boxes[-1]


def boxes_of(tag: str) -> list[str]:
    """Contents of the boxes that hold no other box, at least one; ValueError if there is none or one is not closed."""
    boxes = []
    for opening in BOX.finditer(tag):
        end = opening.end(1) if opening.group(1) else closing(tag, opening.end())
        if end < 0:
            raise ValueError("\\boxed{ without its closing brace")
        inner = opening.group(1) or tag[opening.end() : end]
        if "\\boxed" not in inner:
            boxes.append(inner)
    if not boxes:
        raise ValueError("\\boxed without braces")
    return boxes


def spelling(box: str) -> tuple[str, ...]:
    """The tokens of a box, or its text where it has none."""
    try:
        return tuple(token.text for token in tokens_of(box))
    except UnreadableError:
        return (box,)
