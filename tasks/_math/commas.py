r"""What a comma means, decided once for gold answers and answers alike.

``{,}``, ``,\!`` and a thin blank between digits separate thousands (``tokens``).  A plain comma does so too if no blank
stands beside it and all digits around the tight commas form one number, ``5,040`` or ``1,234,567``; every other comma
separates parts.  Inside (), [] and \{\} tight commas separate parts as well, unless a group begins with 0
(``(1,000)``) or another comma beside them has a blank (``(1,000, 2)``).  Tight commas that are neither (``1,00``,
``1,000,2,000``) make the answer unreadable.  Outside of brackets ``70,110`` may be a number or a list: it has
both readings.
"""

from __future__ import annotations

import re
from dataclasses import replace

from tasks._math.tokens import CLOSING, OPENING, Token, UnreadableError, closing_place

THOUSANDS = re.compile(r"[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]+)?")
NO_ITEM = re.compile(r".*,0[0-9]")


def join_numbers(tokens: list[Token], lists: bool = False, bracket: str = "") -> list[Token]:
    """Tokens in which numbers with separators are one; ``lists``: where both are possible, parts of a list."""
    result: list[Token] = []
    # In (1,234, 2) the commas of the list have blanks, so that the tight one belongs to a number.
    apart = any(token.text == "," and blank for token, blank in list_commas(tokens))
    place = 0
    while place < len(tokens):
        token = tokens[place]
        if token.text in OPENING:
            end = closing_place(tokens, place)
            result += [token, *join_numbers(tokens[place + 1 : end], lists, token.text), tokens[end]]
            place = end + 1
        elif token.kind == "digits" and (end := run_end(tokens, place)) > place + 1:
            result += read_run(tokens[place:end], apart, lists, bracket)
            place = end
        else:
            result.append(token)
            place += 1
    return result


def list_commas(tokens: list[Token]) -> list[tuple[Token, bool]]:
    """The commas outside of inner brackets, each with whether a blank stands beside it."""
    pairs, level = [], 0
    for place, token in enumerate(tokens):
        level += (token.text in OPENING) - (token.text in CLOSING)
        if token.text == "," and level == 0:
            pairs.append((token, token.spaced or (place + 1 < len(tokens) and tokens[place + 1].spaced)))
    return pairs


def run_end(tokens: list[Token], place: int) -> int:
    """The place after the digits and tight commas that begin here."""
    end = place + 1
    while (
        end + 1 < len(tokens)
        and tokens[end].text == ","
        and tokens[end + 1].kind == "digits"
        and not tokens[end].spaced
        and not tokens[end + 1].spaced
    ):
        end += 2
    return end


def read_run(run: list[Token], apart: bool, lists: bool, bracket: str) -> list[Token]:
    text = "".join(token.text for token in run)
    # 5,040: no list has an item 040, so here the comma can only separate thousands.  70,110 can be either.  In brackets
    # a list is the rule and a number needs a sign: another comma with a blank.  Outside ``lists`` decides.
    zero = NO_ITEM.match(text)
    number = THOUSANDS.fullmatch(text)
    if number and (zero or (apart if bracket in ("(", "[", "\\{") else not lists)):
        return [replace(run[0], text=text.replace(",", ""))]
    if zero:
        raise UnreadableError("a comma whose meaning is not clear")
    return run


def is_ambiguous(tokens: list[Token]) -> bool:
    """Whether a comma outside of brackets may separate thousands as well as parts."""
    place, level = 0, 0
    while place < len(tokens):
        level += (tokens[place].text in OPENING) - (tokens[place].text in CLOSING)
        end = run_end(tokens, place) if tokens[place].kind == "digits" else place + 1
        text = "".join(token.text for token in tokens[place:end])
        if level == 0 and end > place + 1 and THOUSANDS.fullmatch(text) and not NO_ITEM.match(text):
            return True
        place = end
    return False
