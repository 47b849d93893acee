"""Runs by what a user calls them: a directory, the beginning of its name, or a method's name."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from bench.plan.registry import nearest
from bench.plan.spec import RunPlan
from bench.store.run_folder import CorruptRun, read_json
from bench.types import UserError

LISTED = 5


def directories(results: Path) -> list[Path]:
    """Run directories of a results folder, finished or not."""
    return sorted(path.parent for path in results.glob("*/plan.json"))


def find_run(name: str, results: Path) -> Path:
    """The run directory of this path, name or beginning of a name; UserError if there is none, or more than one."""
    if (Path(name) / "plan.json").is_file():
        return Path(name)
    runs = directories(results)
    found = [run for run in runs if run.name == name] or [run for run in runs if run.name.startswith(name)]
    if not runs:
        raise UserError(f"results folder '{results}' has no runs: run 'bench run' first or give --results")
    if not found:
        close = get_close_matches(name, {run.name[: len(name)] for run in runs}, n=1, cutoff=0.5)
        near = [run for run in runs if close and run.name.startswith(close[0])]
        hint = f"did you mean {near[0].name}? " if near else ""
        raise UserError(f"unknown run '{name}': {hint}expected the name of one of {listed(runs)}")
    if len(found) > 1:
        raise UserError(f"'{name}' begins the names of {len(found)} runs, expected one of {listed(found)}")
    return found[0]


def listed(runs: Sequence[Path]) -> str:
    more = f" and {len(runs) - LISTED} more" if len(runs) > LISTED else ""
    return ", ".join(run.name for run in runs[:LISTED]) + more


def plan_of(run: Path) -> RunPlan:
    """The plan of a run directory; UserError that names the directory if it cannot be read."""
    try:
        return RunPlan.restore(read_json(run / "plan.json"))
    except (CorruptRun, ValueError) as error:
        raise UserError(f"run '{run}' cannot be read: {' '.join(str(error).split())[:200]}") from None


def find_arms(a: str, b: str, results: Path, task: str | None) -> tuple[list[Path], list[Path]]:
    """The runs of two sides, each a run or all runs of a method; where a side is a method, of one comparison.

    UserError if the methods share more than one comparison and no task was given, or not the one that was.
    """
    sides = [find_arm(name, results, task) for name in (a, b)]
    groups = [{plan_of(run).comparison for run in side} for side in sides]
    if all(len(g) == 1 for g in groups):
        return sides[0], sides[1]
    both = groups[0] & groups[1]
    if len(both) != 1:
        count = f"share {len(both)} comparisons" if both else "share no comparison and have several"
        raise UserError(f"{a} and {b} {count} in '{results}': expected two runs by name, or --task TASK")
    left, right = ([run for run in side if plan_of(run).comparison in both] for side in sides)
    return left, right


def find_arm(name: str, results: Path, task: str | None) -> list[Path]:
    """All runs of the method of this name, else the one run of this name."""
    if (Path(name) / "plan.json").is_file():
        return [Path(name)]
    plans = {run: plan_of(run) for run in directories(results)}
    method = [run for run, plan in plans.items() if plan.method == name]
    if not method:
        known = {plan.method for plan in plans.values()}
        if not any(run.name.startswith(name) for run in plans) and plans:
            raise nearest(name, known, "method or run")
        return [find_run(name, results)]
    chosen = [run for run in method if task in (None, plans[run].task)]
    if not chosen:
        raise nearest(str(task), {plans[run].task for run in method}, f"task of {name}")
    return chosen
