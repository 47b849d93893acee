import itertools
import random

import pytest

from tasks._logic.text import compact_claim
from tasks.logic import TASK
from tests.helpers.timing import timed
from tests.tasks.samples import draw, num_tokens

LEVELS = ("2", "3", "4")  # those of the embedded model; the others are in test_logic_words.py
PROBLEM = {
    "names": ["A", "B", "C"],
    "statements": [
        ["implies", ["knight", 1], ["knave", 2]],
        ["or", ["knight", 0], ["knight", 2]],
        ["knight", 1],
    ],
    "solution": [False, True, True],
}
HOSTILE = (
    "",
    "<answer></answer>",
    "</answer><answer>",
    "<answer>" * 50_000,
    "<answer>" + "A knight," * 200_000 + "</answer>",
    "<answer>" + "A " * 100 + "</answer>",
    "<answer>" + "(1)" * 60 + "</answer>",
    "<answer>A" + " " * 198 + "</answer>",
    "<answer>" + "," * 200 + "</answer>",
    "<answer>A knave,B knight,C knight,D knight</answer>",
    "<answer>A knave,A knight,B knight,C knight</answer>",
    "<answer>A knave or A knight,B knight,C knight</answer>",
    "<answer>\u0410 knave,B knight,C knight</answer>",
    "<answer>\x00\ud800</answer>",
    "<answer>{}{0.__class__}%s 9**9**9</answer>",
)


def truth(claim: str, kinds: dict[str, str]) -> bool:
    """Independent reading of a claim as it stands in the prompt."""
    for connective in (" and ", " or ", " iff ", " xor ", " implies "):
        if connective in claim:
            left, right = (truth(part, kinds) for part in claim.split(connective))
            table = {"and": left and right, "or": left or right, "iff": left == right, "xor": left != right}
            return table.get(connective.strip(), right or not left)
    name, kind = claim.split(" ")
    return kinds[name] == kind


def brute_force(prompt: str) -> list[dict[str, str]]:
    """All consistent assignments, from the prompt alone."""
    claims = dict(part.split(":") for part in prompt.removeprefix("logic ").removesuffix(":").split(";"))
    found = []
    for kinds in itertools.product(("knight", "knave"), repeat=len(claims)):
        people = dict(zip(claims, kinds))
        if all(truth(claim, people) == (people[name] == "knight") for name, claim in claims.items()):
            found.append(people)
    return found


@pytest.mark.parametrize("level", LEVELS)
def test_demonstrations_verify_and_fit(level):
    rng = random.Random(1)
    for problem in draw(TASK, 2000, level):
        prompt = TASK.prompt(problem, "compact")
        demonstration = TASK.demonstrate(problem, "compact")
        practice = TASK.practice(rng, problem)
        assert TASK.verify(problem, demonstration.text).correct
        assert TASK.verify(problem, practice).reward > 0
        assert all(step.endswith("\n") for step in demonstration.steps)
        assert (prompt + demonstration.text + practice).isascii()
        assert num_tokens(TASK, prompt) + max(num_tokens(TASK, demonstration.text), num_tokens(TASK, practice)) <= 140


@pytest.mark.parametrize("level", LEVELS)
def test_solution_is_unique(level):
    for problem in draw(TASK, 200, level):
        expected = {name: "knight" if kind else "knave" for name, kind in zip(problem["names"], problem["solution"])}
        assert brute_force(TASK.prompt(problem, "compact")) == [expected]


def test_practice_judges_claims_truthfully():
    rng = random.Random(2)
    for problem in draw(TASK, 300, "3"):
        prompt = TASK.prompt(problem, "compact")
        claims = dict(part.split(":") for part in prompt.removeprefix("logic ").removesuffix(":").split(";"))
        *lines, answer = TASK.practice(rng, problem).split("\n")
        kinds = dict(line.split(" ") for line in lines[:3])
        assert lines[3:] == [f"{name} {str(truth(claims[name], kinds)).lower()}" for name in "ABC"]
        assert answer == f"<answer>{','.join(lines[:3])}</answer>"


