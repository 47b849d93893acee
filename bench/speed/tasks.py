"""Sides that make problems and judge answers, without a model."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from time import process_time
from typing import Any

from bench.plan import registry
from bench.seeds import derive_seed
from bench.speed.turns import Turns
from bench.speed.work import Work
from bench.types import Task

COUNT = 100  # texts that are judged in a turn, half of them right
TEMPLATE = "chat"
# Task and level -> reasoning-gym's data set and the settings that make its problems as large as ours.
RANGES = {"min_value": 1, "max_value": 30, "min_target": 10, "max_target": 100}
LEVELS: dict[tuple[str, str], tuple[str, dict[str, int]]] = {
    ("countdown", "3"): ("countdown", {**RANGES, "min_numbers": 3, "max_numbers": 3}),
    ("countdown", "4"): ("countdown", {**RANGES, "min_numbers": 4, "max_numbers": 4}),
    ("countdown", "6"): ("countdown", {**RANGES, "min_numbers": 6, "max_numbers": 6}),
    ("logic", "3"): ("knights_knaves", {"n_people": 3, "depth_constraint": 2}),
    ("logic", "5-nested"): ("knights_knaves", {"n_people": 5, "depth_constraint": 3}),
    ("sudoku", "4x4"): ("mini_sudoku", {"min_empty": 6, "max_empty": 8}),
    ("sudoku", "9x9"): ("sudoku", {"min_empty": 48, "max_empty": 54}),
}
JUDGED = (("countdown", "3"), ("logic", "3"), ("sudoku", "4x4"))
MATH = (("math", "3"), ("math", "level-5"))
SLICE = 0.01, 0.2  # seconds of the processor for each case of a turn, at least and at most


def case_name(place: tuple[str, str]) -> str:
    return " ".join(place)


def take_turns(work: Work, turns: Turns, cases: dict[str, Callable[[int], object]]) -> None:
    """Call each case's function of a running number for a slice of time, a hundredth of the part's."""
    part = min(max(work.seconds / 100, SLICE[0]), SLICE[1])
    counts = {case: itertools.count() for case in cases}
    for _ in turns:
        for case, make in cases.items():
            end = process_time() + part
            with turns.timed(case) as amount:
                while process_time() < end:
                    make(next(counts[case]))
                    amount.units += 1


# --- problems ----------------------------------------------------------------------------------------------------


def problems(work: Work, turns: Turns) -> None:
    """A problem and its prompt, each from a generator of its own."""

    def maker(name: str, level: str) -> Callable[[int], object]:
        task = registry.task(name)

        def make(index: int) -> str:
            problem = task.generate(random.Random(derive_seed(name, level, "speed", index)), level)
            return task.prompt(problem, TEMPLATE)

        return make

    take_turns(work, turns, {case_name(place): maker(*place) for place in LEVELS})


def gym_problems(work: Work, turns: Turns) -> None:
    """Items of reasoning-gym's data sets: question and answer."""

    def maker(name: str, settings: dict[str, int]) -> Callable[[int], object]:
        data = gym_data(name, settings)
        return lambda index: data[index]

    take_turns(work, turns, {case_name(place): maker(*LEVELS[place]) for place in LEVELS})


def gym_data(name: str, settings: dict[str, int]) -> Any:
    import reasoning_gym

    return reasoning_gym.create_dataset(name, seed=1, size=10**7, **settings)


# --- verdicts ----------------------------------------------------------------------------------------------------


def texts(task: Task, level: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Problems, each with a demonstration or with an answer that ignores the question."""
    for index in range(COUNT):
        rng = random.Random(derive_seed("speed", "verdict", task.name, level, index))
        problem = task.generate(rng, level)
        yield problem, task.practice(rng, problem) if index % 2 else task.demonstrate(problem, TEMPLATE).text


def verdicts(work: Work, turns: Turns) -> None:
    """Verdicts of the tasks."""

    def judge(name: str, level: str) -> Callable[[int], object]:
        task = registry.task(name)
        pairs = list(texts(task, level))
        return lambda index: task.verify(*pairs[index % COUNT])

    take_turns(work, turns, {case_name(place): judge(*place) for place in (*MATH, *JUDGED)})


def math_verify(work: Work, turns: Turns) -> None:
    """math-verify on the same texts; it reads the gold answers once."""
    from math_verify import parse, verify

    def judge(name: str, level: str) -> Callable[[int], object]:
        task: Any = registry.task(name)
        pairs = [(parse(f"\\boxed{{{task.gold(problem)[0]}}}"), text) for problem, text in texts(task, level)]
        return lambda index: verify(pairs[index % COUNT][0], parse(pairs[index % COUNT][1]))

    take_turns(work, turns, {case_name(place): judge(*place) for place in MATH})


def gym_verdicts(work: Work, turns: Turns) -> None:
    """Scores of reasoning-gym for its own answers, and for the answer of another problem."""

    def judge(name: str, settings: dict[str, int]) -> Callable[[int], object]:
        data = gym_data(name, settings)
        items: Sequence[Any] = [data[index] for index in range(COUNT)]
        answers = [items[index - index % 2]["answer"] for index in range(COUNT)]
        return lambda index: data.score_answer(answers[index % COUNT], items[index % COUNT])

    take_turns(work, turns, {case_name(place): judge(*LEVELS[place]) for place in JUDGED})
