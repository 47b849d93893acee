"""Harder levels and reworded prompts of every task: they exist, keep the problem, and share nothing with training."""

from __future__ import annotations

import ast
import random
import re

import pytest

from bench.plan import registry
from bench.types import UserError
from tasks import common
from tasks._logic.claims import KINDS

TASKS = [registry.task(name) for name in registry.built_in("tasks")]
PAIRS = [(task, level) for task in TASKS for level in task.harder]
DRAWN_QUICKLY = {  # levels whose problems take milliseconds
    "countdown": ("3", "3to4"),
    "sudoku": ("4x4-easy", "4x4", "4x4-hard"),
    "logic": ("2", "3", "3to7", "2-nested"),
    "math": ("1", "2", "3", "level-1", "level-4"),
}
QUICK = [(task, level) for task in TASKS for level in DRAWN_QUICKLY[task.name]]
DIGITS = re.compile(r"-?[0-9]+")


def ids(pair: object) -> str:
    return str(getattr(pair, "name", pair))


@pytest.mark.parametrize("task", TASKS, ids=ids)
def test_every_harder_level_exists_and_no_chain_comes_back(task):
    assert task.default_level in task.harder
    for level in task.harder:
        seen = [level]
        while seen[-1] in task.harder:
            seen.append(task.harder[seen[-1]])
            assert seen[-1] in task.levels and seen.count(seen[-1]) == 1, seen
    last = next(level for level in task.levels if level not in task.harder)
    with pytest.raises(UserError, match=f"level '{last}' of task {task.name} has no harder level"):
        common.harder_level(task, last)


@pytest.mark.parametrize(("task", "level"), QUICK, ids=ids)
def test_splits_share_no_problem_by_content(task, level):
    harder = common.harder_level(task, level)
    train = {task.key(e.problem) for e in common.load_examples(task, "train", 40, level, "compact")}
    beyond = {task.key(e.problem) for e in common.load_examples(task, "test", 20, harder, "compact")}
    test = common.load_examples(task, "test", 20, level, "compact")
    reworded = common.reworded(task, test, "compact")
    assert not train & beyond and len(beyond) == 20
    assert not train & {task.key(e.problem) for e in reworded}
    assert {common.split_of(task.name, key) for key in beyond} == {"test"}
    assert [(e.id, e.problem, e.demonstration) for e in reworded] == [(e.id, e.problem, e.demonstration) for e in test]


@pytest.mark.parametrize(("task", "level"), QUICK, ids=ids)
def test_rewording_changes_the_words_and_not_the_answer_format(task, level):
    for template in task.templates:
        for shown in common.load_examples(task, "test", 10, level, template):
            prompt = task.reword(shown.problem, template)
            assert prompt != shown.prompt and prompt == task.reword(shown.problem, template)
            assert task.verify(shown.problem, shown.demonstration.text).correct
            assert prompt.endswith("<think> ") == shown.prompt.endswith("<think>")
            if template != "compact":
                assert all(tag in prompt for tag in ("<think>", "</think>", "<answer>", "</answer>"))
                assert len(set(prompt.split("\n")) & set(shown.prompt.split("\n"))) <= 9, "most lines are new"


# --- the reworded prompt alone says what the problem is -----------------------------------------------------------


def test_countdown_can_be_read_back():
    task = registry.task("countdown")
    for shown in common.load_examples(task, "test", 30, "3to4", "compact"):
        problem = shown.problem
        numbers, target = re.fullmatch(r"countdown ([0-9 ]+) -> ([0-9]+):", task.reword(problem, "compact")).groups()
        assert ([int(n) for n in numbers.split()], int(target)) == (problem["numbers"], problem["target"])
        found = re.search(r"numbers ([0-9, and]+)\..* result is ([0-9]+)\.", task.reword(problem, "plain"))
        assert [int(n) for n in DIGITS.findall(found[1])] == problem["numbers"] and int(found[2]) == problem["target"]