def test_formats():
    assert TASK.prompt(PROBLEM, "compact") == "logic A:B knight implies C knave;B:A knight or C knight;C:B knight:"
    text = TASK.demonstrate(PROBLEM, "compact").text
    answer = "<answer>A knave,B knight,C knight</answer>"
    assert text == f"A knave\nB knight\nC knight\nA false\nB true\nC true\n{answer}"
    nested = ["not", ["and", ["knave", 0], ["not", ["knight", 1]]]]
    assert compact_claim(nested, "AB") == "not (A knave and (not B knight))"


@pytest.mark.parametrize(
    "answer",
    [
        "A knave,B knight,C knight",
        " C knight, A knave , B knight",
        "\nB knight\nA knave\nC knight\n",
        "(1) A is a knave\n(2) B is a knight\n(3) C is a knight",
        "A is knave; B is knight; C is knight.",
        "A: knave, B: knight and C: knight",
        "- C = Knight.\n- B = Knight.\n\n- A = Knave.",
        "1. A is a knave,\n2. B is a knight,\n3. C is a knight",
        "(3) A is a knave; (1) C is a knight, and B is a knight",
        "knights: B, C; knaves: A",
        "Knave: A\nKnights:\n- C\n- B",
        "knights: C and B\nA knave",
    ],
)
def test_equivalent_answers_pass(answer):
    assert TASK.verify(PROBLEM, f"words <answer>{answer}</answer> more words").correct


@pytest.mark.parametrize(
    "answer",
    [
        "A knave,B knight",
        "A knave,B knight,C knight,C knight",
        "A knave,B knight,C knight,C knave",
        "A knave,B knight,D knight",
        "A knave,B knight,C knight,",
        "A knave B knight C knight",
        "a knave,b knight,c knight",
        "A knave,B knight,C not knave",
        "A knave;B knight;;C knight",
        "knights: B, C",
        "knights: B, C; knaves: A, B",
        "knights: B, C; knaves: none",
        "knights: B, C; knaves: A, none",
        "B, C; knaves: A",
        "B, C knights; A knave",
        "knaves: B knight, C knight, A",
        "B knight, C, knaves: A",
        "knights: B; A knave; C",
        "A is no knave,B knight,C knight",
        "(A) A knave,B knight,C knight",
        "A : : knave,B knight,C knight",
    ],
)
def test_incomplete_or_contradictory_answers_fail(answer):
    verdict = TASK.verify(PROBLEM, f"<answer>{answer}</answer>")
    assert not verdict.correct and verdict.reward == 0.1


def test_only_one_assignment_passes():
    for problem in draw(TASK, 200, "3"):
        passed = [
            list(kinds)
            for kinds in itertools.product((True, False), repeat=3)
            if TASK.verify(problem, TASK.demonstrate(problem | {"solution": kinds}, "compact").text).correct
        ]
        assert passed == [problem["solution"]]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_never_correct(text):
    verdict, seconds = timed(lambda: TASK.verify(PROBLEM, text))
    assert seconds < 0.05
    assert not verdict.correct and verdict.reward in (0.0, 0.1)


def test_key_ignores_names_and_operand_order_only():
    first, second, third = PROBLEM["statements"]
    twin = PROBLEM | {"names": ["X", "Y", "Z"], "statements": [first, ["or", *reversed(second[1:])], third]}
    other = PROBLEM | {"statements": [["implies", *reversed(first[1:])], second, third]}
    assert TASK.key(twin) == TASK.key(PROBLEM) != TASK.key(other)


def test_generation_is_deterministic():
    assert draw(TASK, 50, "3") == draw(TASK, 50, "3")


def test_chance():
    assert [TASK.chance(draw(TASK, 1, level)[0]) for level in LEVELS] == [1 / 4, 1 / 8, 1 / 16]
