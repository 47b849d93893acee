r"""Units after numbers: common spellings of one unit are one, others are compared as words.

A unit is a product of powers of names: ``mph``, ``mi/h`` and ``miles per hour`` are mile^1 hour^-1.  Quantities are
not converted: 50 mm is not 5 cm.  Nouns of what is counted ("9 ways", "12 marbles") are units, too.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks._math.tokens import Token, UnreadableError

MAX_WORDS = 8
SPELLINGS = {
    "meter": "m metre mtr",
    "centimeter": "cm centimetre",
    "millimeter": "mm millimetre",
    "kilometer": "km kilometre",
    "inch": "in inches",
    "foot": "ft feet",
    "yard": "yd",
    "mile": "mi",
    "gram": "g gm",
    "kilogram": "kg kilo",
    "milligram": "mg",
    "pound": "lb lbs",
    "ounce": "oz",
    "ton": "tonne",
    "liter": "l litre",
    "milliliter": "ml millilitre",
    "gallon": "gal",
    "quart": "qt",
    "pint": "pt",
    "cup": "",
    "second": "s sec",
    "minute": "min",
    "hour": "h hr",
    "day": "",
    "week": "wk",
    "month": "",
    "year": "yr",
    "degree": "deg",
    "radian": "rad",
    "percent": "% pct",
    "dollar": "usd buck",
    "cent": "\\cent",
    "pounds sterling": "\\pounds",
    "euro": "\\euro eur",
    "rupee": "rs",
    "celsius": "",
    "fahrenheit": "",
    "kelvin": "k",
    "newton": "n",
    "joule": "j",
    "watt": "w",
    "volt": "v",
    "ampere": "amp",
    "hertz": "hz",
    "acre": "",
    "unit": "",
    "am": "",
    "pm": "",
}
NOUNS = """
    apple arrangement ball banana bead block board book bottle box boy brick bug bus car card case cat chair child
    choice circle class coin color committee cookie cow customer diagonal digit divisor dog edge egg element
    employee face factor fish flavor flower friend function game girl goal guest handshake horse integer
    intersection line marble match member multiple number orange outcome page path pencil permutation
    person piece player point possibility problem question rectangle region row seat sequence
    side solution song step stick sticker student subset sum swimmer symbol teacher team term ticket tile
    toy tree triangle value vote way win word worker
