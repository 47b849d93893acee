"""Rows of the MATH family: what is read, how it is cut into steps, and every row of the data set where there is one."""

import json

import numpy as np
import pandas as pd
import pytest

from bench.types import UserError
from tasks import common
from tasks._math.compare import compare_answers
from tasks._math.rows import solution_pieces
from tasks.math_ import TASK
from tests.tasks.samples import DATA

REAL_DATA = DATA / "math_levels_3_to_5.parquet"
SOLUTION = "We factor $x^2-1$. Then $x = 1.5$ fails.\n\nHence the sum is $\\boxed{\\frac{1}{2}}$. This is all."


def hendrycks(**changes):
    row = {"problem": "Find  the\nsum.", "solution": SOLUTION, "level": "Level 4", "type": "Algebra"}
    return {k: v for k, v in (row | changes).items() if v is not None}


def verl(**changes):
    hint = ["First $1+1=2$.\n", "\n", "So $\\boxed{2}$ it is.", " Done."]
    row = {
        "level": "Level 3",
        "type": "Prealgebra",
        "hint": np.array(hint, dtype=object),
        "question": "User: what is 1+1?\nAssistant: <think> ",
        "answer": "".join(hint) + " </think>\n<answer> 2 </answer>",
        "reward_model": {"ground_truth": {"question": "What is 1+1?", "target": "2"}, "style": "rule"},
    }
    return row | changes


def test_a_hendrycks_row():
    problem = TASK.from_row(hendrycks())
    assert (problem["answer"], problem["level"], problem["subject"]) == ("\\frac{1}{2}", 4, "Algebra")
    assert json.loads(json.dumps(problem)) == problem
    shown = TASK.demonstrate(problem, "plain")
    assert shown.steps == ("We factor $x^2-1$. ", "Then $x = 1.5$ fails.\n\n")
    assert shown.ending.startswith("Hence the sum is $\\boxed{") and shown.text.startswith(SOLUTION + " </think>\n")
    assert shown.text.endswith("<answer> \\boxed{\\frac{1}{2}} </answer>")
    assert TASK.key(problem) == "text:Find the sum." == TASK.key(TASK.from_row(hendrycks(problem=" Find the sum. ")))
    assert TASK.prompt(problem, "compact") == "math Find  the\nsum.\n"
    assert "User: Find  the\nsum. Put the reasoning" in TASK.prompt(problem, "plain")


def test_a_verl_row_keeps_its_texts_and_pieces():
    problem = TASK.from_row(verl())
    assert (problem["answer"], problem["level"], problem["subject"]) == ("2", 3, "Prealgebra")
    shown = TASK.demonstrate(problem, "plain")
    assert shown.text == verl()["answer"] and TASK.prompt(problem, "plain") == verl()["question"]
    assert shown.steps == ("First $1+1=2$.\n", "\n") and shown.ending.startswith("So $\\boxed{2}$")
    assert TASK.prompt(problem, "chat").startswith("What is 1+1? Put the")
    assert TASK.demonstrate(problem, "chat").text == "<think> " + verl()["answer"]
    assert TASK.key(problem) == "text:What is 1+1?"
    compact = TASK.demonstrate(problem, "compact")
    assert compact.text == "First $1+1=2$.\n\nSo $\\boxed{2}$ it is. Done.\n<answer>\\boxed{2}</answer>"


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        (hendrycks(solution="It is $\\boxed{3}$, or rather $\\boxed{\\{4, \\sqrt{5}\\}}$."), "\\{4, \\sqrt{5}\\}"),
        (hendrycks(solution="It is four.", answer="4"), "4"),
        (hendrycks(answer="5"), "\\frac{1}{2}"),
        (verl(reward_model={"ground_truth": "2"}), "2"),
        (verl(reward_model={"style": "rule"}), "2"),
        (verl(hint=None), "2"),
        (verl(hint=["other"]), "2"),
        (verl(answer="It is two."), "2"),
    ],
)
def test_other_ways_to_state_the_answer(row, answer):
    problem = TASK.from_row(row)
    assert problem["answer"] == answer
    for template in TASK.templates:
        shown = TASK.demonstrate(problem, template)
        assert TASK.verify(problem, shown.text).correct and "\\boxed" not in "".join(shown.steps)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "column 'problem' is missing"),
        (hendrycks(problem=3), "column 'problem' is not a text"),
        (hendrycks(solution=None), "column 'solution' is missing"),
        (hendrycks(solution="It is 4."), "column 'solution' has no readable"),
        (hendrycks(solution="It is $\\boxed{4."), "column 'solution' has no readable"),
        (hendrycks(solution="It is $\\boxed{}$."), "column 'solution' has no readable"),
        (hendrycks(solution="It is $\\boxed{(4}$."), "column 'solution': unreadable gold answer: a bracket"),
        (hendrycks(solution="It is four.", answer="\u0664"), "column 'answer': unreadable gold answer: character"),
        (hendrycks(solution="It is $\\boxed{" + "4" * 2000 + "}$."), "longer than 1000 characters"),
        (verl(answer=None), "column 'answer' is missing"),
        (verl(hint="First"), "column 'hint' must be a list"),
        (verl(reward_model={}, answer="It is 2. </think>\n<answer> 2 </answer>", hint=None), "no 'ground_truth'"),
        (verl(reward_model={"ground_truth": {"target": "(2"}}), "column 'reward_model': unreadable gold answer"),
    ],
)
def test_broken_rows_name_their_column(row, message):
    with pytest.raises(ValueError, match=message):
        TASK.from_row(row)


