"""Problems per second of the Countdown and Knights & Knaves generators, beside reasoning-gym's where it is installed.

``python benchmarks/task_rates.py [--seconds 2] [--json]`` on one core, in CPU seconds.  One item of ours is a problem
with its prompt (template ``chat``), each from a generator seeded by hash; one of reasoning-gym is ``dataset[i]``, a
problem with its question and answer.  Both sides draw problems of the same size; ranges of the numbers are ours.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import time
from collections.abc import Callable
from importlib import metadata, util
from typing import Any

from bench.plan import registry
from bench.types import Task
from tasks.common import derive_seed

Row = dict[str, Any]


def rate(item: Callable[[int], object], seconds: float) -> float:
    """Calls per CPU second, after one call for imports and tables."""
    item(0)
    begin, count = time.process_time(), 0
    while time.process_time() - begin < seconds:
        count += 1
        item(count)
    return count / (time.process_time() - begin)


def ours(task: Task, level: str, seconds: float) -> float:
    def item(index: int) -> str:
        problem = task.generate(random.Random(derive_seed(task.name, level, "rates", 0, index)), level)
        return task.prompt(problem, "chat")

    return rate(item, seconds)


def theirs(name: str, seconds: float, **config: int) -> float | None:
    """Rate of a reasoning-gym generator, None if the package is not installed."""
    if util.find_spec("reasoning_gym") is None:
        return None
    import reasoning_gym

    dataset = reasoning_gym.create_dataset(name, seed=1, size=10**7, **config)
    return rate(lambda index: dataset[index], seconds)


def countdown_rates(seconds: float = 2.0) -> list[Row]:
    """One row per level with its count of numbers: problems per CPU second of ours and of reasoning-gym."""
    rows = []
    for count in (3, 4, 5, 6):
        ranges = {"min_value": 1, "max_value": 30, "min_target": 10, "max_target": 100}
        other = theirs("countdown", seconds, min_numbers=count, max_numbers=count, **ranges)
        level = str(count)
        rows.append(
            {
                "task": "countdown",
                "level": level,
                "ours": ours(registry.task("countdown"), level, seconds),
                "theirs": other,
            }
        )
    return rows


def logic_rates(seconds: float = 2.0) -> list[Row]:
    """The same for Knights & Knaves; reasoning-gym's depth 2 is one connective, its depth 3 two within each other."""
    rows = []
    for suffix, depth in (("", 2), ("-nested", 3)):
        for count in range(2, 9):
            level = f"{count}{suffix}"
            other = theirs("knights_knaves", seconds, n_people=count, depth_constraint=depth)
            rows.append(
                {"task": "logic", "level": level, "ours": ours(registry.task("logic"), level, seconds), "theirs": other}
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = countdown_rates(args.seconds) + logic_rates(args.seconds)
    gym = metadata.version("reasoning-gym") if rows[0]["theirs"] is not None else None
    if args.json:
        print(json.dumps({"rows": rows, "python": platform.python_version(), "reasoning_gym": gym}))
        return
    print(f"Python {platform.python_version()}, reasoning-gym {gym or 'not installed'}\n")
    print("| task | level | problems/s | reasoning-gym | ratio |\n| --- | --- | ---: | ---: | ---: |")
    for row in rows:
        other = f"{row['theirs']:,.0f} | {row['ours'] / row['theirs']:.1f}" if row["theirs"] else "- | -"
        print(f"| {row['task']} | {row['level']} | {row['ours']:,.0f} | {other} |")


if __name__ == "__main__":
    main()