@pytest.mark.parametrize("level", ["4x4", "6x6-easy"])
def test_sudoku_can_be_read_back(level):
    task = registry.task("sudoku")
    for shown in common.load_examples(task, "test", 10, level, "compact"):
        clues = shown.problem["clues"]
        compact = re.fullmatch(r"sudoku ([0-9/]+):", task.reword(shown.problem, "compact"))[1]
        assert compact.replace("0", ".") == clues
        for template in ("plain", "chat"):
            rows = re.findall(r"(?m)^[1-9_]+$", task.reword(shown.problem, template))
            assert "/".join(rows).replace("_", ".") == clues


@pytest.mark.parametrize("level", ["3", "5"])
def test_logic_can_be_read_back(level):
    task = registry.task("logic")
    for shown in common.load_examples(task, "test", 20, level, "compact"):
        names = shown.problem["names"]
        claims = task.reword(shown.problem, "compact").removeprefix("logic ").removesuffix(":").split("; ")
        read = dict(claim.split(": ") for claim in claims)
        original = shown.prompt.removeprefix("logic ").removesuffix(":").split(";")
        assert read == dict(claim.split(":") for claim in original) and list(read) == names[::-1]
        told = dict(re.findall(r"(?m)^- (\w+) claims that (.+)\.$", task.reword(shown.problem, "chat")))
        plain = dict(re.findall(r'(\w+) says: "(.+?)\."', task.prompt(shown.problem, "chat")))
        assert list(told) == names and {n: c.lower() for n, c in told.items()} == {
            n: c.lower() for n, c in plain.items()
        }
        assert any(kind in told[names[0]] for kind in KINDS)


@pytest.mark.parametrize("level", ["1", "3", "4"])
def test_stories_can_be_read_back_and_solved(level):
    """The reworded story, read without the problem, gives the answer."""
    task = registry.task("math")
    verbs = {"are added": "+", "are taken away": "-", "is multiplied by": "*", "is divided by": "/"}
    for shown in common.load_examples(task, "test", 30, level, "compact"):
        prompt = task.reword(shown.problem, "compact")
        head = "math now? " if shown.problem["goal"] == "now" else "math at first? "
        assert prompt.startswith(head)
        assert f"math {prompt.removeprefix(head)} {head.removeprefix('math ').strip()}" == shown.prompt
        text = task.reword(shown.problem, "chat").rpartition("\n")[2]
        question, given, *sentences = re.split(r"(?<=[.?]) ", text)
        steps: list[tuple[str, int]] = []
        for sentence in sentences:
            step = (next(op for verb, op in verbs.items() if verb in sentence), int(DIGITS.search(sentence)[0]))
            steps.insert(len(steps) - sentence.startswith("Right before that"), step)
        value = int(DIGITS.search(given)[0])
        if "begin with?" in question:
            steps = [({"+": "-", "-": "+", "*": "/", "/": "*"}[op], n) for op, n in reversed(steps)]
        for op, n in steps:
            value = {"+": value + n, "-": value - n, "*": value * n, "/": value // n}[op]
        assert task.verify(shown.problem, f"<answer>{value}</answer>").correct, text


def test_generated_and_published_questions_keep_their_text():
    task = registry.task("math")
    row = task.from_row({"problem": "What is $1+1$?", "solution": "It is $\\boxed{2}$."})
    for problem in [row, *(e.problem for e in common.load_examples(task, "test", 30, "level-3", "compact"))]:
        compact = task.prompt(problem, "compact").removeprefix("math ")
        assert task.reword(problem, "compact") == f"math solve: {compact}"
        question = task.prompt(problem, "chat").partition(" Put the reasoning between")[0]
        assert task.reword(problem, "chat").endswith(f"\n{question}") and f"\n{question}\n" in task.reword(
            problem, "plain"
        )


def test_stories_of_five_steps_leave_the_other_levels_alone():
    task = registry.task("math")
    problems = [task.generate(random.Random(seed), "4") for seed in range(50)]
    assert {len(p["steps"]) for p in problems} == {5} and {p["goal"] for p in problems} == {"now", "first"}
    for problem in problems:
        lines = task.demonstrate(problem, "compact").steps
        assert len(lines) == 5
        for line in lines:
            left, right = line.strip().split("=")
            value = ast.parse(left, mode="eval").body
            a, b = value.left.value, value.right.value
            assert {ast.Add: a + b, ast.Sub: a - b, ast.Mult: a * b, ast.Div: a / b}[type(value.op)] == int(right)
