r"""Answers: where the answer of a completion is, written numbers, and hand-labelled pairs.

``math_public_pairs.jsonl`` are pairs from public bug reports of other graders, with what they should give.  Those in
``math_pairs.json`` are our own, labelled by hand.  Rules were made with both in view, so the agreement on them is no
estimate of the agreement elsewhere.  ``known`` gives the reason why a verdict differs from its label: such a pair must
go on differing, so that an improvement is noticed.
"""

import json
from fractions import Fraction
from pathlib import Path

import pytest

from tasks._math.compare import compare_answers
from tasks._math.number import Number, read_number, same_number
from tasks._math.text import MAX_ANSWER, answer_of, last_boxed

HERE = Path(__file__).parent
PAIRS = json.loads((HERE / "math_pairs.json").read_text())
PUBLIC = [json.loads(line) for line in (HERE / "math_public_pairs.jsonl").read_text().splitlines()]


def judged(gold, answer):
    """A completion where it has a box, else what stands in the answer tag."""
    try:
        return compare_answers(gold, answer_of(answer if "\\boxed" in answer else f"<answer>{answer}</answer>"))
    except ValueError as error:
        return False, str(error)


def name(pair):
    return f"{pair['gold']}|{pair['answer'][:40]}"


@pytest.mark.parametrize("pair", PUBLIC, ids=name)
def test_public_pairs(pair):
    assert len(PUBLIC) == 230
    equal, reason = judged(pair["gold"], pair["answer"])
    assert reason and equal == pair["equal"], reason


@pytest.mark.parametrize("pair", PAIRS, ids=name)
def test_labelled_pairs(pair):
    equal, reason = judged(pair["gold"], pair["answer"])
    assert reason
    assert equal == (pair["equal"] != ("known" in pair)), reason


@pytest.mark.parametrize("pair", [*PUBLIC, *PAIRS], ids=name)
def test_gold_answers_accept_themselves(pair):
    assert judged(pair["gold"], pair["gold"])[0]


@pytest.mark.parametrize("gold", sorted({pair["gold"] for pair in [*PUBLIC, *PAIRS]}))
def test_gold_answers_accept_their_other_dresses(gold):
    dresses = (
        "${}$",
        "\\({}\\)",
        "\\[ {} \\]",
        " {}\n",
        "{{{}}}",
        "\\displaystyle {}",
        "\\,{}\\!",
        "\\boxed{{{}}}",
        "{}.",
    )
    spellings = [dress.format(gold) for dress in dresses]
    spellings += [gold.replace("\\frac{", "\\dfrac{"), gold.replace("\\left", "").replace("\\right", "")]
    spellings += [gold.replace("pmatrix", "bmatrix"), gold.replace("\\\\", " \\\\ "), gold.replace("-", "\u2212")]
    if "\\" not in gold and "^" not in gold and "$" not in gold and "'" not in gold:
        spellings += [f"\\text{{{gold}}}", f"\\mbox{{{gold}}}", f"\\textbf{{{gold}}}"]
    refused = [text for text in spellings if not judged(gold, text)[0]]
    assert not refused


def test_the_table_is_worth_its_name():
    assert len(PAIRS) >= 350 and len({(p["gold"], p["answer"]) for p in PAIRS}) == len(PAIRS)
    assert 0.3 < sum(p["equal"] for p in PAIRS) / len(PAIRS) < 0.7
    assert sum("known" in p for p in PAIRS) / len(PAIRS) < 0.05
    assert not any("known" in p and not p["equal"] for p in PAIRS), "no known pair lets a wrong answer pass"


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("12", 12, ""),
        ("-1,234,567.5", Fraction(-12345675, 10), ""),
        ("\\frac34", Fraction(3, 4), ""),
        ("-\\dfrac{3}{-4}", Fraction(3, 4), ""),
        ("2 \\frac{1}{3}", Fraction(7, 3), ""),
        ("0.1\\overline{6}", Fraction(1, 6), ""),
        (".\\overline{09}", Fraction(1, 11), ""),
        ("x = 5", 5, ""),
        ("5\\%", 5, "percent"),
        ("\\$ 5.50", Fraction(11, 2), "dollar"),
        ("5^{\\circ}", 5, "degree"),
        ("5 \\text{ square inches}", 5, "inch^2"),
        ("5\\,\\mathrm{cm}^2", 5, "centimeter^2"),
        ("5 feet", 5, "foot"),
    ],
)
def test_numbers(text, value, unit):
    number = read_number(text)
    assert number is not None and (number.value, number.unit) == (value, unit)


