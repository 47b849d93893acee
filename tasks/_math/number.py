r"""Exact numbers in LaTeX: integers, decimals, fractions and mixed numbers, with unit, per cent, ratio or base.

One bounded, linear reader of what ``clean_latex`` returns; nothing is evaluated, rounded or guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

DIGITS = "(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"  # with or without separators of thousands
PART = r"(?:\{ ?(-?[0-9]+) ?\}|([0-9]))"
FRACTION = re.compile(rf"\\frac ?{PART} ?{PART}")
QUOTIENT = re.compile(rf"({DIGITS}) ?/ ?(-?{DIGITS})")
REPEATING = re.compile(r"([0-9]*)\.([0-9]*)\\overline ?\{ ?([0-9]+) ?\}")
DECIMAL = re.compile(rf"({DIGITS})?(?:\.([0-9]*))?(?![0-9])")
MIXED = re.compile(r"([0-9]+) ?(?=\\frac)|([0-9]+) (?=[0-9]+/[0-9])")
RATIO = re.compile(rf" ?: ?({DIGITS})")
NAME = re.compile(r"([A-Za-z]) ?= ?")
SIGN = re.compile("([+-]?) ?")
BASE = re.compile(r"_ ?(?:\{ ?([0-9]+) ?\}|([0-9]))")
TEXT = re.compile(r"\\text\{([^{}\\]*)\}(?: ?\^ ?\{?([23])\}?)?")
WORDS = re.compile("[A-Za-z]+(?: [A-Za-z]+){0,3}")
DEGREE = "^\\circ"
NOT_UNITS = re.compile(
    r"\b(?:or|and|not|more|less|than|at|least|most|about|to|only|except|if|minus|plus|times|over|mod|modulo|base|half|"
    r"percent|squared|cubed|factorial|dozen|hundred|thousand|million|billion|trillion)\b"
)
BARE_UNITS = re.compile(
    "degree|dollar|cent|cm|mm|km|kg|mg|ml|ft|in|mi|lb|oz|inch|foot|yard|mile|meter|metre|centimeter|kilometer|gram|"
    "kilogram|pound|ounce|liter|litre|gallon|second|minute|hour|day|week|month|year|unit|square|cubic|mph|way|per"
)
SINGULAR = {"feet": "foot", "inches": "inch", "deg": "degree"}


@dataclass(frozen=True)
class Number:
    """An exact value with its unit ("", "percent", "ratio", "base 5" or words) and the variable it is assigned to."""

    value: Fraction
    unit: str = ""
    name: str = ""
    digits: str = ""  # of a number in another base


def read_number(text: str) -> Number | None:
    """The number that the whole text is, None if it is not one."""
    name = NAME.match(text)
    place = name.end() if name else 0
    sign = SIGN.match(text, place)
    assert sign is not None
    rest = text[sign.end() :]
    money = rest.startswith(("$", "dollarsign "))
    if money:
        rest = rest.removeprefix("$").removeprefix("dollarsign").lstrip()
    sized = read_unsigned(rest)
    if sized is None:
        return None
    value, end = sized
    variable, factor = name.group(1) if name else "", -1 if sign.group(1) == "-" else 1
    if based := BASE.fullmatch(rest, end):
        return number_in_base(rest[:end], based.group(1) or based.group(2), variable, factor)
    if (ratio := RATIO.fullmatch(rest, end)) and digits_value(ratio.group(1)):
        return Number(factor * value / digits_value(ratio.group(1)), "ratio", variable)
    unit = unit_of(rest[end:])
    if unit is None or (money and unit):
        return None
    return Number(factor * value, "dollar" if money else unit, variable)


def digits_value(digits: str) -> int:
    return int(digits.replace(",", ""))


def read_unsigned(text: str) -> tuple[Fraction, int] | None:
    """Value of the unsigned number that a text begins with, and where it ends."""
    mixed = MIXED.match(text)
    if mixed:
        part = read_unmixed(text, mixed.end())
        if part is None or not 0 < part[0] < 1:
            return None
        return int(mixed.group(1) or mixed.group(2)) + part[0], part[1]
    return read_unmixed(text, 0)


def read_unmixed(text: str, start: int) -> tuple[Fraction, int] | None:
    """As ``read_unsigned``, without mixed numbers."""
    if match := FRACTION.match(text, start):
        above, below = (int(match.group(k) or match.group(k + 1)) for k in (1, 3))
        return (Fraction(above, below), match.end()) if below else None
    if match := QUOTIENT.match(text, start):
        below = digits_value(match.group(2))
        return (Fraction(digits_value(match.group(1)), below), match.end()) if below else None
    if match := REPEATING.match(text, start):
        before, fixed, period = match.groups()
        nines = 10 ** len(period) - 1
        value = Fraction(int(before or 0)) + Fraction(int(fixed or 0), 10 ** len(fixed))
        return value + Fraction(int(period), nines * 10 ** len(fixed)), match.end()
    match = DECIMAL.match(text, start)
    if match is None or not (match.group(1) or match.group(2)):
        return None
    digits = match.group(2) or ""
    return Fraction(digits_value(match.group(1) or "0")) + Fraction(int(digits or 0), 10 ** len(digits)), match.end()


def number_in_base(digits: str, base: str, name: str, factor: int) -> Number | None:
    if not digits.isdigit() or len(base) > 2 or not 2 <= int(base) <= 36 or int(max(digits)) >= int(base):
        return None
    return Number(Fraction(factor * int(digits, int(base))), f"base {int(base)}", name, digits)


def unit_of(text: str) -> str | None:
    r"""Unit after a number, "" if there is none, None if the text is no unit; bare letters may be variables."""
    text = text.strip()
    if not text:
        return ""
    if text in ("%", "percent", "\\text{percent}", "\\text{ percent}"):
        return "percent"
    if text.startswith(DEGREE):
        return "degree" if text in (DEGREE, DEGREE + "C", DEGREE + "F") else None
    match = TEXT.fullmatch(text)
    words = match.group(1).strip() if match else text
    if not WORDS.fullmatch(words):
        return None
    units = [SINGULAR.get(word, word.removesuffix("s")) for word in words.lower().split()]
    if NOT_UNITS.search(words.lower()) or not (match or all(map(BARE_UNITS.fullmatch, units))):
        return None
    power = {"square": "2", "cubic": "3"}.get(units[0]) if len(units) > 1 else None
    if match and match.group(2):
        power = match.group(2)
    elif power:
        units = units[1:]
    return " ".join(units) + (f"^{power}" if power else "")


def same_number(gold: Number, answer: Number) -> bool:
    """Exact equality; a unit, a base, a per cent sign or a variable's name may be left out, but not be another one."""
    if gold.name and answer.name and gold.name != answer.name:
        return False
    values, units = (gold.value, answer.value), (gold.unit, answer.unit)
    if gold.unit == answer.unit:
        return gold.value == answer.value
    if "ratio" in units or "" not in units:
        return False
    if "percent" in units:
        share = answer.value / 100 if answer.unit else gold.value / 100
        return share == gold.value if answer.unit else answer.value in (gold.value, share)
    if gold.digits or answer.digits:
        other = values[1] if gold.digits else values[0]
        return str(other) == (gold.digits or answer.digits)
    return gold.value == answer.value
