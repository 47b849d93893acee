"""Problems, demonstrations and verdicts per second of one core, beside reasoning-gym's generators if it is installed.

python benchmarks/task_speed.py [--tasks sudoku,countdown] [--levels 9x9,9x9-hard] [--seconds 2] [--json]

Rates count the CPU time of this process.  A level and its rival take turns in this process, each in slices of a tenth
of the time; generators that work on ahead are not used.  The tasks need no torch: a virtual environment with nothing
but reasoning-gym will do.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.plan import registry  # noqa: E402
from bench.types import Task, UserError  # noqa: E402
from tasks._sudoku.grid import solve_clues  # noqa: E402
from tasks.common import derive_seed  # noqa: E402

GRIDS = ROOT / "tests" / "tasks" / "sudoku_grids.json"
SLICES = 10
# (task, level) -> reasoning-gym data sets to compare with: name and settings, the nearest to the level, then defaults.
RIVALS: dict[tuple[str, str], list[tuple[str, dict[str, Any]]]] = {
    ("sudoku", "4x4"): [("mini_sudoku", {"min_empty": 6, "max_empty": 8})],
    ("sudoku", "4x4-hard"): [("mini_sudoku", {"min_empty": 9, "max_empty": 12})],
    ("sudoku", "9x9-easy"): [("sudoku", {"min_empty": 36, "max_empty": 46}), ("sudoku", {})],
    ("sudoku", "9x9"): [("sudoku", {"min_empty": 48, "max_empty": 54}), ("sudoku", {})],
    ("countdown", "3"): [("countdown", {"min_numbers": 3, "max_numbers": 3})],
    ("countdown", "4"): [("countdown", {"min_numbers": 4, "max_numbers": 4}), ("countdown", {})],
}


def rates(makers: Sequence[Callable[[int], object]], seconds: float) -> list[float]:
    """Calls per CPU second of each function of a running number, measured in turns."""
    counts, spent = [0] * len(makers), [0.0] * len(makers)
    for _ in range(SLICES):
        for k, make in enumerate(makers):
            begin = process_time()
            while (now := process_time()) - begin < seconds / SLICES:
                make(counts[k])
                counts[k] += 1
            spent[k] += now - begin
    return [count / time for count, time in zip(counts, spent)]


def rivals(name: str, level: str) -> list[tuple[str, Any]]:
    """Title and data set of each rival; none if reasoning-gym is not importable."""
    try:
        import reasoning_gym
    except ImportError:
        return []
    found = []
    for dataset, config in RIVALS.get((name, level), []):
        title = f"{dataset} {' '.join(f'{k}={v}' for k, v in config.items()) or 'default settings'}"
        found.append((title, reasoning_gym.create_dataset(dataset, seed=1, size=1_000_000, **config)))
    return found


def measure(task: Task, level: str, seconds: float) -> dict[str, Any]:
    """Rates of one level: problems, demonstrations, verdicts on right and on wrong answers, rivals' problems."""
    rng = random.Random(derive_seed("benchmark", task.name, level))
    others = rivals(task.name, level)
    makers = [lambda i: task.generate(rng, level), *(lambda i, data=data: data[i] for _, data in others)]
    problems, *rival_rates = rates(makers, seconds)
    sample = [task.generate(rng, level) for _ in range(min(200, max(10, int(problems * seconds))))]
    template = task.templates[-1]
    right = [(p, task.demonstrate(p, template).text) for p in sample]
    wrong = [(p, task.practice(rng, p)) for p in sample]
    demonstrations, accepted, judged = rates(
        [
            lambda i: task.demonstrate(sample[i % len(sample)], template),
            lambda i: task.verify(*right[i % len(right)]),
            lambda i: task.verify(*wrong[i % len(wrong)]),
        ],
        seconds / 2,
    )
    row = {"task": task.name, "level": level, "problems": problems, "demonstrations": demonstrations}
    row |= {"right answers": accepted, "goal-blind answers": judged}
    return row | {"rivals": {title: rate for (title, _), rate in zip(others, rival_rates)}}


def hardest() -> list[tuple[str, float]]:
    """Milliseconds of CPU to solve each published grid and prove it unique, the median of five."""
    found = []
    for grid in json.loads(GRIDS.read_text()):
        times = []
        for _ in range(5):
            begin = process_time()
            solve_clues(grid["clues"])
            times.append(1000 * (process_time() - begin))
        found.append((grid["name"], statistics.median(times)))
    return sorted(found, key=lambda pair: -pair[1])


def show(rows: list[dict[str, Any]], grids: list[tuple[str, float]]) -> None:
    """Markdown table, the rivals under it, then the published grids."""
    columns = ("problems", "demonstrations", "right answers", "goal-blind answers")
    print(f"Per second of one core, Python {sys.version.split()[0]}; answers are those judged by the verifier.\n")
    print(f"| task | level | {' | '.join(columns)} |\n| --- | --- | {' | '.join('---:' for _ in columns)} |")
    for row in rows:
        print(f"| {row['task']} | {row['level']} | {' | '.join(f'{row[c]:,.0f}' for c in columns)} |")
    print()
    for row in rows:
        for title, rate in row["rivals"].items():
            ratio = row["problems"] / rate
            print(f"{row['task']} {row['level']}: {ratio:.1f} times reasoning-gym's {title} ({rate:,.0f} problems/s)")
    if "reasoning_gym" not in sys.modules:
        print("reasoning-gym is not importable here: nothing to compare with (pip install reasoning-gym)")
    if grids:
        median = statistics.median(time for _, time in grids)
        slowest = ", ".join(f"{name} {time:.1f}" for name, time in grids[:3])
        print(f"Published Sudokus: median {median:.1f} ms, slowest {slowest} ms ({len(grids)} grids)")


def chosen(names: str, levels: str) -> list[tuple[Task, str]]:
    """The named tasks' levels, all where none is named; UserError for a level that no task has."""
    tasks = [registry.task(name) for name in (names.split(",") if names else registry.names("tasks"))]
    wanted = levels.split(",") if levels else []
    known = list(itertools.chain.from_iterable(task.levels for task in tasks))
    for level in wanted:
        if level not in known:
            raise registry.nearest(level, known, "level")
    return [(task, level) for task in tasks for level in task.levels if not wanted or level in wanted]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="", help="names with commas; all by default")
    parser.add_argument("--levels", default="", help="names with commas; all by default")
    parser.add_argument("--seconds", type=float, default=2.0, help="CPU time per generator")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        pairs = chosen(args.tasks, args.levels)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    rows = [measure(task, level, args.seconds) for task, level in pairs]
    grids = hardest() if any(task.name == "sudoku" for task, _ in pairs) else []
    if args.json:
        print(json.dumps({"levels": rows, "published grids, ms": dict(grids)}, indent=1))
    else:
        show(rows, grids)
    return 0


if __name__ == "__main__":
    sys.exit(main())