@pytest.mark.parametrize(
    "text",
    (
        *(
            "",
            "x",
            "5x",
            "5 x",
            "1/0",
            "\\frac{1}{0}",
            "1//2",
            "1/2/3",
            "1 2",
            "1,2",
            "1,00",
            "2^3",
            "--5",
            "5-",
            "1e5",
        ),
        *("0x10", "1.2.3", "5_1", "101_2", "6:4", "5 or 6", "5 thousand", "\u0665", "nan", "inf", "1\\frac{3}{2}"),
        *("5!", "\\sqrt{4}", "5 m n", "5 wombats", "2+3", "2\\cdot 3", "(1,2)"),
    ),
)
def test_no_numbers(text):
    assert read_number(text) is None


def test_units_may_be_missing_but_not_wrong():
    five = Number(Fraction(5), "meter")
    assert same_number(five, Number(Fraction(5))) and same_number(Number(Fraction(5)), five)
    assert not same_number(five, Number(Fraction(5), "foot")) and not same_number(five, Number(Fraction(6), "meter"))
    assert same_number(Number(Fraction(1, 2)), Number(Fraction(50), "percent"))
    assert not same_number(Number(Fraction(50)), Number(Fraction(50), "percent"))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a <answer> 5 </answer> b", " 5 "),
        ("<answer>4</answer> no, <answer>5</answer>", "5"),
        ("\\boxed{4} <answer>5</answer> \\boxed{6}", "5"),
        ("<answer>It is \\boxed{5}.</answer>", "5"),
        ("<answer>\\boxed{5} = \\boxed{ 5 }</answer>", " 5 "),
        ("<answer>\\boxed{\\boxed{5}}</answer>", "5"),
        ("so \\boxed{4}, no \\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{\\{1,2\\}}", "\\{1,2\\}"),
        ("\\boxed 5", "5"),
        ("\\fbox{5}", "5"),
        ("\\boxed{5", None),
        ("\\boxed{4} and \\boxed{5", None),
        ("\\boxed{4}, as \\boxed was asked for", "4"),
        ("\\boxed{4} \\boxed", "4"),
        ("\\boxed 35", None),
        ("\\boxed{4} \\boxed 35", "4"),
        ("\\boxed", None),
        ("<answer>5", None),
        ("5", None),
    ],
)
def test_where_the_answer_is(text, answer):
    assert answer_of(text) == answer


