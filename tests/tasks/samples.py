"""Drawn problems and token counts, shared by the tests of the tasks."""

import random
import re

from tasks.common import derive_seed


def draw(task, count, level):
    """Problems of a level, the same on every call."""
    rng = random.Random(derive_seed("test", task.name, level))
    return [task.generate(rng, level) for _ in range(count)]


def num_tokens(task, text):
    """Length in the embedded tokenizer: whole words first, characters otherwise."""
    return len(re.findall("|".join([*map(re.escape, sorted(task.words, key=len, reverse=True)), "(?s:.)"]), text))
