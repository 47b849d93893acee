r"""Whether an answer equals the gold answer: exact numbers and words here, all else by the judge outside this process.

The checks in order: too long or malformed; both numbers, or tuples, intervals, sets and lists of numbers: exact; gold
answers in words: words; another number of parts or other brackets than the gold answer's: wrong; the same text: equal;
the judge.
"""

from __future__ import annotations

import re
from fractions import Fraction

from tasks._math import number as numbers
from tasks._math.judge import JUDGE
from tasks._math.number import Number
from tasks._math.text import MAX_ANSWER, clean_latex
from tasks._math.wording import latex_number

MAX_DEPTH = 30  # of nested braces and brackets
BRACKETS = {"(": ")", "[": "]", "\\{": "\\}"}
CLOSINGS = {end: opening for opening, end in BRACKETS.items()}
TOKEN = re.compile(r"\\[{}]|\\[A-Za-z]+|[\[\](){},]|.", re.DOTALL)
WORDS = re.compile(r"\(?(?:\\text\{([^{}\\]*)\}|([A-Za-z]{3,}(?: [A-Za-z]+)*|[A-Z](?:, ?[A-Z])*))\)?")
LINK = re.compile(r"(?:, ?)?(?:\\text ?\{ ?(?:and|or) ?\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z]))")
UNIT = re.compile(r" ?\\text\{[^{}\\]*\}(?: ?\^ ?\{?[23]\}?)?$")
TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
DEGREES = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?\^\\circ")
DECIMAL = re.compile(r"([0-9]*)\.([0-9]+)")
SLASH = re.compile(r"(?<![\w^/.!)\]}])([0-9]+)/([0-9]+)(?![\w^/.!({\\])")
RELATION = r"(?:=|<|>|\\(?:leq?|geq?|lt|gt)(?![a-z]))"
LETTER = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])")
ALONE = re.compile(rf"[A-Za-z] ?{RELATION}|.*{RELATION} ?[A-Za-z] ?(?:{RELATION}.*)?")
NAMED = re.compile(r"[A-Za-z](?:\([a-z]\))? ?(?:=|\\in(?![a-z])) ?")


def compare_answers(gold: str, answer: str) -> tuple[bool, str]:
    """Whether they are equal, and how that was found: the name of the way, and what was seen."""
    if len(answer) > MAX_ANSWER:
        return False, f"unreadable answer: longer than {MAX_ANSWER} characters"
    gold, answer = clean_latex(gold), clean_latex(answer)
    fault = answer_fault(answer)
    if fault:
        return False, f"unreadable answer: {fault}"
    exact = exact_verdict(gold, answer)
    if exact is not None:
        return exact, f"exact: {'equal' if exact else f'answered {answer[:40]}, expected {gold[:40]}'}"
    if words_of(gold) and not (len(gold) == 1 and not words_of(answer)):
        equal = words_of(gold) == words_of(answer)
        return equal, f"words: {'equal' if equal else f'answered {answer[:40]}, expected {gold[:40]}'}"
    if number := numbers.read_number(gold):
        gold = latex_number(number.value) if not number.name else gold
    gold, answer = LINK.sub(",", gold), LINK.sub(",", answer)
    if gold == answer:
        return True, "same text"
    if form := unsolved_fault(gold, answer) or form_fault(gold, answer):
        return False, f"form: {form}"
    return JUDGE.equal(*(text_for_judge(text) for text in (gold, answer)))


def answer_fault(text: str) -> str:
    """What keeps a text from being an answer at all; empty if nothing does."""
    if not text:
        return "it is empty"
    strange = next((c for c in text if not (c.isascii() and c.isprintable())), None)
    if strange:
        return f"character {strange!a} is not allowed"
    depth = 0
    for token in TOKEN.findall(text):
        depth += (token in ("{", "(", "[")) - (token in ("}", ")", "]"))
        if depth > MAX_DEPTH or depth < 0:
            return "its brackets are nested too deeply" if depth > 0 else "a bracket closes that was never opened"
    return "a bracket is never closed" if depth else ""


def split_parts(text: str) -> tuple[str, list[str], str]:
    """Opening bracket, parts between commas outside of inner brackets, closing bracket; no brackets: empty ones."""
    tokens = TOKEN.findall(text)
    opening = closing = ""
    if tokens and tokens[0] in BRACKETS and tokens[-1] in CLOSINGS and encloses(tokens):
        opening, *tokens, closing = tokens
    parts, depth = [""], 0
    for token in tokens:
        depth += (token in (*BRACKETS, "{")) - (token in (*CLOSINGS, "}"))
        if token == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += token
    return opening, [part.strip() for part in parts], closing


