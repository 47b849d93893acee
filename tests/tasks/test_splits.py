"""No problem in two splits, whatever the seed; two seeds share no more problems than two independent draws."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import pytest

from bench.plan import registry
from tasks import common, skills
from tests.helpers.engine import method, pool, small_policy, stage

TASKS = [registry.task(name) for name in registry.built_in("tasks")]
HEAVY = {("sudoku", level) for level in registry.task("sudoku").levels if level[0] in "69"}  # a problem takes its time
LEVELS = [
    pytest.param(task, level, id=f"{task.name}-{level}", marks=[pytest.mark.slow] * ((task.name, level) in HEAVY))
    for task in TASKS
    for level in task.levels
]
SEEDS = (0, 1, 2)
POOL = 500


def keys(task, split, level, seed, count):
    return {task.key(p) for p in itertools.islice(common.problems(task, split, level, seed), count)}


@pytest.mark.parametrize(("task", "level"), LEVELS)
def test_no_problem_is_in_two_splits_whatever_the_seed(task, level):
    count = 2 if (task.name, level) in HEAVY else 30
    found = {split: [keys(task, split, level, seed, count) for seed in SEEDS] for split in common.SPLITS}
    assert all(len(one) == count for sets in found.values() for one in sets)
    for first, second in itertools.combinations(common.SPLITS, 2):
        assert not set.union(*found[first]) & set.union(*found[second]), (first, second)


# --- seeds -------------------------------------------------------------------------------------------------------


def independent(task, level, number, count):
    """Distinct problems of the training split from one stream of random numbers, as nobody would dispute."""
    rng, found = random.Random(f"stream {number}"), set()
    while len(found) < count:
        key = task.key(task.generate(rng, level))
        if common.split_of(task.name, key) == "train":
            found.add(key)
    return found


def shared(sets):
    """Mean number of problems that neighbouring sets share."""
    pairs = list(itertools.pairwise(sets))
    return sum(len(a & b) for a, b in pairs) / len(pairs)


def too_many(task, level, count=60, seeds=range(6)):
    """Problems that neighbouring seeds share, and the most that chance explains."""
    chance = shared([independent(task, level, number, count) for number in seeds])
    return shared([keys(task, "train", level, seed, count) for seed in seeds]), chance + 5 * math.sqrt(chance + 1) / 2


WIDE = [("countdown", "3"), ("countdown", "3to4"), ("logic", "3"), ("logic", "5"), ("sudoku", "4x4"), ("math", "3")]
WIDE += [("math", "level-1"), ("math", "level-5")]


@pytest.mark.parametrize(("name", "level"), WIDE)
def test_neighbouring_seeds_share_no_more_problems_than_chance(name, level):
    found, most = too_many(registry.task(name), level)
    assert found <= most


def test_seeds_that_are_added_would_be_noticed(monkeypatch):
    """Problem i of seed s is then problem i - 1 of seed s + 1."""
    hashed = common.derive_seed
    monkeypatch.setattr(
        common, "derive_seed", lambda *parts: parts[-2] + parts[-1] if len(parts) == 5 else hashed(*parts)
    )
    found, most = too_many(registry.task("countdown"), "3")
    assert found > 50 > most


def test_derived_seeds_of_neighbours_have_nothing_in_common():
    """All distinct, and half of their 63 bits differ; 1.0 is distinct from 1, a nested list from a flat one."""
    parts = [("countdown", "3", "train", seed, index) for seed in range(40) for index in range(40)]
    found = [common.derive_seed(*p) for p in parts]
    assert len(set(found)) == len(parts)
    distances = [(a ^ b).bit_count() for a, b in itertools.pairwise(found)]
    assert abs(sum(distances) / len(distances) - 31.5) < 5 * math.sqrt(63) / 2 / math.sqrt(len(distances))
    assert len({common.derive_seed(*p) for p in ((1, 2), (12,), ("1", "2"), (1.0, 2), ([1], 2), ([1, 2],))}) == 6


def test_neighbouring_seeds_train_in_unrelated_orders_on_one_pool():
    """Of batches of 50 out of 500, chance lets two share 5 on average, with a standard deviation of 2."""
    (example,) = pool(1)
    examples = [replace(example, id=str(number)) for number in range(POOL)]
    stages = [stage(small_policy(), method("sft", batch_size=50), examples, seed) for seed in range(12)]
    batches = [[e.id for e in current.examples()] for current in stages]
    assert 5 - 4 * 2.1 / math.sqrt(11) < shared(map(set, batches)) < 5 + 4 * 2.1 / math.sqrt(11)
    assert all(a[0] != b[1] and a[1] != b[0] and a != b for a, b in itertools.pairwise(batches))
    first, again = stages[0], stage(small_policy(), method("grpo", batch_size=50), examples, 0)
    assert [e.id for e in again.examples()] == batches[0], "all methods see the order of their seed"
    epochs = [[e.id for first.step in range(start, start + 10) for e in first.examples()] for start in (0, 10)]
    assert set(epochs[0]) == set(epochs[1]) and len(epochs[0]) == POOL
    same_place = sum(a == b for a, b in zip(*epochs))
    assert same_place < 8, "chance: 1 on average"


def test_skills_do_not_depend_on_each_other_or_on_the_count():
    copying = skills.SKILLS["copying"]
    assert skills.load_skill(copying, 5, "text") == skills.load_skill(copying, 9, "text")[:5]