HARMLESS = (
    "It is \\boxed{5}.",
    "The answer is \\boxed{5}",
    "\\boxed{5}",
    " $\\boxed{5}$ ",
    "\\[\\boxed{5}\\]",
    "$x = \\boxed{5}$",
    "**\\boxed{5}**",
    "\\boxed{\\boxed{5}}",
    "\\boxed{5} = \\boxed{ 5 }",
    "\\text{The answer is }\\boxed{5}",
    "\\boxed{5}, so \\boxed{5}",
    "\\boxed{5} cm",
    "Answer: \\boxed{5}\n",
    "\\displaystyle \\boxed{5}",
    "\\fbox{\\boxed{5}}",
    "\\therefore \\boxed{5}",
    "the number of 6-digit codes is $\\boxed{5}$",
    "It is \\(\\boxed{5}\\).",
    "\\boxed{$\\boxed{5}$}",
    "The answer is:\n\n$$\\boxed{5}$$",
    "Therefore, **the answer is \\boxed{5}.**",
    "(\\boxed{5})",
    "The final answer is $\\boxed{5}$.",
    "Final Answer: \\boxed{5}",
    "**Final Answer:** $\\boxed{5}$",
    "Thus, the answer is \\boxed{5}",
    "Hence $x=\\boxed{5}$.",
    "So we get $y = \\boxed{5}$",
    "We find that $f(3) = \\boxed{5}$.",
    "Therefore, the value of $x$ is $\\boxed{5}$.",
    "The solution to the problem is \\boxed{5}",
    "The solution is x = \\boxed{5}",
    "\\boxed{5} is the answer.",
    "\\boxed{5} is the final answer to this question",
    "$\\boxed{5}$ square feet",
    "$\\boxed{5}\\text{ m}$",
    "\\boxed{5}\\text{ inches}.",
    "\\boxed{5} dollars",
    "\\boxed{5}^\\circ",
    "\\boxed{5} miles per hour is the answer",
    "The area is $\\boxed{5}$ square units.",
    "The total number of ways is \\boxed{5}.",
    "We have an answer of \\boxed{5}",
    "\\[ \\text{So the result equals } \\boxed{5} \\]",
    "there are \\boxed{5} solutions",
    "The answer is equal to \\boxed{5}",
    "I get \\boxed{5}",
)
CHANGED = (
    "-\\boxed{5}",
    "2\\cdot\\boxed{5}",
    "not \\boxed{5}",
    "\\boxed{6\\boxed{5}}",
    "\\boxed{\\boxed{5}6}",
    "\\boxed{5}\\%",
    "\\boxed{5}^2",
    "\\boxed{5}!",
    "\\boxed{5}.5",
    "\\boxed{3},000",
    "2\\boxed{5}",
    "2 \\boxed{5}",
    "\\boxed{5} 2",
    "\\boxed{5}+\\boxed{5}",
    "\\boxed{5}\\boxed{5}",
    "\\sqrt{\\boxed{5}}",
    "\\frac{1}{\\boxed{5}}",
    "\\frac{1}{2}\\boxed{5}",
    "x\\boxed{5}",
    "\\boxed{5}x",
    "- \\boxed{5}",
    "\\ne\\boxed{5}",
    "\\boxed{5} + 1",
    "$-$\\boxed{5}",
    "minus \\boxed{5}",
    "-(\\boxed{5})",
    "\\boxed{5} = 6",
    "(\\boxed{5},6)",
    "2**\\boxed{5}",
    "2**\\boxed{5}**",
    "\\boxed{5} squared",
    "3\\text{ times }\\boxed{5}",
    "\\pm\\boxed{5}",
    "|\\boxed{5}",
    "1/\\boxed{5}",
    "<\\boxed{5}",
    "\\text{not }\\boxed{5}",
    "\\boxed{5} is wrong",
    "\\boxed{5} is not the answer",
    "\\boxed{5}. No, 6.",
    "everything except \\boxed{5}",
    "all but \\boxed{5}",
    "minus: \\boxed{5}",
    *(
        f"\\boxed{{5}} {end}"
        for end in ("pi", "x", "m", "base 6", "halves", "tenths", "dozens", "or more", "percent", "6")
    ),
    *(
        f"\\boxed{{5}} {end}"
        for end in ("degrees below zero", "million", "hundred feet", "is it?", "= x", "more", "(mod 7)")
    ),
    *(f"{start} \\boxed{{5}}" for start in ("twice", "double", "log", "sin", "a third of", "the square of", "about")),
    *(
        f"{start} \\boxed{{5}}"
        for start in ("at least", "the answer is not", "the sum of", "a", "x", "to", "2x =", "of")
    ),
    *(
        f"{start} \\boxed{{5}}"
        for start in ("-x =", "x^2 =", "the number of digits of the answer is", "\\log =", "1 +")
    ),
    *(
        f"{start} \\boxed{{5}}"
        for start in ("the answer is more than", "the wrong answer is", "the answer is (x -", "number of")
    ),
    "\\boxed{5}\\text{ x}",
    "\\boxed{5} per cent",
    "the answer has \\boxed{5} digits",
    "\\boxed{5}\\text{ is wrong}",
    "the answer is .\\boxed{5}",
    "$\\log\\boxed{5}$",
)
ALONE = (  # without a tag
    "The answer is $\\boxed{5}$.",
    "x=\\boxed{5}",
    "$$\\boxed{5}$$",
    "\\[\n\\boxed{5}\n\\]",
    "we get 2 + 3 = \\boxed{5}, as asked.",
    "\\begin{align*} x &= 2 + 3 \\\\ &= \\boxed{5} \\end{align*}",
    "It is 10/2: \\boxed{5}",
    "</think>\\boxed{5}",
    "So \\boxed{5}</think>",
    "It is \\boxed{5} - done.",
    "---\n\\boxed{5}\n---",
    "答案是\\boxed{5}。",
    "**\\boxed{5}**",
    "- so\n\n**Answer:** $\\boxed{5}$ apples",
    "\\textbf{(A)}\\ \\boxed{5}",
    "\\therefore \\boxed{5}",
    "\\boxed{5}^\\circ",
    "\\boxed{5}\\text{ cm}",
    "\\boxed{5}\\text{ m}",
    "$\\boxed{5}$ - that is all",
    "It is \\boxed{5} (since 2 + 3 = 5).",
    "It is $\\boxed{5}$!",
    "$\\text{It is } \\boxed{5} \\pmod{7}$",
    "(\\boxed{5})",
    "$\\mathbf{\\boxed{5}}$",
    "\\color{red}{\\boxed{5}}",
    "$x = 3$ \\boxed{5}",
    "It is 3.\n\\boxed{5}\n6 is too many.",
    "I \\boxed{5}.",
    "\\boxed 5, so.",
    "\\fbox{\\boxed{5}}.",
    "\\boxed{5} I am sure",
)
PARTS = (
    *(
        f"so ${start}\\boxed{{5}}$"
        for start in ("-", "- ", "2", "2 ", "x", "x ", "3\\cdot", "3 \\times ", "1+", "1 + ", "1/", "2^", "x_")
    ),
    *(
        f"so ${start}\\boxed{{5}}$"
        for start in ("\\sqrt", "\\log ", "\\pm", "\\ne ", "\\frac12", "\\frac{1}{2}", "(x+1)", "|", ".", "2.")
    ),
    *(f"so ${start}\\boxed{{5}}$" for start in ("<", "\\le ", "!= ", "3!", "1,", "-\\,", "2\\left")),
    *(
        f"so $\\boxed{{5}}{end}$"
        for end in ("0", "!", "^2", "^{2}", "_6", "x", " x", " 2", "\\%", "%", "\\cdot 2", " + 1", "-1", " - x")
    ),
    *(
        f"so $\\boxed{{5}}{end}$"
        for end in ("/2", ".5", ",000", "\\pi", "\\sqrt{2}", "(x+1)", "\\text{x}", "\\,x", "\\ 2", "{6}")
    ),
    "$\\frac{\\boxed{5}}{2}$",
    "$\\frac{1}{\\boxed{5}}$",
    "$\\sqrt{\\boxed{5}}$",
    "$2{\\boxed{5}}$",
    "$\\boxed{5}\n^2$",
    "$-\n\\boxed{5}$",
    *(f"{sign}\\boxed{{5}}" for sign in "−√½±"),
    *(f"\\boxed{{5}}{sign}" for sign in "²π×′"),
    "$\\frac{1}{2} \\boxed{5}$",
    "$-(\\boxed{5})$",
    "$-\\mathbf{\\boxed{5}}$",
    "$(\\boxed{5},6)$",
    "2**\\boxed{5}**",
    "$-\\fbox{\\boxed{5}}$",
    "$\\fbox{\\boxed{5}}^2$",
    "$\\boxed 5^2$",
    "-\\boxed{5}",
)


