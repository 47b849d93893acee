r"""LaTeX answers as tokens, made once at the entry: every later rule works on tokens, never on text.

A token is a number ("1.5"), a run of letters, a command (``\frac``) or one sign.  Blanks are a property of the token
that follows them.  Spacing and size commands vanish, other spellings of a sign become one, ``\text`` and font groups
leave their font on their tokens.  Row breaks ``\\`` stay.  Linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

MAX_DEPTH = 30  # of nested braces and brackets
MAX_TEXT_DEPTH = 5  # of nested \text
# In this order: command, escaped sign, ``**``, number, abbreviation with full stops (p.m.), letters, blanks, any sign.
RAW = re.compile(
    r"\\[A-Za-z]+|\\.|\*\*|[0-9]+\.?[0-9]*|\.[0-9]+|[A-Za-z](?:\.[A-Za-z])+(?![A-Za-z])\.?|[A-Za-z]+|\s+|.", re.DOTALL
)
SIZES = {
    *("\\left", "\\right", "\\middle", "\\big", "\\Big", "\\bigg", "\\Bigg", "\\bigl", "\\bigr", "\\Bigl", "\\Bigr"),
    *("\\biggl", "\\biggr", "\\Biggl", "\\Biggr"),
}
DELIMITERS = {
    *("(", ")", "[", "]", "|", ".", "/", "<", ">", "\\{", "\\}", "\\langle", "\\rangle", "\\lbrace", "\\rbrace"),
    *("\\lvert", "\\rvert", "\\vert", "\\lfloor", "\\rfloor", "\\lceil", "\\rceil", "\\lparen", "\\rparen", "\\mid"),
}
DROPPED = {"\\!", "\\displaystyle", "\\textstyle", "\\limits", "\\(", "\\)", "\\[", "\\]"}
DISPLAYS = {"\\(": "\\)", "\\[": "\\]"}
BLANKS = {"\\,", "\\;", "\\:", "\\ ", "\\>", "\\quad", "\\qquad", "\\enspace", "\\thinspace", "\\\n", "\\\t", "\u00a0"}
TEXT_FONTS = {"\\text", "\\textbf", "\\textrm", "\\textit", "\\textsf", "\\texttt", "\\textnormal", "\\mbox", "\\hbox"}
MATH_FONTS = {"\\mathrm", "\\mathit", "\\mathsf", "\\mathtt", "\\mathnormal", "\\operatorname"}
BOLD_FONTS = {"\\mathbf", "\\boldsymbol", "\\bm", "\\vec"}
FONTS = dict.fromkeys(TEXT_FONTS, "text") | dict.fromkeys(MATH_FONTS, "math") | dict.fromkeys(BOLD_FONTS, "bold")
SPELLINGS = {
    **dict.fromkeys(("\\dfrac", "\\tfrac", "\\cfrac"), "\\frac"),
    **dict.fromkeys(("\\dbinom", "\\tbinom"), "\\binom"),
    **dict.fromkeys(("\\times", "*", "\u00d7", "\u22c5", "\u00b7", "\\ast"), "\\cdot"),
    "**": "^",
    **dict.fromkeys(("\\div", "\u00f7"), "/"),
    **dict.fromkeys(("\\leq", "\\leqslant", "\u2264"), "\\le"),
    **dict.fromkeys(("\\geq", "\\geqslant", "\u2265"), "\\ge"),
    **dict.fromkeys(("\\neq", "\u2260"), "\\ne"),
    **dict.fromkeys(("\\lbrace",), "\\{"),
    **dict.fromkeys(("\\rbrace",), "\\}"),
    **dict.fromkeys(("\\lvert", "\\rvert", "\\vert"), "|"),
    **dict.fromkeys(("\\lparen",), "("),
    **dict.fromkeys(("\\rparen",), ")"),
    **dict.fromkeys(("\\varnothing", "\u2205"), "\\emptyset"),
    **dict.fromkeys(("\\backslash",), "\\setminus"),
    **dict.fromkeys(("\u00b0", "\\degree"), "\\degree"),
    **dict.fromkeys(("\\dots", "\\cdots", "\u2026"), "\\ldots"),
    **{"\\varphi": "\\phi", "\\varepsilon": "\\epsilon", "\\vartheta": "\\theta", "\\colon": ":"},
    **{"\\lt": "<", "\\gt": ">", "\\%": "%", "\\$": "dollar", "\\&": "&amp", "\\_": "_", "\\#": "#"},
    **{"\u2212": "-", "\u03c0": "\\pi", "\u221e": "\\infty", "\u222a": "\\cup", "\u2229": "\\cap", "\u2208": "\\in"},
    **{"\u221a": "\\surd", "\u00b1": "\\pm", "\u03b8": "\\theta", "\u00a3": "\\pounds", "\u20ac": "\\euro"},
    **{"\u00a2": "\\cent", "\u2019": "'"},
}
SUPERSCRIPTS = {"\u00b2": "2", "\u00b3": "3"}
OPERAND_ENDS = {")", "}", "]", ",", "%", "\\pi", "\\degree"}
OPENING, CLOSING = {"{", "(", "[", "\\{"}, {"}", ")", "]", "\\}"}


class UnreadableError(ValueError):
    """The text is no answer that can be read; the message says why in a few words."""


@dataclass(frozen=True, slots=True)
class Token:
    """``kind``: "digits", "word", "command" or "sign"; ``font``: "", "text", "math" or "bold"."""

    kind: str
    text: str
    spaced: bool = False  # a blank stands before it
    font: str = ""


def tokens_of(text: str) -> list[Token]:
    """Tokens of a whole answer without dollar signs, outer braces and full stop; UnreadableError if it is malformed."""
    raw = RAW.findall(text)
    check_raw(raw)
    tokens = tokens_from(raw, "", MAX_TEXT_DEPTH)
    if tokens and tokens[-1].text == ".":
        tokens.pop()
    elif tokens and tokens[-1].kind == "digits" and tokens[-1].text.endswith("."):
        tokens[-1] = replace(tokens[-1], text=tokens[-1].text[:-1])
    # Outer braces go only if the first one closes at the very end: {1}{2} has none.
    while len(tokens) > 1 and tokens[0].text == "{" and closing_place(tokens, 0) == len(tokens) - 1:
        tokens = tokens[1:-1]
    if not tokens:
        raise UnreadableError("it is empty")
    return tokens


def check_raw(raw: list[str]) -> None:
    """UnreadableError for characters that no rule knows and for brackets that do not match in number or depth."""
    depth, display = 0, ""
    for text in raw:
        if text in (*DISPLAYS, *DISPLAYS.values()):
            if (text in DISPLAYS) == bool(display) or display not in ("", text):
                raise UnreadableError(f"'{text}' without its partner")
            display = DISPLAYS.get(text, "")
        strange = next((c for c in text if not (c.isascii() and (c.isprintable() or c in "\n\t\r"))), None)
        if strange and text not in SPELLINGS and text not in SUPERSCRIPTS and text not in BLANKS and not text.isspace():
            raise UnreadableError(f"character {strange!a} is not allowed")
        # Brackets of any sort close each other here, for [0, 1) is an interval.
        depth += (text in OPENING) - (text in CLOSING)
        if depth < 0:
            raise UnreadableError("a bracket closes that was never opened")
        if depth > MAX_DEPTH:
            raise UnreadableError("its brackets are nested too deeply")
    if depth or display:
        raise UnreadableError("a bracket is never closed")


def tokens_from(raw: list[str], font: str, depth: int) -> list[Token]:
    """Tokens of raw pieces; those of a font group carry its font."""
    money = raw.count("$") % 2 == 1  # an even number of dollar signs stands around formulas
    tokens: list[Token] = []
    spaced, place = False, 0
    while place < len(raw):
        text, place = raw[place], place + 1
        if text in FONTS:
            inner, place, blank = font_group(raw, place, FONTS[text], depth)
            if inner:
                tokens += [replace(inner[0], spaced=inner[0].spaced or spaced), *inner[1:]]
                spaced = blank
        elif grouped := separator_end(raw, place - 1):
            place = grouped
            tokens.append(Token("sign", "{,}"))
        elif text.isspace() or text in BLANKS or (text == "~" and tilde_is_blank(tokens, raw[place : place + 1], font)):
            spaced = True
        elif text in SIZES:
            place = bracket_place(raw, place)
        elif text in DROPPED or (text == "$" and not money):
            continue
        else:
            for name in spell_tokens(text):
                tokens.append(Token(kind_of(name), name, spaced, font))
                spaced = False
            if text == "\\mathbb":
                place = join_blackboard(raw, place, tokens)
    return join_thousands(join_degrees(tokens))


def bracket_place(raw: list[str], place: int) -> int:
    r"""Place of the bracket that a size command is about, or after it where it is the invisible one, ``\right.``"""
    while place < len(raw) and raw[place].isspace():
        place += 1
    if place == len(raw) or raw[place] not in DELIMITERS:
        raise UnreadableError("a size without its bracket")
    return place + (raw[place] == ".")


def spell_tokens(text: str) -> list[str]:
    """The one spelling of a piece, as texts of tokens."""
    if text in SUPERSCRIPTS:
        return ["^", SUPERSCRIPTS[text]]
    if text == "$":
        return ["dollar"]
    if text[0].isalpha() and "." in text:
        return [text.replace(".", "")]
    name = SPELLINGS.get(text, text)
    return [name] if name else []


def kind_of(text: str) -> str:
    if text[0].isdigit() or (text[0] == "." and len(text) > 1):
        return "digits"
    if text[0].isalpha() and text != "dollar":
        return "word"
    return "command" if text[0] == "\\" and text[1:].isalpha() else "sign"


def tilde_is_blank(before: list[Token], after: list[str], font: str) -> bool:
    """Whether a tilde is a blank: after an operand, or before a word in a font; elsewhere it could be a logical not."""
    if font and after and after[0][0].isalpha():
        return True
    return bool(before) and (before[-1].kind in ("digits", "word") or before[-1].text in OPERAND_ENDS)


def font_group(raw: list[str], place: int, font: str, depth: int) -> tuple[list[Token], int, bool]:
    """Tokens of the braces after a font command, the place after them, and whether they end in a blank."""
    while place < len(raw) and raw[place].isspace():
        place += 1
    if place == len(raw) or depth == 0:
        raise UnreadableError("a font command without its group")
    if raw[place] != "{":  # \mathbf x
        if font == "text" or not raw[place].isalnum():
            raise UnreadableError("a font command without its group")
        return tokens_from([raw[place]], font, depth - 1), place + 1, False
    end, level = place, 0
    while True:
        level += (raw[end] == "{") - (raw[end] == "}")
        if level == 0:
            break
        end += 1
        if end == len(raw):
            raise UnreadableError("a bracket is never closed")
    inner = raw[place + 1 : end]
    return tokens_from(inner, font, depth - 1), end + 1, bool(inner) and inner[-1].isspace()


def join_blackboard(raw: list[str], place: int, tokens: list[Token]) -> int:
    r"""Joins ``\mathbb{R}`` to one token; the place after it."""
    rest = [text for text in raw[place : place + 6] if not text.isspace()]
    letter = rest[1:3] if rest[:1] == ["{"] else [*rest[:1], "}"]
    if len(letter) < 2 or letter[1] != "}" or len(letter[0]) != 1:
        raise UnreadableError("\\mathbb without a letter")
    tokens[-1] = replace(tokens[-1], text="\\mathbb " + letter[0])
    # Blanks may stand between the pieces.
    while raw[place] != letter[0]:
        place += 1
    return place + 1 + (rest[0] == "{")


def separator_end(raw: list[str], place: int) -> int:
    r"""Place after a separator of thousands in braces, with ``\!`` or as a thin blank; 0 if there is none here."""
    if raw[place : place + 3] == ["{", ",", "}"]:
        return place + 3
    if raw[place] == ",":
        after = place + 1
        while after < len(raw) and raw[after].isspace():
            after += 1
        if after < len(raw) and raw[after] == "\\!":
            after += 1
            while after < len(raw) and raw[after].isspace():
                after += 1
            return after
    if raw[place] == "\\," and place and re.fullmatch("[0-9]{1,3}", raw[place - 1]):
        return place + 1 if re.fullmatch(r"[0-9]{3}(?:\.[0-9]+)?", "".join(raw[place + 1 : place + 2])) else 0
    return 0


def join_thousands(tokens: list[Token]) -> list[Token]:
    """Joins the groups of three digits between explicit separators; UnreadableError where they are no such groups."""
    joined: list[Token] = []
    place = 0
    while place < len(tokens):
        token, place = tokens[place], place + 1
        if token.text == "{,}":
            before, after = joined[-1] if joined else token, tokens[place] if place < len(tokens) else token
            if not re.fullmatch("[1-9][0-9]{0,2}(?:[0-9]{3})*", before.text) or not re.fullmatch(
                r"[0-9]{3}(?:\.[0-9]*)?", after.text
            ):
                raise UnreadableError("a separator of thousands in the wrong place")
            joined[-1] = replace(before, text=before.text + after.text)
            place += 1
        else:
            joined.append(token)
    return joined


def join_degrees(tokens: list[Token]) -> list[Token]:
    r"""``^\circ`` and ``^{\circ}`` as one token."""
    joined: list[Token] = []
    texts = [token.text for token in tokens]
    place = 0
    while place < len(tokens):
        width = 2 if texts[place : place + 2] in (["^", "\\circ"], ["^", "\\degree"]) else 1
        if texts[place : place + 4] in (["^", "{", "\\circ", "}"], ["^", "{", "\\degree", "}"]):
            width = 4
        joined.append(tokens[place] if width == 1 else replace(tokens[place], kind="command", text="\\degree"))
        place += width
    return joined


def closing_place(tokens: list[Token], place: int) -> int:
    """Place of the bracket of any sort that closes the one at ``place``: intervals may be half open."""
    level = 0
    for end in range(place, len(tokens)):
        level += (tokens[end].text in OPENING) - (tokens[end].text in CLOSING)
        if level == 0:
            return end
    raise UnreadableError("a bracket is never closed")


def depth_change(token: Token) -> int:
    """How a token changes the depth of brackets and environments."""
    return (token.text in OPENING or token.text in ("\\begin", "\\langle")) - (
        token.text in CLOSING or token.text in ("\\end", "\\rangle")
    )


def split_at(tokens: list[Token], is_border: Callable[[Token], bool]) -> tuple[list[list[Token]], list[Token]]:
    """The parts between the borders outside of brackets, and the borders."""
    parts: list[list[Token]] = [[]]
    borders, depth = [], 0
    for token in tokens:
        depth += depth_change(token)
        if depth == 0 and is_border(token):
            parts.append([])
            borders.append(token)
        else:
            parts[-1].append(token)
    return parts, borders
