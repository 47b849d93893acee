r"""Where the answer of a completion is: the last ``<answer>`` tag, else the last ``\boxed{}``.  Linear in the text."""

from __future__ import annotations

import re
from itertools import pairwise

from tasks._math.tokens import UnreadableError, tokens_of
from tasks.common import last_answer

MAX_ANSWER = 1000  # characters of an answer that are worth reading
MAX_BARE = 100  # boxes without content that are skipped
BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|([0-9A-Za-z])(?![0-9A-Za-z.]))")

FONT = re.compile(r"\\(?:text|textbf|textrm|mbox|mathrm)\s*\{([^{}\\]*)\}")
SILENT = re.compile(
    r"\\[,;:! ()\[\]]|\\(?:qquad|quad|displaystyle|left|right|therefore|implies|Rightarrow)(?![A-Za-z])|\$"
)
WORD_BEFORE = re.compile(r"(?:^|[^\\A-Za-z])([A-Za-z]{2,})\s+$")
MARK_BEFORE = re.compile(r"(?:(?:^|[^0-9\s])\s*[:,;.]|(?:^|[^!<>/\\])=)\s*$")
WORD_AFTER = re.compile(r"\s+([A-Za-z]{2,})(?![A-Za-z(^_])")
MARK_AFTER = re.compile(r"\s*[.,;:]*(?:\*\*)?(?:$|\s+[A-Za-z])")
WRAPS = {"(": ")", "{": "}", "**": "**"}
CHANGES = {  # words beside a box that say that its content is not the answer
    *("not", "no", "never", "isn", "t", "minus", "negative", "plus", "times", "than", "over", "squared", "cubed"),
    *("percent", "hundred", "thousand", "million", "billion", "dozen", "factorial", "divided", "root", "half", "mod"),
}


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
    if tag is None and answer is not None and (outer := enclosing_box(text)) is not None:
        return content(outer)
    if answer is not None and len(answer) > MAX_ANSWER:
        raise ValueError(f"longer than {MAX_ANSWER} characters")
    if tag is None or "\\boxed" not in tag:
        return answer
    boxes = boxes_of(tag)
    if len({spelling(box) for box in boxes}) > 1:
        raise ValueError(f"{len(boxes)} different boxed answers in one answer tag")
    return boxes[-1]


def enclosing_box(text: str) -> str | None:
    """Content of the outermost box around the last one, which begins at most MAX_ANSWER characters before it."""
    last = last_opening(text)
    end = last.start() if last else 0
    place = max(0, end - MAX_ANSWER)
    boxes = {match.end() - 1 for match in BOX.finditer(text, place, end) if not match.group(1)}
    opened: list[int] = []
    while boxes and place < end:
        if text[place] == "\\":
            place += 1
        elif text[place] == "{":
            opened.append(place)
        elif text[place] == "}" and opened:
            opened.pop()
        place += 1
    start = next((place + 1 for place in opened if place in boxes), None)
    if start is None:
        return None
    inner = text[start : start + 2 * MAX_ANSWER]
    end = closing(inner, 0)
    return inner[:end] if end >= 0 else None


def boxes_of(tag: str) -> list[str]:
    """Contents of the boxes, of nested ones the innermost, at least one; ValueError if there is none, if one is not
    closed or if what stands beside one may change it."""
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
    beside = [SILENT.sub(" ", FONT.sub(r" \1 ", text)) for text in (*beside, tag[place:])]
    for place, (before, after) in enumerate(pairwise(beside)):
        repeated = place < len(boxes) - 1 and after.strip() == "="
        joined = place > 0 and not before.strip() and "\n" not in before
        if joined or not harmless(before, "" if repeated else after):
            raise ValueError("something beside the \\boxed answer")
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


def harmless(before: str, after: str) -> bool:
    """Whether the texts beside a box are words and punctuation; a sign, number or operator would change it."""
    for left, right in WRAPS.items():
        if before.rstrip().endswith(left) and after.lstrip().startswith(right):
            before, after = before.rstrip().removesuffix(left), after.lstrip().removeprefix(right)
    if word := WORD_BEFORE.search(before):
        clear = word[1].lower() not in CHANGES
    else:
        clear = not before.strip() or MARK_BEFORE.search(before) is not None
    word = WORD_AFTER.match(after)
    if word:
        return clear and word[1].lower() not in CHANGES
    return clear and (not after.strip() or MARK_AFTER.match(after) is not None)


def spelling(box: str) -> tuple[str, ...]:
    """The tokens of a box, or its text where it has none."""
    try:
        return tuple(token.text for token in tokens_of(box))
    except UnreadableError:
        return (box,)
