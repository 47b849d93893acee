r"""How answers are read: tokens, commas, notation that is not clear, units, sets, and values within bounds."""

import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from tasks._math.compare import compare_answers, read_answer
from tasks._math.grammar import Parser
from tasks._math.tokens import UnreadableError, tokens_of
from tasks._math.tree import Node, number
from tasks._math.values import MAX_BITS, Effort, Evaluator

# three blanks between two
UNCLEAR = r"""3 5   x2   x 2   )2   (2)3   \frac123   a/bc   1/2/3   x/2y   \sin x/2   \sqrt 23   2^3!   2^{3}^4   3--5
3+-5   --5   5-   +   1\frac{3}{2}   \frac{5}   \frac 1.5 2   |5   \lfloor 5   x_   x'   5'   1,00
1,000,2,000   1;;2   5,   ,5   =5   5=   x=1=1   1<x>2   <3   x<   \ne 5   \in A   (1,2   (,)   (2,2)\cup(1,1)
[1,\infty]\cup[0,0]   (0,1)\cup(0,1)\cap(0,1)   \$5\%   30^\circ\%   \begin{pmatrix}1 2\end{pmatrix}
\begin{pmatrix}1&2\\3\end{pmatrix}   \begin{pmatrix}1   \begin{vmatrix}1\end{vmatrix}
*\begin{pmatrix}1\end{pmatrix}   ~5   ~(5)   \text{~(5)}   19_8   5_{37}   5_   4_{}5   2:   1:2:   :1   \foo
\overline{5}   5\foo   ? 5   5 @ 6   5 | 6   5\\   5&6   \not 5   \sum x   x\to 5   {5   \{5)   5..."""
ROOT = Path(__file__).resolve().parents[2]


def texts(text):
    return [token.text for token in tokens_of(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a \\\\ b", ["a", "\\\\", "b"]),  # the row break is no spacing command
        ("a\\\\-b", ["a", "\\\\", "-", "b"]),
        ("a\\\\ \\ b", ["a", "\\\\", "b"]),
        ("\\left( x \\right)", ["(", "x", ")"]),
        ("$x$", ["x"]),
        ("{{x}}", ["x"]),
        ("\\dfrac12.", ["\\frac", "12"]),
        ("1{,}000{,}000", ["1000000"]),
        ("18,\\!107", ["18107"]),
        ("5\\,000", ["5000"]),
        ("5^\\circ", ["5", "\\degree"]),
        ("5^{ \\circ}", ["5", "\\degree"]),
        ("\\text{10:15 p.m.}", ["10", ":", "15", "pm"]),
        ("x\u00b2\u2212\u03c0", ["x", "^", "2", "-", "\\pi"]),
        ("\\mathbb{R}", ["\\mathbb R"]),
    ],
)
def test_tokens(text, expected):
    assert texts(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "$$",
            "{}",
            "(",
            ")",
            "{",
            "5}",
            "\\left 5",
            "\\middle",
            "\\text",
            "\\text x",
            "\\(5",
            "\\[5\\)",
            "\u0665",
        ),
        *("1{,}00", "1{,}0000", "{,}000", "\\mathbb{RR}", "(" * 31 + "1" + ")" * 31, "\\text{" * 7 + "}" * 7, "5\x00"),
    ],
)
def test_malformed_texts(text):
    with pytest.raises(UnreadableError):
        tokens_of(text)


@pytest.mark.parametrize(
    ("text", "sort", "many"),
    [
        ("5,040", "number", 1),
        ("1,234,567.5", "number", 2),
        ("12,12", "list", 1),
        ("5,40", "list", 1),
        ("1, 000", "list", 1),
        ("1,000, 2,000", "list", 1),
        ("70,110", "number", 2),  # or a list
        ("(100,200)", "tuple", 1),
        ("(1,000)", "number", 1),
        ("\\frac{1,000}{3}", "number", 1),
    ],
)
def test_what_a_comma_means(text, sort, many):
    found = read_answer(text)[1]
    assert (found[0].sort, len(found)) == (sort, many)


@pytest.mark.parametrize("text", re.split("\n|   ", UNCLEAR))
def test_what_is_not_clear_is_refused(text):
    _, found, fault = read_answer(text)
    assert not found and fault
    assert not compare_answers("5", text)[0] and compare_answers("5", text)[1].startswith("unreadable")


def test_a_gold_answer_that_cannot_be_read_accepts_itself_alone():
    assert compare_answers("1, 2, \\ldots, n", "1,2, \\dots, n") == (True, "same text")
    equal, reason = compare_answers("1, 2, \\ldots, n", "1, 2")
    assert not equal and reason.startswith("unreadable gold answer")


@pytest.mark.parametrize(
    "text", ["5\\text{ is wrong}", "5 wombats", "5\\text{ or so}", "5\\text{ not}", "5 per", "5\\text{ m/}"]
)
def test_words_after_a_number_are_units_only_if_they_are(text):
    assert not compare_answers("5", text)[0]