"""  # of what is counted; not those that may change a number: pairs, quarters, squares, times
COUNTED = set(NOUNS.split())
ALONE = {"percent", "degree", "am", "pm"}  # units that make no product with others
LETTERS = set("msghlLKNJWVCFcf")  # units of one letter, whose case matters
COMPOUND = {
    "mph": (("mile", 1), ("hour", -1)),
    **dict.fromkeys(("kph", "kmh", "kmph"), (("kilometer", 1), ("hour", -1))),
    "fps": (("foot", 1), ("second", -1)),
    "rpm": (("revolution", 1), ("minute", -1)),
}
MEGA = ("Mg", "Mm", "Ms")  # not milligrams
SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
AFTER = {"squared": 2, "cubed": 3}
PLURALS = {"feet": "foot", "people": "person", "men": "man", "women": "woman", "children": "child", "dice": "die"}
NAMES = {word: name for name, others in SPELLINGS.items() for word in (name, *others.split())}
NAMES |= {word: word for word in COUNTED}
BARE = frozenset(
    {word for word in NAMES if len(word) > 1 and word.isalpha()}
    | {word + "s" for word in NAMES if len(word) > 1 and word.isalpha()}
    | {*COMPOUND, *SCALES, *POWERS, *PLURALS, "inches", "per"}
) - {"sec"}  # words that are units in a font; sec is a function
PLAIN = frozenset({"cm", "mm", "km", "kg", "mph", "kph", "kmh", "per"})  # units without \text, even without a blank
PRODUCTS = frozenset({"rs", "mg", "gm"})  # no units without \text: more often products of letters


@dataclass(frozen=True)
class Unit:
    """Names with exponents; ``known``: every one of them is in the tables."""

    powers: frozenset[tuple[str, int]]
    known: bool = True

    def __str__(self) -> str:
        return " ".join(name + (f"^{power}" if power != 1 else "") for name, power in sorted(self.powers))


def unit(name: str) -> Unit:
    return Unit(frozenset({(name, 1)}))


PERCENT, DEGREE, DOLLAR = unit("percent"), unit("degree"), unit("dollar")
TEMPERATURES = {"c": unit("celsius"), "f": unit("fahrenheit")}


def singular(word: str) -> tuple[str, bool]:
    """The name of a unit and whether it is in the tables."""
    word = PLURALS.get(word, word)
    if word in NAMES:
        return NAMES[word], True
    for end, instead in (("ies", "y"), ("ses", "s"), ("xes", "x"), ("hes", "h"), ("s", "")):
        if word.endswith(end) and word.removesuffix(end) + instead in NAMES:
            return NAMES[word.removesuffix(end) + instead], True
    if word.endswith("s") and len(word) > 3:
        word = word.removesuffix("s")
    return word, word in PLURALS.values()


def read_unit(tokens: list[Token]) -> tuple[int, Unit | None]:
    """A factor such as a thousand, and the unit that all the tokens are; UnreadableError if they are none."""
    before = [Token("end", ""), *tokens]
    words = [token for last, token in zip(before, tokens) if token.text != "." or last.kind != "word"]
    factor = 1
    while words and words[0].text.lower() in SCALES:
        factor *= SCALES[words.pop(0).text.lower()]
    if not words:
        return factor, None
    if len(words) > MAX_WORDS or factor > 10**15:
        raise UnreadableError("a unit of too many words")
    powers: dict[str, int] = {}
    known, sign, place, last = True, 1, 0, ""
    while place < len(words):
        text = words[place].text
        if text in ("/", "per") or (text in ("a", "an") and place):
            if sign < 0 or place == len(words) - 1:
                raise UnreadableError("a unit that is not understood")
            sign, place, last = -1, place + 1, ""
            continue
        if text in ("-", "\\cdot") and 0 < place < len(words) - 1:  # foot-pounds
            place, last = place + 1, ""
        start = place
        place, names, sure = factor_of(words, place)
        known &= sure and (not last or max(len(last), len(words[start].text)) < 4)  # kg m, but no cm hours
        for name, power in names:
            powers[name] = powers.get(name, 0) + sign * power
        sign, last = 1, words[start].text
    if powers.keys() & {"celsius", "fahrenheit"}:
        known |= powers.pop("degree", 0) == 1 and len(powers) == 1
    if len(powers) > 1 and powers.keys() & ALONE:
        known = False
    if any(powers[name] != 1 for name in powers.keys() & ALONE):
        raise UnreadableError("a unit twice")
    return factor, Unit(frozenset((name, power) for name, power in powers.items() if power), known)


def factor_of(words: list[Token], place: int) -> tuple[int, list[tuple[str, int]], bool]:
    """One name with its power, as names with exponents; the place after it, and whether it is known."""
    power = POWERS.get(words[place].text.lower(), 1) if place + 1 < len(words) else 1
    place += power > 1
    token = words[place]
    if token.kind != "word" and token.text not in ("%", "\\degree", "\\cent", "\\pounds", "\\euro", "dollar"):
        raise UnreadableError(f"'{token.text[:40]}' is not understood")
    text = token.text.lower()
    if token.text == "\\degree":
        text = "degree"
    place += 1
    if text == "degree" and place < len(words) and words[place].text in ("C", "F"):
        text, place = {"C": "celsius", "F": "fahrenheit"}[words[place].text], place + 1
    known = True
    if text in COMPOUND:
        names = list(COMPOUND[text])
    else:
        cased = token.text in MEGA or (len(token.text) == 1 and token.text.isalpha() and token.text not in LETTERS)
        name, known = (token.text, False) if cased else singular(text)
        names = [(name, 1)]
    if place < len(words) and words[place].text in AFTER:
        power, place = AFTER[words[place].text], place + 1
    elif place < len(words) and words[place].text == "^":
        power, place = exponent(words, place + 1)
    return place, [(name, one * power) for name, one in names], known


def exponent(words: list[Token], place: int) -> tuple[int, int]:
    """A small whole exponent, in braces or not, and the place after it."""
    texts = [token.text for token in words[place : place + 4]]
    braces = texts[:1] == ["{"]
    rest = texts[braces:]
    sign = -1 if rest[:1] == ["-"] else 1
    digit = rest[sign < 0 : (sign < 0) + 1]
    if digit not in (["1"], ["2"], ["3"]):
        raise UnreadableError("a unit that is not understood")
    width = braces + (sign < 0) + 1
    if braces and texts[width : width + 1] != ["}"]:
        raise UnreadableError("a unit that is not understood")
    return sign * int(digit[0]), place + width + braces
