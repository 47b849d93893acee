"""Splits by a key that near duplicates share: whether it has enough classes, found out before any run starts."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from bench.seeds import derive_seed
from bench.types import Example, Task, UserError
from tasks._near import near_key
from tasks.common import split_of

LEAST = 10  # classes that each of train, val and test needs
FIRST = 30  # draws that all differ show that there are some hundred classes at least (by the birthday bound, at 95 %)
MOST = 5000  # draws in which classes are looked for


def check_level(task: Task, level: str, split_by: str) -> None:
    """UserError unless the generated problems of a level have enough classes of a key for every split."""
    found: dict[str, set[str]] = {"train": set(), "val": set(), "test": set()}
    seen: set[str] = set()
    for number in range(MOST):
        problem = task.generate(random.Random(derive_seed(task.name, level, "classes", number)), level)
        label = near_key(task, problem, split_by)
        seen.add(label)
        found.setdefault(split_of(task.name, f"{split_by}:{label}"), set()).add(label)
        if len(seen) == number + 1 == FIRST or all(len(found[name]) >= LEAST for name in ("train", "val", "test")):
            return
    raise too_few(f"level {level} of {task.name}", split_by, len(seen), found)


def check_rows(task: Task, by_split: Mapping[str, Iterable[Example]], name: str, split_by: str) -> None:
    """UserError unless the splits of a data file have enough classes of a key."""
    found = {split: {near_key(task, e.problem, split_by) for e in rows} for split, rows in by_split.items()}
    if any(len(classes) < LEAST for classes in found.values()):
        raise too_few(f"data '{name}'", split_by, len(set().union(*found.values())), found)


def too_few(what: str, split_by: str, total: int, found: Mapping[str, set[str]]) -> UserError:
    counts = ", ".join(f"{len(found[name])} in {name}" for name in ("train", "val", "test"))
    return UserError(
        f"--split-by '{split_by}': {what} has {total} classes of it, {counts}: expected at least {LEAST} in each, "
        "choose another key or leave it out"
    )
