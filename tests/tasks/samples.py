"""Drawn problems, data files and token counts, shared by the tests of the tasks."""

import os
import random
import re
from pathlib import Path

from tasks._countdown.plans import legal_moves
from tasks.common import derive_seed

DATA = Path(os.environ.get("BENCH_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


DRAWN = {}  # by task and level: a source of random numbers, and the problems drawn so far


def draw(task, count, level):
    """The first problems of a level, the same on every call; not to be changed."""
    start = random.Random(derive_seed("test", task.name, level)), []
    rng, problems = DRAWN.setdefault((task, level), start)
    while len(problems) < count:
        problems.append(task.generate(rng, level))
    return problems[:count]


def num_tokens(task, text):
    """Length in the embedded tokenizer: whole words first, characters otherwise."""
    return len(re.findall("|".join([*map(re.escape, sorted(task.words, key=len, reverse=True)), "(?s:.)"]), text))


def all_plans(numbers):
    """Every Countdown plan of legal steps that uses all numbers."""
    if len(numbers) == 1:
        yield []
        return
    for step, left in legal_moves(numbers):
        for rest in all_plans(left):
            yield [step, *rest]