@pytest.mark.parametrize("text", ALONE)
def test_the_last_box_without_a_tag(text):
    assert answer_of(text) == "5"


@pytest.mark.parametrize("text", PARTS)
def test_a_box_that_is_part_of_an_expression(text):
    with pytest.raises(ValueError, match="part of an expression"):
        answer_of(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_words_and_punctuation_beside_a_box(text):
    assert answer_of(f"<answer>{text}</answer>").strip() == "5"


@pytest.mark.parametrize("text", CHANGED)
def test_what_changes_a_box_in_the_tag(text):
    with pytest.raises(ValueError, match="beside"):
        answer_of(f"<answer>{text}</answer>")


def test_what_is_in_a_box_around_a_box():
    assert answer_of("so \\boxed{\\boxed{5}}") == "5" and answer_of("\\boxed{ then \\boxed{5}") == "5"
    with pytest.raises(ValueError, match="beside"):
        answer_of("so \\boxed{6\\boxed{5}}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<answer>\\boxed{4} or \\boxed{5}</answer>", "2 different boxed answers"),
        ("<answer>\\boxed{4</answer>", "without its closing brace"),
        ("<answer>" + "5" * (MAX_ANSWER + 1) + "</answer>", "longer than"),
        ("\\boxed{" + "5" * (MAX_ANSWER + 1) + "}", "longer than"),
    ],
)
def test_answers_that_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        answer_of(text)


def test_boxes_are_found_in_megabytes():
    assert last_boxed("x" * 10**6 + "\\boxed{5}" + "y" * 10**6) == "5"