@pytest.mark.parametrize(
    "text", ["", "\n", "a", "One. Two", "See $x=1.5$. Next? Yes!\n\nEnd.\n", "\\[1\\]\n. . .", SOLUTION]
)
def test_pieces_hold_the_whole_solution(text):
    assert "".join(solution_pieces(text)) == text and all(solution_pieces(text))


def test_no_box_is_shown_by_a_prefix():
    """A single piece is cut before its box; a solution that begins with its box has no steps."""
    problem = TASK.from_row(hendrycks(solution="So $1+1=\\boxed{2}$ holds."))
    assert problem["steps"] == ["So $1+1="] and problem["ending"].startswith("\\boxed{2}$ holds. </think>")
    problem = TASK.from_row(hendrycks(solution="$\\boxed{2}$ holds."))
    assert (
        "".join(problem["steps"]) + problem["ending"] == "$\\boxed{2}$ holds. </think>\n<answer> \\boxed{2} </answer>"
    )
    problem = TASK.from_row(hendrycks(solution="\\boxed{2} holds."))
    assert problem["steps"] == [] and TASK.verify(problem, TASK.demonstrate(problem, "chat").text).correct


def test_verdicts_on_a_row():
    problem = TASK.from_row(hendrycks())
    for text in ("<answer>0.5</answer>", "\\boxed{\\frac12}", "<answer> $\\boxed{2/4}$ </answer>"):
        assert TASK.verify(problem, text).reward == 1.0
    wrong = TASK.verify(problem, "\\boxed{2}")
    assert (wrong.correct, wrong.reward) == (False, 0.1) and wrong.reason == "number: answered 2, expected \\frac{1}{2}"
    assert TASK.verify(problem, "the answer is 0.5").reward == 0.0
    computed = TASK.verify(problem, "\\boxed{2^{-1}}")
    assert computed.correct and computed.reason == "correct (number: equal)"


def test_chance_and_practice():
    problem = TASK.from_row(verl())
    assert TASK.chance(problem) == 1 / 21 and TASK.chance(TASK.from_row(hendrycks())) == 0
    import random

    rng = random.Random(1)
    hits = sum(TASK.verify(problem, TASK.practice(rng, problem)).correct for _ in range(4000))
    assert hits / 4000 == pytest.approx(1 / 21, abs=0.01)


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_rows_from_a_file(tmp_path, suffix):
    rows = [hendrycks(problem=f"What is {i}?", solution=f"Think. It is $\\boxed{{{i}}}$.") for i in range(40)]
    path = tmp_path / f"data.{suffix}"
    if suffix == "parquet":
        pd.DataFrame([*rows, rows[0]]).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    found = common.from_file(TASK, path, "plain")
    assert sum(map(len, found.values())) == 40 and found["train"] and found["test"]
    path = tmp_path / "broken.jsonl"
    path.write_text(json.dumps(rows[0]) + "\n" + json.dumps({**rows[1], "solution": "no box"}) + "\n")
    with pytest.raises(UserError, match=r"row 1 \(counted from 0\): column 'solution' has no readable"):
        common.from_file(TASK, path, "plain")


@pytest.mark.skipif(not REAL_DATA.exists(), reason="the data set is not on this machine")
def test_every_real_row():
    """The given solution passes in every template, the next row's answer fails unless it is equal: docs/log.md."""
    rows = common.read_rows(REAL_DATA)
    found = [TASK.from_row(row) for row in rows]
    for row, problem in zip(rows, found):
        shown = TASK.demonstrate(problem, "plain")
        assert shown.text == row["answer"] and TASK.prompt(problem, "plain") == row["question"]
        assert shown.steps and "\\boxed" not in "".join(shown.steps) and problem["level"] in (3, 4, 5)
        for template in TASK.templates:
            assert TASK.verify(problem, TASK.demonstrate(problem, template).text).correct
    equal = set()
    for place, problem in enumerate(found):
        other = TASK.demonstrate(found[(place + 1) % len(found)], "plain").text
        if TASK.verify(problem, other).correct:
            equal.add(place)
    assert len(found) == 512 and equal == {11, 250, 272, 279, 387, 468, 502}


EQUAL_GOLDS = (  # checked by hand: one value in two spellings, or with its unit and without
    *(
        ("0.6", "\\frac{3}{5}"),
        ("10", "10^\\circ"),
        ("100", "100^\\circ"),
        ("12", "12\\text{ degrees}"),
        ("-1", "x = -1"),
    ),
    *(("120", "120^\\circ"), ("162", "162\\text{ minutes}"), ("17", "17\\text{ meters}"), ("30", "30^\\circ")),
    *(("36", "36^\\circ"), ("36", "\\$36"), ("4", "\\$4"), ("52", "52^\\circ"), ("6", "\\$6"), ("60", "60^\\circ")),
    *(
        ("\\frac{3}{4}", "75\\%"),
        ("9", "9 \\text{ multiples}"),
        ("90", "90\\text{ square\nunits}"),
        ("90", "90^\\circ"),
    ),
    *(("\\dfrac{1}{6}", "\\frac{1}{6}"), ("\\frac32", "\\frac{3}{2}")),
)


@pytest.mark.slow
@pytest.mark.skipif(not REAL_DATA.exists(), reason="the data set is not on this machine")
def test_no_gold_answer_accepts_another_one():
    """Every pair of different gold answers, either way; a per cent sign may be left out, but not be added."""
    golds = sorted({TASK.from_row(row)["answer"] for row in common.read_rows(REAL_DATA)})
    accepted = {(a, b) for a in golds for b in golds if a != b and compare_answers(a, b)[0]}
    assert len(golds) == 347
    assert accepted == {*EQUAL_GOLDS, *((b, a) for a, b in EQUAL_GOLDS), ("75\\%", "75")}
