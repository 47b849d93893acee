r"""How an answered Countdown expression is written: ``(1+3)*4``, ``(1 + 3) × 4 = 16``, ``\boxed{(1+3)\times4}``.

All spellings become the plain one, which ``tasks.countdown.evaluate`` reads.  What could mean something else stays as
it is and is refused there: ``2(3+4)``, ``1:2``, ``2^3``, decimals, digits other than ASCII, chains such as
``1+2+3 = 3+3 = 6``, words.
"""

from __future__ import annotations

import re

from tasks._answers.markup import closing_brace, unwrapped

PLAIN = frozenset("0123456789+-*/() \t\r\n")  # what the game is written with
SIGNS = {
    **dict.fromkeys(("×", "⋅", "·", "∙", "∗", r"\times", r"\cdot", r"\ast"), "*"),
    **dict.fromkeys(("÷", "∕", r"\div"), "/"),
    **dict.fromkeys(("−", "–"), "-"),
    **dict.fromkeys((r"\,", r"\;", r"\:", r"\!", r"\quad", "\u00a0", "\u2009", "\u202f"), " "),
}
SIGN = re.compile("|".join(re.escape(sign) + (r"(?![A-Za-z])" if sign[-1].isalpha() else "") for sign in SIGNS))
TALL = re.compile(r"\\(?:left|[bB]igl?)\s*(?=\()|\\(?:right|[bB]igr?)\s*(?=\))")
LETTER_X = re.compile(r"(?<=[0-9)])(?<!(?<![0-9])0) *[xX] *(?=[0-9(])")  # but for 0x10, which is a number elsewhere
FRACTION = re.compile(r"\\[dt]?frac\s*\{")
NUMBER = re.compile(r"[0-9]+")


def read_equation(answer: str) -> tuple[str, int | None]:
    """The expression of an answer in plain signs, and the result that the answer states, None if it states none.

    ``answer`` is of bounded length.  Raises ValueError where two expressions could be meant.
    """
    if PLAIN.issuperset(answer) and "**" not in answer:
        return answer, None
    text = unwrapped(unwrapped(answer).removesuffix("."))
    sides = [plain_signs(unwrapped(side)) for side in text.split("=")]
    if len(sides) == 1:
        return sides[0], None
    if len(sides) > 2:
        raise ValueError("more than one equals sign")
    # The result may stand on either side: "16 = (1+3)*4".
    expression, result = sides if NUMBER.fullmatch(sides[1]) else sides[::-1]
    if not NUMBER.fullmatch(result):
        raise ValueError("no side of the equals sign is a number")
    return expression, int(result)


def plain_signs(text: str) -> str:
    """A text with the signs of the game for their other spellings, and ``(a)/(b)`` in brackets for fractions."""
    text = LETTER_X.sub("*", SIGN.sub(lambda sign: SIGNS[sign[0]], TALL.sub("", text)))
    while fraction := FRACTION.search(text):
        middle = closing_brace(text, fraction.end())
        end = closing_brace(text, middle + 2) if text[middle + 1 : middle + 2] == "{" else -1
        if middle < 0 or end < 0:
            raise ValueError("a fraction without two parts in braces")
        over, under = text[fraction.end() : middle], text[middle + 2 : end]
        # A product could be meant where a number stands right before the fraction; the outer brackets keep it unread.
        text = f"{text[: fraction.start()]}(({over})/({under})){text[end + 1 :]}"
    return text.strip()
