"""Properties of the Countdown verifier over many drawn problems; an oracle evaluates with Python's own parser."""

import functools
import random
import re
from fractions import Fraction

import pytest

from tasks.common import FORMAT_REWARD
from tasks.countdown import TASK
from tests.tasks.hostile import check_hostile, hostile, tagged

LEVELS = tuple(TASK.levels)
EACH = 50  # problems per seed
SEEDS = pytest.mark.parametrize(
    "seeds",
    [range(40), pytest.param(range(40, 200), marks=pytest.mark.exhaustive)],
    ids=["2,000 problems", "8,000 more"],
)
TOKEN = re.compile(r"[0-9]+|[-+*/()]")


@functools.cache
def drawn(seed):
    rng = random.Random(seed)
    return [TASK.generate(rng, rng.choice(LEVELS)) for _ in range(EACH)]


def problems_of(seeds):
    """Every problem, with the random numbers for its answer."""
    for seed in seeds:
        rng = random.Random(f"answers {seed}")
        for problem in drawn(seed):
            yield rng, problem


def oracle(problem, text):
    """Whether an expression of numbers and binary operators has the value and the numbers of the problem."""
    if re.search(r"(^|[(+*/-])[+-]", text):
        return False  # a sign is no binary operator
    used = sorted(map(int, re.findall("[0-9]+", text)))
    try:
        value = eval(re.sub("([0-9]+)", r"Fraction(\1)", text), {"Fraction": Fraction})
    except (SyntaxError, TypeError, ZeroDivisionError):
        return False
    return used == sorted(problem["numbers"]) and value == problem["target"]


def mutated(rng, problem):
    """The solution with a number changed, used twice or dropped, or with an operator or a sign changed."""
    tokens = TOKEN.findall(problem["solution"])
    numbers = [i for i, t in enumerate(tokens) if t.isdigit()]
    operators = [i for i, t in enumerate(tokens) if t in "+-*/"]
    place, kind = rng.choice(numbers), rng.randrange(6)
    if kind == 0:
        tokens[place] = str(max(0, int(tokens[place]) + rng.choice((-10, -1, 1, 2, 10))))
    elif kind == 1:
        tokens[place] = tokens[rng.choice(numbers)]
    elif kind == 2:
        near = min(operators, key=lambda i: abs(i - place))
        tokens = [t for i, t in enumerate(tokens) if i not in (place, near)]
    elif kind == 3:
        tokens[rng.choice(operators)] = rng.choice("+-*/")
    elif kind == 4:
        tokens[place] = "-" + tokens[place]
    else:
        other = rng.choice(numbers)
        tokens[place], tokens[other] = tokens[other], tokens[place]
    return "".join(tokens)


def rewritten(rng, text):
    """The same expression with other white space, more parentheses, or operands exchanged around a lone + or *."""
    tokens = TOKEN.findall(text)
    tokens = [f"({t})" if t.isdigit() and rng.random() < 0.2 else t for t in tokens]
    if rng.random() < 0.3:
        tokens = ["(", *tokens, ")"]
    if len(tokens) == 5 and tokens[1] == tokens[3] in "+*":
        tokens.reverse()
    return rng.choice(("", " ", "\n", " \t", "\r\n")).join(["", *tokens, ""])


@SEEDS
def test_demonstrations_pass(seeds):
    for _, problem in problems_of(seeds):
        for template in TASK.templates:
            verdict = TASK.verify(problem, TASK.demonstrate(problem, template).text)
            assert verdict.correct and verdict.reward == 1, (problem, template, verdict)


@SEEDS
def test_mutations_pass_only_if_the_oracle_says_so(seeds):
    for rng, problem in problems_of(seeds):
        text = mutated(rng, problem)
        verdict = TASK.verify(problem, tagged(text))
        assert verdict.correct == oracle(problem, text), (problem, text, verdict)
        assert verdict.correct or (verdict.reward == FORMAT_REWARD and verdict.reason)


def test_most_mutations_are_wrong_and_some_are_right():
    rng, problems = random.Random(1), drawn(1)
    right = [oracle(p, mutated(rng, p)) for p in problems for _ in range(20)]
    assert 0 < sum(right) < 0.3 * len(right)
    assert all(oracle(p, p["solution"].replace(" ", "")) for p in problems)


@SEEDS
def test_equivalent_forms_pass(seeds):
    for rng, problem in problems_of(seeds):
        text = f"words <answer>{rewritten(rng, problem['solution'])}</answer>{rng.choice(('', chr(10), ' and more'))}"
        assert TASK.verify(problem, text).correct, (problem, text)


def test_2000_hostile_completions_are_refused():
    rng, problems = random.Random(2), drawn(2)
    for problem in problems:
        numbers = [str(n) for n in problem["numbers"]]
        answer = problem["solution"]
        own = (
            "".join(numbers),  # digits joined to one number
            " ".join(numbers),
            answer.replace(numbers[0], numbers[0] + ".0", 1),
            answer.replace(numbers[0], f"{numbers[0]}.5", 1),
            f"{problem['target']}.0",
            f"{answer} = {problem['target'] + 1}",
            f"{answer}#",
            f"{answer}; {answer}",
        )
        check_hostile(TASK, problem, [tagged(text) for text in own])
        check_hostile(TASK, problem, [hostile(rng, answer) for _ in range(40 - len(own))])


def test_the_check_of_hostile_completions_notices_faults():
    problem = {"numbers": [1, 2, 3], "target": 6}
    with pytest.raises(AssertionError):
        check_hostile(TASK, problem, [tagged("1+2+3")])

    class Careless:
        def verify(self, problem, text):
            exec("1")
            return TASK.verify(problem, text)

    with pytest.raises(AssertionError, match="exec"):
        check_hostile(Careless(), problem, [tagged("1")])
