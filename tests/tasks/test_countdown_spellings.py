"""Countdown answers in many spellings: right ones are paid, wrong ones never are."""

import random

import pytest

from tasks.countdown import TASK as COUNTDOWN
from tests.tasks import spellings
from tests.tasks.spelling_checks import SEEDS, check
from tests.tasks.spellings import SIXTEEN


@SEEDS
def test_countdown_spellings_of_right_expressions(seeds):
    for seed in seeds:
        rng = random.Random(f"right {seed}")
        problem, text = spellings.countdown_case(rng)
        check(COUNTDOWN, problem, spellings.countdown_answer(rng, text, problem["target"]), True)


@SEEDS
def test_countdown_spellings_of_wrong_expressions(seeds):
    for seed in seeds:
        rng = random.Random(f"wrong {seed}")
        problem, text = spellings.countdown_case(rng)
        target, numbers, kind = problem["target"], problem["numbers"], rng.randrange(4)
        other = target + rng.choice((1, 2, 10))
        if kind == 0:  # another target, which the answer may claim to reach, or may not
            check(COUNTDOWN, {**problem, "target": other}, spellings.countdown_answer(rng, text, target), False)
            check(COUNTDOWN, {**problem, "target": other}, spellings.countdown_answer(rng, text, other), False)
        elif kind == 1:  # the right expression and another result
            answer = rng.choice(spellings.RESULTS[2:]).format(text, other)
            check(COUNTDOWN, problem, rng.choice(spellings.WRAPPINGS).format(answer), False)
        elif kind == 2:  # a number that is given is not used
            given = [*numbers, rng.randint(1, 30)]
            check(COUNTDOWN, {**problem, "numbers": given}, spellings.countdown_answer(rng, text, target), False)
        else:  # a number is used that is not given
            given = numbers[1:]
            check(COUNTDOWN, {**problem, "numbers": given}, spellings.countdown_answer(rng, text, target), False)


@pytest.mark.parametrize(
    "answer",
    [
        "(1+3)*4 = 4*4 = 16",
        "(1+3)*4 == 16",
        "(1+3)*4 != 16",
        "(1+3)*4 ≠ 16",
        r"(1+3)*4 \neq 16",
        "(1+3)*4 ≈ 16",
        "(1+3)*4 >= 16",
        "(1+3)*4 = 16.0",
        "(1+3)*4 = 16 = 17",
        "(1+3)*4 = 17 - 1",
        "(1+3)*4 =",
        "= 16",
        "16",
        "16 = 16",
        "x = (1+3)*4",
        "1+3=4\n4*4=16",
        "(1+3)*4, (1+3)*4",
        "(1+3)*4 or 1+3+4",
        "(1+3)*4 is wrong",
        r"(1+3)*4 \text{ is wrong}",
        r"\text{not } (1+3)*4",
        "not (1+3)*4",
        "¬((1+3)*4)",
        "(1+3)4",
        "4(1+3)",
        "(1+3)(4)",
        r"4\frac{1+3}{1}",
        r"\frac{4}{1}\cdot 4",
        r"\frac{(1+3)*4}",
        r"\frac12",
        r"\boxed{1+3+4} \boxed{(1+3)*4}",
        r"\boxed{1+3+4}, so \boxed{(1+3)*4}",
        r"1+3+4 \boxed{(1+3)*4}",
        r"\boxed{(1+3)*4",
        r"\boxed{\boxed{}}",
        r"\phantom{(1+3)*4}",
        r"\cancel{(1+3)*4}",
        "~~(1+3)*4~~",
        "(1+3)∗4 = １６",
        "（1+3）*4",
        "(１+3)*4",
        "(1+3)*4²",
        "[1+3]*4",
        "(1+3):4",
        "(1+3)^4",
        "(1+3)**4",
        "```\n(1+3)*4\n```\n```\n1+3+4\n```",
        "Use 1, 3 and 4 to reach 16: (1+3)*4",
        "$(1+3)*4$ and $1+3+4$",
        "```not\n(1+3)*4\n```",
        "0x10",
        "(0x1+3)*4",
        "eval('(1+3)*4')",
    ],
)
def test_countdown_refuses_what_may_mean_something_else(answer):
    check(COUNTDOWN, SIXTEEN, answer, False)


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{(1+3)*4}",  # no tag
        "<answer>(1+3)*4</answer> no: <answer>1+3+4</answer>",  # the last tag counts
        r"<answer>1+3+4</answer> \boxed{(1+3)*4}",
        "(1+3)*4 = 16 <answer></answer>",
    ],
)
def test_only_the_last_tag_is_judged(text):
    assert not COUNTDOWN.verify(SIXTEEN, text).correct
    assert COUNTDOWN.verify(SIXTEEN, text + "<answer>(1+3)*4</answer> 1+3+4 \\boxed{7}").correct