def encloses(tokens: list[str]) -> bool:
    """Whether the first bracket is closed by the last token, of whichever kind: intervals may be half open."""
    depth = 0
    for place, token in enumerate(tokens):
        depth += (token in (*BRACKETS, "{")) - (token in (*CLOSINGS, "}"))
        if depth == 0:
            return place == len(tokens) - 1
    return False


def exact_verdict(gold: str, answer: str) -> bool | None:
    """The verdict where numbers decide, None where they do not."""
    one, two = numbers.read_number(gold), numbers.read_number(answer)
    if one and two:
        return numbers.same_number(one, two)
    (left, golds, right), (begin, answers, end) = split_parts(LINK.sub(",", gold)), split_parts(LINK.sub(",", answer))
    ones, twos = ([numbers.read_number(part) for part in parts] for parts in (golds, answers))
    if (len(golds) == 1 and left != "\\{") or None in ones or None in twos:
        return None
    ordered = left in ("(", "[")
    if len(ones) != len(twos) or (ordered and (left, right) != (begin, end)) or (not ordered and begin in ("(", "[")):
        return False
    return numbers_agree([n for n in ones if n], [n for n in twos if n], ordered)


def numbers_agree(golds: list[Number], answers: list[Number], ordered: bool) -> bool:
    if not ordered:

        def place(number: Number) -> tuple[str, Fraction]:
            return number.name, number.value

        golds, answers = sorted(golds, key=place), sorted(answers, key=place)
    return all(numbers.same_number(one, two) for one, two in zip(golds, answers))


def words_of(text: str) -> list[str]:
    """The words of an answer in words, sorted around commas; none if it is no such answer."""
    match = WORDS.fullmatch(text)
    if match is None or text.startswith("(") != text.endswith(")"):
        return []
    inner = (match.group(1) or match.group(2) or "").casefold().strip("() ")
    return sorted(" ".join(part.split()) for part in re.sub(r"\band\b|\bor\b", ",", inner).split(",") if part.strip())


def unsolved_fault(gold: str, answer: str) -> str:
    """Why an answer is no answer: it may repeat an equation of the question, or its words change its value."""
    odd = next((m for m in numbers.TEXT.finditer(answer) if numbers.NOT_UNITS.search(m.group(1))), None)
    if odd and odd.group() not in gold:
        return f"'{odd.group(1).strip()}' is not understood"
    if len(set(LETTER.findall(gold))) > 1 or not re.search(RELATION, answer):
        return ""
    return "" if all(map(ALONE.match, split_parts(answer)[1])) else "an equation that is not solved"


def form_fault(gold: str, answer: str) -> str:
    """How the number of parts, the brackets or the unit rule out equality; empty if they do not."""
    (left, golds, right), (begin, answers, end) = split_parts(gold), split_parts(answer)
    units = [match.group().strip() for text in (gold, answer) if (match := UNIT.search(text))]
    if len(units) == 2 and numbers.unit_of(units[0]) != numbers.unit_of(units[1]):
        return "another unit than expected"
    if "\\pm" in gold or "\\pm" in answer or re.search(r"[<>]|\\[lg]eq?|\\cup|\\infty|\\in(?![a-z])", gold + answer):
        return ""
    if NAMED.match(gold) or NAMED.match(answer):
        return "" if len(golds) == len(answers) or begin else f"{len(answers)} parts, expected {len(golds)}"
    if len(golds) != len(answers):
        return f"{len(answers)} parts, expected {len(golds)}"
    if len(golds) > 1 and (left, right) != (begin, end) and {left, begin} - {"", "\\{"}:
        return "other brackets than expected"
    return ""


def text_for_judge(text: str) -> str:
    """Units are left out, decimals become fractions; degrees under a trigonometric function become radians.

    The judge rounds decimals and ignores degree signs otherwise.
    """
    text = UNIT.sub("", text) or text
    if TRIGONOMETRIC.search(text):
        text = DEGREES.sub(lambda match: rf"({match.group(1)}\cdot\frac{{\pi}}{{180}})", text)
    text = DECIMAL.sub(lambda match: f"{{{latex_number(Fraction('0' + match.group()))}}}", text)
    return SLASH.sub(r"\\frac{\1}{\2}", text).replace("dollarsign ", "")
