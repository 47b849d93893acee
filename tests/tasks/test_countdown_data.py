"""Countdown problems from data files in verl's format."""

import json
import random

import numpy as np
import pandas as pd
import pytest

from tasks import common
from tasks.countdown import TASK, plan_of
from tests.tasks.samples import DATA

REAL_DATA = DATA / "countdown_train.parquet"


def verl_row(numbers, target, steps, text, index) -> dict:
    answer = "".join(steps) + f"So {text} </think>\n<answer> {text} </answer>"
    return {
        "target": target,
        "nums": np.array(numbers),
        "data_source": "countdown",
        "prompt": np.array([{"content": f"Reach {target}", "role": "user"}]),
        "hint": np.array([*steps, f"So {text}"], dtype=object),
        "question": f"User: reach {target} from {numbers}\nAssistant: <think> ",
        "answer": answer,
        "ability": "math",
        "reward_model": {"ground_truth": {"numbers": numbers, "target": target}, "style": "rule"},
        "extra_info": {"index": index, "split": "train"},
    }


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_verl_rows_from_a_file(tmp_path, suffix):
    rows = []
    rng = random.Random(11)
    for i in range(60):
        problem = TASK.generate(rng, "3")
        steps = [f"{a} {op} {b} = {c}\n" for a, op, b, c in plan_of(problem["solution"])]
        rows.append(verl_row(problem["numbers"], problem["target"], steps, problem["solution"], i))
    path = tmp_path / f"data.{suffix}"
    if suffix == "parquet":
        pd.DataFrame([*rows, rows[0]]).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(r, default=lambda a: a.tolist()) + "\n" for r in [*rows, rows[0]]))
    splits = common.from_file(TASK, path, "plain")
    found = {int(e.id.rpartition("/")[2]): e for part in splits.values() for e in part}
    assert (
        len(found)
        == sum(map(len, splits.values()))
        == len({TASK.key({"numbers": list(r["nums"]), "target": r["target"]}) for r in rows})
    )
    for i, example in found.items():
        row = rows[i]
        assert example.prompt == row["question"].rstrip(" ") and example.demonstration.text == " " + row["answer"]
        assert example.demonstration.steps == (" " + row["hint"][0], *row["hint"][1:])
        assert example.problem["numbers"] == list(row["nums"]) and json.dumps(example.problem)
        assert TASK.verify(example.problem, example.demonstration.text).correct
    compact = common.from_file(TASK, path, "compact")
    assert compact["train"][0].prompt.startswith("countdown ")
    assert [e.id for e in compact["test"]] == [e.id for e in splits["test"]]
    for split, examples in splits.items():
        places = {common.split_of(TASK.name, TASK.key(e.problem)) for e in examples}
        assert places <= ({"train", "pretrain"} if split == "train" else {split})


def test_rows_without_hints_get_our_own_steps():
    problem = TASK.from_row({"nums": [1, 2, 3], "target": "6", "answer": "<answer>1+2+3</answer>", "hint": None})
    assert problem == {"numbers": [1, 2, 3], "target": 6, "solution": "1+2+3"}
    assert TASK.demonstrate(problem, "plain").steps[:2] == ("1 + 2 = 3\n", "3 + 3 = 6\n")
    mismatch = {"nums": [1, 2, 3], "target": 6, "answer": "<answer>1+2+3</answer>", "hint": ["2 + 1 = 3\n"]}
    assert "steps" not in TASK.from_row(mismatch)


@pytest.mark.skipif(not REAL_DATA.exists(), reason="the data set is not on this machine")
def test_real_rows():
    """Every row's solution passes, another row's fails; duplicates are dropped and no row needs an exception."""
    rows = pd.read_parquet(REAL_DATA).to_dict("records")
    problems = [TASK.from_row(row) for row in rows]
    for row, problem, other in zip(rows, problems, [*problems[1:], problems[0]]):
        shown = TASK.demonstrate(problem, "plain")
        assert shown.text == row["answer"] and shown.steps == tuple(row["hint"])
        assert TASK.prompt(problem, "plain") == row["question"]
        assert TASK.verify(problem, shown.text).correct
        assert not TASK.verify(problem, TASK.demonstrate(other, "plain").text).correct
    assert len(rows) == 10_240 and len({TASK.key(problem) for problem in problems}) == 10_218


@pytest.mark.skipif(not REAL_DATA.exists(), reason="the data set is not on this machine")
def test_real_rows_in_our_own_words():
    """Our own demonstrations pass for every row; 84 rows pass through 0, which our own steps never do."""
    lowest, unsolved = [], []
    for row in pd.read_parquet(REAL_DATA).to_dict("records"):
        problem = TASK.from_row(row)
        for template in ("compact", "chat"):
            assert TASK.verify(problem, TASK.demonstrate(problem, template).text).correct
        lowest.append(min(result for *_, result in plan_of(problem["solution"])))
        if TASK.solutions(problem) == 0:
            unsolved.append(lowest[-1])
    assert min(lowest) == 0 and lowest.count(0) == 84
    assert unsolved == [0] * 39  # such as (15 - 15) * 35 + 53
