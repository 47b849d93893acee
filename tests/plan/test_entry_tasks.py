"""A task of an installed package: one file and one line of its pyproject.toml, then it runs as the built-in ones do."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from bench.store.run_folder import read_json, read_lines
from tests.helpers.commands import COMMAND, call, model_with_defaults
from tests.plan.test_entry_points import distribution, environment, installed

__all__ = ["installed"]  # a fixture
FILE = '''
"""Sort digits: write the given digits in ascending order."""

from bench.types import Demonstration, Verdict
from tasks.common import last_answer


class Sorting:
    name = "sorting"
    version = 1
    levels = {"4": "4 digits", "6": "6 digits"}
    default_level = "4"
    templates = ("compact",)
    harder = {"4": "6"}

    def generate(self, rng, level):
        return {"digits": "".join(rng.choices("0123456789", k=int(level)))}

    def key(self, problem):
        return problem["digits"]

    def prompt(self, problem, template):
        return f"sort {problem['digits']}:"

    def reword(self, problem, template):
        return f"sort {' '.join(problem['digits'])} up:"

    def demonstrate(self, problem, template):
        found = "".join(sorted(problem["digits"]))
        steps = tuple(f"{digit}\\n" for digit in found)
        return Demonstration(steps, f"<answer>{found}</answer>")

    def verify(self, problem, text):
        answer = last_answer(text)
        if answer is None:
            return Verdict(False, 0.0, "no <answer>...</answer> found")
        if answer != "".join(sorted(problem["digits"])):
            return Verdict(False, 0.1, "not the digits in ascending order")
        return Verdict(True, 1.0, "correct")

    def chance(self, problem):
        return 10.0 ** -len(problem["digits"])

    def practice(self, rng, problem):
        return f"<answer>{problem['digits']}</answer>"

    def from_row(self, row):
        return {"digits": str(row["digits"])}


TASK = Sorting()
'''
SIZES = ("--test-items", 6, "--val-items", 4, "--test-samples", 2, "--ood-items", 4, "--reworded-items", 4)


@pytest.fixture
def package(tmp_path):
    (tmp_path / "other_kit.py").write_text(FILE.lstrip())
    distribution(tmp_path, "sorting-kit", "bench.tasks", {"sorting": "other_kit"})
    return tmp_path


def test_a_new_task_is_shown_with_samples_and_verdicts(package, installed, capsys):
    installed(package)
    assert re.search(r"(?m)^sorting +Sort digits: write", call(capsys, "tasks")[1])
    arguments = ("tasks", "show", "sorting", "--sample", 2, "--split", "ood", "--answer", "1", "--json")
    for entry in json.loads(call(capsys, *arguments)[1]):
        assert re.fullmatch(r"sort \d{6}:", entry["prompt"]) and entry["verdict"]["correct"]
        assert entry["answer_verdict"]["reason"] == "not the digits in ascending order"
    assert "did you mean sorting" in call(capsys, "tasks", "show", "sortng")[2]


@pytest.mark.slow
def test_a_new_task_runs_beside_a_built_in_one(package, tmp_path):
    """As the user does it, in processes of their own: the table, the other tasks, the skills, and where it is from."""
    model, results = model_with_defaults(tmp_path / "small"), tmp_path / "runs"
    arguments = ("run", "--methods", "base,sft", "--task", "countdown,sorting", "--seeds", 1, "--model", model)
    done = subprocess.run(
        [*COMMAND, *map(str, (*arguments, *SIZES, "--other-items", 3, "--skill-items", 3, "--results", results))],
        env=environment(package),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "sorting, level 4, model small" in done.stdout and "All tasks, model small" in done.stdout
    (run,) = results.glob("sft-sorting-small-s0-*")
    assert [e["split"] for e in read_lines(run / "evals.jsonl") if e["split"] not in ("val", "selected")] == [
        *("test", "ood", "reworded", "other:countdown", "other:logic", "other:math", "other:sudoku"),
        *("skill:arithmetic", "skill:copying"),
    ]
    assert read_json(run / "env.json")["tasks"] == {"sorting": {"distribution": "sorting-kit", "version": "1.0"}}
    reasons = {s["reason"] for i in read_lines(run / "items.jsonl") if i["split"] == "test" for s in i["samples"]}
    assert reasons <= {"no <answer>...</answer> found", "not the digits in ascending order", "correct"}
    assert not [r for r in results.glob("*countdown*") if "other:sorting" in (r / "evals.jsonl").read_text()]
