"""Drawn problems, data files and token counts, shared by the tests of the tasks."""

import os
import random
import re
from pathlib import Path

from tasks.common import derive_seed

DATA = Path(os.environ.get("BENCH_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


def draw(task, count, level):
    """Problems of a level, the same on every call."""
    rng = random.Random(derive_seed("test", task.name, level))
    return [task.generate(rng, level) for _ in range(count)]


def num_tokens(task, text):
    """Length in the embedded tokenizer: whole words first, characters otherwise."""
    return len(re.findall("|".join([*map(re.escape, sorted(task.words, key=len, reverse=True)), "(?s:.)"]), text))
