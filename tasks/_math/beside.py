r"""What may stand beside a ``\boxed{}`` so that its content is the answer.

In an answer tag, words of a list alone; in a text without a tag, anything but what makes the box part of an expression.
"""

from __future__ import annotations

import re

from tasks._math.tokens import UnreadableError, tokens_of
from tasks._math.units import PERCENT, read_unit, singular

NEAR = 200  # characters beside a box that are looked at where there is no tag
FONT = re.compile(r"\\(?:text|textbf|textit|textrm|mbox|mathrm|mathbf)\s*\{([^{}\\]*)\}")
SILENT = re.compile(
    r"\\[,;:! ()\[\]]|\\(?:qquad|quad|displaystyle|left|right|therefore|implies|Rightarrow)(?![A-Za-z])|\$"
)
WRAPS = {"(": ")", "{": "}", "**": "**"}
DEGREES = re.compile(r"\s*\^\s*(?:\\circ|\{\s*\\circ\s*\})(?![A-Za-z])")

# --- in an answer tag ----------------------------------------------------------------------------------------------

WORDS_TEXT = """
    the final answer answers result results value values solution solutions is are be equals equal equaling so thus
    hence therefore we i get gets have find found obtain conclude that it its this which there here to problem
    question our my correct must and then in of for a an finally required desired
"""
WORDS = set(WORDS_TEXT.split())
QUANTITIES_TEXT = """
    number sum total area volume length width height radius diameter perimeter circumference distance speed
    probability product difference quotient remainder angle measure price cost amount average mean median range age
    time code coefficient determinant minimum maximum smallest largest least greatest possible distinct different
    such integers real roots root slope degree remaining expression equation function variable
"""
QUANTITIES = set(QUANTITIES_TEXT.split())  # as in "the number of codes is"
TOKEN = re.compile(r"\s*(?:([A-Za-z]+)|([0-9]+-[a-z]+)|([.,;:=])|(#+))")
NAME = r"(?:[A-Za-z](?:_\{?[0-9A-Za-z]\}?|'|\([0-9a-z]\))?|\\(?:alpha|beta|gamma|theta|lambda|phi))"
NAMED = re.compile(rf"(?<![A-Za-z0-9\\_^}}+*/!<>=|-])(?<![+*/^-] ){NAME}\s*(=|(?=\b(?:is|equals|are)\b))")
OF_NAME = re.compile(rf"\b(of|for|variable|and)\s+{NAME}(?=\s+(?:is|are|equals|and|be)\b|\s*[,=:])")
COPULA = re.compile(r"(?:\b(?:is|are|be|equals|equal to)|=|:)\s*$")
OPEN_END = re.compile(r"(?:^|\s)(?:an?|i|of|for|in|and)\s*$|(?:^|(?<!equal)(?<!equals)\s)to\s*$|[.,;]$")
TOTAL_OF = re.compile(r"\b(?:answer|value|result|total) of\s*$")
ABOUT_ANSWER = re.compile(r"\b(?:of|for|in) (?:the|this|our|my) (?:\w+ )?(?:answer|result|value|solution)s?\b")


def harmless(before: str, after: str) -> bool:
    """Whether the texts beside a box in a tag are words that say that it is the answer, punctuation, and a unit."""
    before, after = (SILENT.sub(" ", FONT.sub(r" \1 ", text)) for text in (before, with_plain_unit(after)))
    for left, right in WRAPS.items():
        if before.rstrip().endswith(left) and after.lstrip().startswith(right):
            before, after = before.rstrip().removesuffix(left), after.lstrip().removeprefix(right)
    if (before + after).count("**") % 2 == 0:
        before, after = before.replace("**", " "), after.replace("**", " ")
    return harmless_before(before.lower()) and harmless_after(after)


def harmless_before(text: str) -> bool:
    text = NAMED.sub(lambda match: "= " if match[1] else " it ", OF_NAME.sub(r"\1 it", text))
    words = words_of(text)
    if words is None or not words <= WORDS | QUANTITIES | {word for word in words if is_noun(word)}:
        return False
    if words - WORDS and not TOTAL_OF.search(text):
        return COPULA.search(text) is not None and not ABOUT_ANSWER.search(text)
    return TOTAL_OF.search(text) is not None or OPEN_END.search(text) is None


def harmless_after(text: str) -> bool:
    text = DEGREES.sub("", text, count=1) if DEGREES.match(text) else text
    if text[:1].isalnum() or (text[:1] in (".", ",") and text[1:2].isdigit()):
        return False
    for rest in (text, without_unit(text)):
        words = words_of(rest.lower())
        if words is not None and words <= WORDS and "=" not in rest:
            return True
    return False


def words_of(text: str) -> set[str] | None:
    """The words of a text of words and punctuation alone, else None."""
    words, place = set(), 0
    text = text.rstrip()
    while place < len(text):
        match = TOKEN.match(text, place)
        if match is None:
            return None
        words |= {match[1] or match[2]} if match[1] or match[2] else set()
        place = match.end()
    return words


def is_noun(word: str) -> bool:
    """Whether a word such as ``ways`` or ``6-digit`` names what is counted or measured."""
    name, known = singular(word.partition("-")[2] or word)
    return (known and len(word) > 1 and name != "percent") or name in QUANTITIES


def with_plain_unit(after: str) -> str:
    r"""``\text{ m}`` as ``meter``-like word: a unit of one letter counts only in a font."""
    match = FONT.match(after.lstrip().removeprefix("\\,").removeprefix("\\ "))
    if match and len(match[1].strip(" .")) == 1 and known_unit(match[1].strip(" .")):
        return after.replace(match[0], " ", 1)
    return after


