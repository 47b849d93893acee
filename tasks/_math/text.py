r"""Where the answer of a completion is: the last ``<answer>`` tag, else the last ``\boxed{}``.  Linear in the text."""

from __future__ import annotations

import re
from itertools import pairwise

from tasks._math.beside import NEAR, SILENT, harmless, is_part
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
    if tag is None and answer is not None:
        start, outer, end = outermost_box(text, answer)
        if is_part(text[max(0, start - NEAR) : start], text[end : end + NEAR]):
            raise ValueError("the last \\boxed answer is part of an expression")
        return content(outer) if outer != answer else answer
    if answer is not None and len(answer) > MAX_ANSWER:
        raise ValueError(f"longer than {MAX_ANSWER} characters")
    if tag is None or "\\boxed" not in tag:
        return answer
    return boxes_of(tag)[-1]


def outermost_box(text: str, answer: str) -> tuple[int, str, int]:
    """Where the outermost box around the last one begins, what it holds, and where it ends.

    It begins at most MAX_ANSWER characters before the last one, which itself holds ``answer``.
    """
    last = last_opening(text)
    assert last is not None
    end = last.start()
    place = max(0, end - MAX_ANSWER)
    boxes = {match.end() - 1: match.start() for match in BOX.finditer(text, place, end) if not match.group(1)}
    opened: list[int] = []
    while boxes and place < end:
        if text[place] == "\\":
            place += 1
        elif text[place] == "{":
            opened.append(place)
        elif text[place] == "}" and opened:
            opened.pop()
        place += 1
    brace = next((place for place in opened if place in boxes), None)
    if brace is not None:
        inner = text[brace + 1 : brace + 1 + 2 * MAX_ANSWER]
        size = closing(inner, 0)
        if size >= 0:
            return boxes[brace], inner[:size], brace + size + 2
    return last.start(), answer, last.end() + (0 if last.group(1) else len(answer) + 1)


def boxes_of(tag: str) -> list[str]:
    """Contents of the boxes, of nested ones the innermost, at least one; ValueError if there is none, if one is not
    closed, if they differ or if what stands beside one may change it."""
    boxes, beside = [], []
    place = 0
    while opening := BOX.search(tag, place):
        end = opening.end(1) if opening.group(1) else closing(tag, opening.end())
        if end < 0:
            raise ValueError("\\boxed{ without its closing brace")
        boxes.append(content(opening.group(1) or tag[opening.end() : end]))
        beside.append(tag[place : opening.start()])
        place = end + (not opening.group(1))
    if not boxes:
        raise ValueError("\\boxed without braces")
    if len({spelling(box) for box in boxes}) > 1:
        raise ValueError(f"{len(boxes)} different boxed answers in one answer tag")
    beside.append(tag[place:])
    for number, (before, after) in enumerate(pairwise(beside)):
        repeated = number < len(boxes) - 1 and SILENT.sub("", after).strip() == "="
        joined = number > 0 and not SILENT.sub("", before).strip() and "\n" not in before
        if joined or not harmless(before, "" if repeated else after):
            raise ValueError("words beside the \\boxed answer that may change it")
    return boxes


def content(box: str) -> str:
    """What a box holds, or the box in it; ValueError if it holds a box and more."""
    while opening := BOX.search(box):
        end = opening.end(1) if opening.group(1) else closing(box, opening.end())
        rest = box[: opening.start()] + box[end + (not opening.group(1)) :]
        if end < 0 or SILENT.sub("", rest).strip():
            raise ValueError("something beside the \\boxed answer")
        box = opening.group(1) or box[opening.end() : end]
    return box


def spelling(box: str) -> tuple[str, ...]:
    """The tokens of a box, or its text where it has none."""
    try:
        return tuple(token.text for token in tokens_of(box))
    except UnreadableError:
        return (box,)
