"""Whether a level has as many problems as are asked for, found out from few of them before any run starts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from math import ceil, expm1, sqrt
from typing import Any

from bench.plan import registry
from bench.plan.spec import Evaluation, RunPlan
from bench.seeds import derive_seed
from bench.types import UserError
from tasks.common import SPLITS, listed, problems
from tasks.skills import SKILLS, skill_problems

USUAL = 10_000  # examples in the training pool, where neither the user nor the model says it
SKILLED = 1000  # problems that every base skill has
MOST_DRAWS = 2000  # from which the size of a level is estimated
SHARES = {name: high - low for name, (low, high) in SPLITS.items()}


@lru_cache(maxsize=256)
def repeats(name: str, level: str, draws: int) -> int:
    """How many of a level's first draws had come before."""
    task = registry.task(name)
    seeds = (derive_seed(name, level, "size", number) for number in range(draws))
    return draws - len({task.key(task.generate(random.Random(seed), level)) for seed in seeds})


def size_for(draws: int, seen: float) -> float:
    """The number N of equally frequent problems of which so many draws repeat ``seen`` times in the mean.

    They show N (1 - exp(-draws / N)) different ones; the repeats are the rest, and fall with N.
    """
    low, high = 1e-3, draws**2 / (2 * seen)  # there the repeats are more than seen, here fewer
    for _ in range(60):
        middle = (low + high) / 2
        repeated = draws + middle * expm1(-draws / middle)
        low, high = (middle, high) if repeated > seen else (low, middle)
    return low


def at_least(name: str, level: str, draws: int) -> float:
    """Problems that a level has at least: of as many, the repeats that were seen would hardly be so few.

    Repeats are spread like a Poisson variable at most: three standard deviations and 5 more are hardly ever exceeded.
    Where some problems are more frequent than others, more draws repeat and the level looks smaller than it is.
    """
    seen = repeats(name, level, draws)
    return size_for(draws, seen + 3 * sqrt(seen) + 5) if seen + 3 * sqrt(seen) + 5 < draws else 1.0


def has(name: str, level: str, split: str, wanted: int) -> bool:
    """Whether a split of a level surely has a tenth more problems than are wanted; False if that is not sure."""
    need = 1.1 * wanted / SHARES[split]
    draws = ceil(sqrt(10 * need))  # enough if none repeats
    while at_least(name, level, draws) < need:
        if draws >= MOST_DRAWS:
            return False
        draws = min(2 * draws, MOST_DRAWS)
    return True


@lru_cache(maxsize=256)
def available(name: str, level: str, split: str, split_by: str, wanted: int) -> int:
    """How many problems a split of a level has, counted up to ``wanted``."""
    if not split_by and wanted > 50 and has(name, level, split, wanted):
        return wanted
    return counted(problems(registry.task(name), split, level, split_by=split_by), wanted)


def counted(source: Iterator[Any], wanted: int) -> int:
    """How many problems a source gives before it says that there are no more, up to ``wanted``."""
    found = 0
    with suppress(UserError):
        for _ in islice(source, wanted):
            found += 1
    return found


def usual_pool(name: str, level: str) -> int:
    """The size of the training pool where nobody says it: half of a small level, whose last problems are rare draws."""
    if has(name, level, "train", 2 * USUAL):
        return USUAL
    seen = repeats(name, level, MOST_DRAWS)
    half = size_for(MOST_DRAWS, max(seen, 1)) * SHARES["train"] / 2
    return min(USUAL, max(1, int(float(f"{half:.1g}"))))


def pool_size(name: str, level: str, split_by: str, given: int | None, tell: Callable[[str], None]) -> int:
    """The size of the training pool: what was asked for, or what the level has; a note where it differs."""
    wanted = given or usual_pool(name, level)
    size = available(name, level, "train", split_by, wanted)
    if given and size < given:
        tell(f"level {level} of {name} has {size} training problems, not {given}: --train-size {size} is used")
    elif size < USUAL and not given:
        tell(
            f"the training pool has {size} problems, not {USUAL}, since level {level} of {name} is small (--train-size)"
        )
    return size


def fitted(plan: RunPlan, tell: Callable[[str], None]) -> Evaluation:
    """The evaluation of a plan with the sizes that its levels have; a note for each that is smaller."""
    sizes, name = plan.evaluation, plan.task
    own = "" if plan.data_digest else plan.level
    splits = {"val_items": ("val", name, own), "test_items": ("test", name, own)}
    splits |= {"reworded_items": ("test", name, own), "ood_items": ("test", name, plan.ood_level)}
    smaller: dict[str, int] = {}
    for field, (split, task, level) in splits.items():
        wanted = getattr(sizes, field)
        if level and wanted and (size := available(task, level, split, plan.split_by, wanted)) < wanted:
            smaller[field] = size
    if sizes.other_items and plan.others:
        counts = [available(o.task, o.level, "test", "", sizes.other_items) for o in plan.others]
        if min(counts) < sizes.other_items:
            smaller["other_items"] = min(counts)
    if sizes.skill_items > SKILLED:
        counts = [counted(skill_problems(SKILLS[s.task], s.level), sizes.skill_items) for s in plan.skills]
        smaller |= {"skill_items": min(counts)} if min(counts, default=sizes.skill_items) < sizes.skill_items else {}
    if smaller:
        words = (f"--{field.replace('_', '-')} {size}" for field, size in smaller.items())
        tell(f"the levels have fewer problems than were asked for: {listed(words)} is used")
    return sizes.model_copy(update=smaller)