def without_unit(text: str) -> str:
    """A text without the unit that it begins with."""
    parts = re.split(r"([\s.,;]+)", text.strip(), maxsplit=5)
    for count in range(min(len(parts), 9), 0, -2):
        phrase = "".join(parts[:count])
        if len(phrase) > 1 and known_unit(phrase):
            return "".join(parts[count:])
    return text


def known_unit(text: str) -> bool:
    try:
        factor, unit = read_unit(tokens_of(f"\\text{{{text}}}"))
    except UnreadableError:
        return False
    return (
        "per cent" not in " ".join(text.lower().split())
        and factor == 1
        and unit is not None
        and unit.known
        and unit != PERCENT
    )


# --- without a tag -------------------------------------------------------------------------------------------------

GROUPS = re.compile(r"\\(?:begin|end|hspace|vspace|color|textcolor|label)\*?\s*\{[^{}]*\}")
SPACES = re.compile(r"(?:\\[,;:! ]|\\(?:q?quad|left|right|displaystyle|textstyle)(?![A-Za-z])|[ \t~&])+")
BORDER_BEFORE = re.compile(r"(?:^|\$|\\\(|\\\[|\\\\|\n|</?\w+>)\s*$")
FONT_BEFORE = re.compile(r"\\(?:text[a-z]*|math[a-z]*|boldsymbol|bm|underline|ensuremath|[lL]arge|LARGE|[hH]uge)\s*$")
COMMAND_BEFORE = re.compile(r"\\([A-Za-z]+) *$")
LEADS_TEXT = """
    therefore because implies iff Rightarrow rightarrow Longrightarrow longrightarrow to approx equiv item par so
    large Large LARGE huge Huge bf boldsymbol newline colon hfill noindent
"""
LEADS = set(LEADS_TEXT.split())
SYMBOLS = "[−±∓×÷·√∛∑∏∫½¼¾⅓⅔²³¹⁰-₉′″¬≠≤≥∞\u0370-\u03ff]"
SIGN_BEFORE = re.compile(rf"(?:(?:^|[^-])-|[+/^_]|{SYMBOLS})\s*$")  # also at the end of a line
PRODUCT_BEFORE = re.compile(
    r"[0-9A-Za-z}\])!%'|]$|(?:^|[^-])-\s*$|[+/^_|<({\[]\s*$|(?:^|[^=-])>\s*$|\*\s*$|[!<>]=\s*$"
    r"|[0-9}]\s+$|(?:^|[^A-Za-z\\'’])[B-HJ-Zb-z]\s+$|(?:^|[^A-Za-z])[.]$|[0-9],$"
)
CHOICE = re.compile(r"(?:^|[\s{])\(?[A-E]\)\s*$")
FOLLOWS_TEXT = """
    text textbf textrm textit mbox mathrm pmod quad qquad end qed blacksquare square Box implies Rightarrow
    therefore approx equiv boxed fbox label tag newline par item hspace vspace degree hfill
"""
FOLLOWS = set(FOLLOWS_TEXT.split())
PRODUCT_AFTER = re.compile(
    r"[0-9A-Za-z{(\[!%^_|/'@#]|\\[%{|!]|[.,][0-9]|[ \t]+(?:[0-9!%^_/+]|[B-HJ-Zb-z](?![A-Za-z0-9'’.)]))|[ \t]*[+/*×·÷]"
    r"|[ \t]*-[ \t]*(?:[0-9\\({]|[A-Za-z](?![A-Za-z]))|[ \t]*\\%"
)


def is_part(before: str, after: str) -> bool:
    """Whether the characters beside a box make it part of an expression, as in ``2\\boxed{5}``."""
    before, after = FONT.sub(r" \1 ", GROUPS.sub("\n", before[-NEAR:])), after[:NEAR]
    while True:
        before, after = (re.sub(r"[ \t]+$", " ", before), after)
        bare, rest = re.sub(rf"(?:{SPACES.pattern})$", "", before), SPACES.sub("", after, count=1)
        rest = rest if SPACES.match(after) else after
        for left, right in (*WRAPS.items(), ("*", "*"), ("\\{", "\\}")):
            if left != "\\{" and bare.endswith(left) and not bare.endswith("\\" + left) and rest.startswith(right):
                before, after = FONT_BEFORE.sub("", bare.removesuffix(left)), rest.removeprefix(right)
                break
        else:
            break
    return part_before(before, bare) or part_after(after)


def part_before(before: str, bare: str) -> bool:
    if bare.endswith("**") and bare[bare.rfind("\n") + 1 :].count("**") % 2 == 0:  # bold words in front
        before = bare = bare.removesuffix("**") + " "
    if SIGN_BEFORE.search(bare):
        return True
    if BORDER_BEFORE.search(bare) or CHOICE.search(before):
        return False
    if re.search(r"(?:^|\n)\s*[*>#]+\s*$", before):  # a list, a quotation, a heading
        return False
    if command := COMMAND_BEFORE.search(bare):
        return command[1] not in LEADS
    spaced = bare + (" " if bare != before else "")
    return PRODUCT_BEFORE.search(spaced) is not None


def part_after(after: str) -> bool:
    if DEGREES.match(after):
        return False
    after = SPACES.sub(" ", after, count=1) if SPACES.match(after) else after
    if font := FONT.match(after.lstrip()):
        inner = font[1].strip(" .")
        return len(inner) == 1 and not known_unit(inner)
    if command := re.match(r"\s*\\([A-Za-z]+)", after):
        return command[1] not in FOLLOWS
    return PRODUCT_AFTER.match(after) is not None or re.match(rf"\s*(?:[\^_]|{SYMBOLS})", after) is not None