def test_unknown_units_are_compared_as_words():
    gold = "5\\text{ wombats}"
    assert (
        compare_answers(gold, "5")[0]
        and compare_answers(gold, "5 wombats")[0]
        and not compare_answers(gold, "5\\text{ quokkas}")[0]
    )


def calculated(text, **point):
    parser = Parser(tokens_of(text))
    node = parser.group()
    assert parser.place == len(parser.tokens)
    return Evaluator(Effort(), {name: Fraction(value) for name, value in point.items()}, 320, real=bool(point)).value(
        node
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1+2\\cdot 3^2", 19),
        ("-2^2", -4),
        ("2^{-3}", Fraction(1, 8)),
        ("2**10", 1024),
        ("6\\div 4", Fraction(3, 2)),
        ("\\frac12+\\frac{1}{3}", Fraction(5, 6)),
        ("3 1/2", Fraction(7, 2)),
        ("3.2e5", 320_000),
        ("6 x 10^3", 6000),
        ("\\sqrt{16}", 4),
        ("\\sqrt[3]{-27}", -3),
        ("8^{2/3}", 4),
        ("5!", 120),
        ("\\binom{49}{6}", 13_983_816),
        ("|-3|", 3),
        ("\\lfloor 2.7 \\rfloor", 2),
        ("\\lceil 2.1 \\rceil", 3),
        ("\\lfloor \\pi \\rfloor", 3),
        ("{7 \\choose 2}", 21),
        ("{3 \\over 4}", Fraction(3, 4)),
        ("(1+2)(3+4)", 21),
        ("1/3\\cdot 3", 1),
    ],
)
def test_exact_values(text, value):
    assert calculated(text) == value


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("\\pi", "3.14159265358979323846264338327950288419716939937510582097494"),
        ("e", "2.71828182845904523536028747135266249775724709369995957496697"),
        ("\\sqrt2", "1.41421356237309504880168872420969807856967187537694807317668"),
        ("\\ln 2", "0.693147180559945309417232121458176568075500134360255254120680"),
        ("\\sin 1", "0.841470984807896506652502321630298999622563060798371065672752"),
    ],
)
def test_irrational_values_lie_within_their_error(text, digits):
    """The digits are those of OEIS A000796, A001113, A002193, A002162 and A049469."""
    ball = calculated(text)
    assert abs(ball.value - type(ball.value)(digits)) < 1e-57 and ball.error < 1e-90


@pytest.mark.parametrize(
    "text",
    ["9^{9^{9}}", "10^{10^{10}}", "(10^9)!", "3001!", "2^{40000}", "e^{10^9}", "(3000!)^2", "\\binom{10^9}{10^4}"],
)
def test_large_values_are_refused(text):
    with pytest.raises(UnreadableError):
        calculated(text)


def test_effort_is_bounded():
    """A long sum of large fractions ends before it is computed."""
    term = Node("power", (Node("quotient", (number(3), number(7)), depth=2), number(MAX_BITS // 8)), depth=3)
    evaluator = Evaluator(Effort(), {}, 320, real=False)
    with pytest.raises(UnreadableError, match="too long"):
        for _ in range(500):
            evaluator.value(Node("sum", (term, Node("product", (term, term), depth=4)), depth=5))
            evaluator.known.clear()


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("1-\\frac{1}{e^{900}}", "1-\\frac{1}{e^{901}}"),
        ("e^{400}+1", "e^{400}"),
        ("\\sqrt{10^{60}+1}", "10^{30}"),
        ("e^{\\pi\\sqrt{163}}", "262537412640768744"),
        ("\\frac{1}{2004!}", "\\frac{1}{2006!}"),
        ("0", "10^{-300}"),
    ],
)
def test_values_that_agree_in_many_digits_differ(gold, answer):
    assert not compare_answers(gold, answer)[0] and not compare_answers(answer, gold)[0]


def test_exact_answers_import_no_computer_algebra():
    """Generated levels and rational answers work without mpmath; nothing uses sympy."""
    script = """
import random, sys
from tasks.math_ import TASK
for level in TASK.levels:
    problem = TASK.generate(random.Random(1), level)
    for answer in ("1", "\\\\sqrt{2}", "x+1", "9**9**9"):
        TASK.verify(problem, f"<answer>{answer}</answer>")
row = TASK.from_row({"problem": "p", "solution": "It is $\\\\boxed{12}$."})
assert TASK.verify(row, "\\\\boxed{12.0}").correct and not TASK.verify(row, "\\\\boxed{13}").correct
print({"mpmath", "sympy"} & set(sys.modules))
assert not TASK.verify(row, "\\\\boxed{\\\\sqrt{2}}").correct
print({"mpmath", "sympy"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n{'mpmath'}\n", done.stderr
