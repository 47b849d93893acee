"""Countdown problems from data files in verl's format."""

import json
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tasks import common
from tasks.countdown import TASK, plan_of

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "countdown_train.parquet"


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
        assert example.prompt == row["question"] and example.demonstration.text == row["answer"]
        assert example.demonstration.steps == tuple(row["hint"])
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
    for row in common.read_rows(REAL_DATA)[:200]:
        problem = TASK.from_row(row)
        shown = TASK.demonstrate(problem, "plain")
        assert shown.text == row["answer"] and shown.steps == tuple(row["hint"])
        assert TASK.prompt(problem, "plain") == row["question"]
        assert TASK.verify(problem, shown.text).correct
        assert TASK.verify(problem, TASK.demonstrate(problem, "compact").text).correct
