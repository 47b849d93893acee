"""Stored runs: which one a user means, and a finished one as cards, result files and trackers get it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.foreign import one_line, say
from bench.plan.registry import nearest
from bench.plan.spec import RunPlan, stable_hash
from bench.store.run_folder import CorruptRun, check_records, done_runs, is_done, read_json, read_lines
from bench.types import UserError


@contextmanager
def sense() -> Iterator[None]:
    """CorruptRun for records that are whole but do not mean anything: a field is missing or of another kind."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as fault:
        raise CorruptRun(f"records make no sense: {type(fault).__name__} {fault}") from None


@dataclass(frozen=True)
class StoredRun:
    """A finished run whose records match its done marker.

    ``evals`` are all its evaluations in order; ``fingerprint`` is a hash of all records, so that a run that was made
    again differs; ``started`` and ``ended`` are seconds since the epoch by the times of its files.
    """

    path: Path
    plan: RunPlan
    env: Mapping[str, Any]
    ledger: Mapping[str, float]
    evals: tuple[dict[str, Any], ...]
    fingerprint: str
    started: float
    ended: float

    @property
    def name(self) -> str:
        return self.path.name

    @property
    @sense()
    def splits(self) -> dict[str, dict[str, Any]]:
        """The last evaluation of each split, in order of appearance."""
        return {e["split"]: e for e in self.evals}

    @property
    def execution(self) -> Mapping[str, Any]:
        """How it was computed: device, threads, sizes of passes."""
        return execution_in(self.env, self.plan)

    def metrics(self) -> list[dict[str, Any]]:
        return read_lines(self.path / "metrics.jsonl")

    @sense()
    def items(self) -> dict[str, list[dict[str, Any]]]:
        """By split, the item records of its last evaluation; CorruptRun unless they are all there."""
        last = {(split, e["fraction"]): e["num_items"] for split, e in self.splits.items()}
        items: dict[str, list[dict[str, Any]]] = {split: [] for split in self.splits}
        for item in read_lines(self.path / "items.jsonl"):
            if (item["split"], item["fraction"]) in last:
                items[item["split"]].append(item)
        for (split, _), expected in last.items():
            if len(items[split]) != expected:
                raise CorruptRun(f"items.jsonl has {len(items[split])} items of the {split} split, expected {expected}")
        return items


def read_plan(path: Path) -> RunPlan:
    """The plan of a run directory, finished or not; CorruptRun if it is none."""
    try:
        return RunPlan.restore(read_json(path / "plan.json"))
    except ValidationError as error:
        raise CorruptRun(f"plan.json: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None


def known_plan(path: Path) -> RunPlan:
    """The plan of a run directory that a user named; UserError if it is none."""
    try:
        return read_plan(path)
    except CorruptRun as fault:
        raise corrupted(path, fault) from None


@sense()
def load_stored(path: Path) -> StoredRun:
    """A finished run; CorruptRun when its files contradict each other."""
    done = check_records(path)
    plan = read_plan(path)
    evals = tuple(read_lines(path / "evals.jsonl"))
    if not evals:
        raise CorruptRun("evals.jsonl has no evaluation")
    env = path / "env.json"
    ended = (path / "done.json").stat().st_mtime
    return StoredRun(
        path=path,
        plan=plan,
        env=read_json(env) if env.exists() else {},
        ledger=done["ledger"],
        evals=evals,
        fingerprint=stable_hash(done["digests"]),
        started=env.stat().st_mtime if env.exists() else ended - done["ledger"].get("seconds", 0.0),
        ended=ended,
    )


def execution_in(env: Mapping[str, Any], plan: RunPlan) -> Mapping[str, Any]:
    """How a run was computed, by its environment record; plans of protocol 1 hold it themselves."""
    return env.get("execution") or (plan.execution.model_dump() if plan.execution else {})


# --- the look-up: what a user calls a run -------------------------------------------------------------------------


def locate(source: str, results: Path) -> Path:
    """The run directory that ``source`` means: a directory, or in ``results`` a name, its beginning or a digest.

    The digest is the last part of a name.  UserError for anything else, with the nearest names.
    """
    path = Path(source)
    if source and is_run(path):
        return path if path.name not in ("", "..") else path.resolve()  # "." and ".." are no names
    names = run_names(results)
    matches = [name for name in names if source in (name, digest_in(name))]
    matches = matches or [name for name in names if source and name.startswith(source)]
    if len(matches) == 1:
        return results / matches[0]
    if matches:
        raise UserError(f"run '{source}' is ambiguous in '{results}': expected one of {among(matches)}")
    if source and path.is_dir():
        inside = run_names(path)
        note = f", one of {among(inside)}" if inside else ""
        raise UserError(f"'{path}' is not a run but a folder: expected a run{note}")
    if source and path.is_file():
        raise UserError(f"'{path}' is a file: expected a run, which is a directory")
    if not source:
        raise UserError("a run's name is empty: expected a directory, or a name, its beginning or a digest")
    if not names:
        fault = "has no runs" if results.is_dir() else "does not exist"
        raise UserError(f"results folder '{results}' {fault}: run 'bench run' first, or give a directory or --results")
    beginnings = {name[: len(source)]: name for name in reversed(names)} | {digest_in(name): name for name in names}
    close = [beginnings[text] for text in difflib.get_close_matches(source, beginnings, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(dict.fromkeys(close))}? " if close else ""
    raise UserError(
        f"unknown run '{source}': {hint}expected a directory, or a name, its beginning or a digest in '{results}'"
    )


def is_run(path: Path) -> bool:
    return (path / "plan.json").is_file()


def run_names(results: Path) -> list[str]:
    """Names of the run directories of a results folder, finished or not."""
    return sorted(plan.parent.name for plan in results.glob("*/plan.json"))


def digest_in(name: str) -> str:
    """The run's id, with which the name of its directory ends."""
    return name.rpartition("-")[2]


def among(names: list[str]) -> str:
    """Up to three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (", ".join(names[:3]) or "none") + more


def corrupted(path: Path, fault: object) -> UserError:
    return UserError(f"run '{path}' is corrupted ({' '.join(str(fault).split())[:200]}): nothing was changed")


def warn_corrupt(bad: Iterable[tuple[Path, str]]) -> None:
    """Name corrupted run directories, each with its fault, on standard error."""
    for path, fault in bad:
        say(one_line(f"warning: run '{path}' is corrupted and was left out: {fault}"), error=True)


def find_run(source: str, results: Path) -> StoredRun:
    """The finished run that ``source`` means, as ``locate`` finds it; UserError if it is unfinished or corrupted."""
    path = locate(source, results)
    if not is_done(path):
        raise UserError(f"run '{path.name}' is not finished: give its 'bench run' again, it resumes where it stopped")
    try:
        return load_stored(path)
    except (CorruptRun, OSError) as fault:
        raise corrupted(path, fault) from None


def find_runs(source: str, results: Path) -> list[StoredRun]:
    """One run, or all finished runs of a folder; corrupted runs of a folder are named on standard error and left out.

    UserError if there is none.
    """
    folder = Path(source)
    if not source or is_run(folder) or not folder.is_dir():
        return [find_run(source, results)]
    runs, bad = [], []
    for path in done_runs(folder):
        try:
            runs.append(load_stored(path))
        except (CorruptRun, OSError) as fault:
            bad.append((path, str(fault)))
    warn_corrupt(bad)
    if not runs:
        raise UserError(
            f"folder '{folder}' has no finished run: expected a run, or a folder of runs as 'bench run' makes"
        )
    return runs


def locate_sides(a: str, b: str, results: Path, task: str | None) -> tuple[list[Path], list[Path]]:
    """The runs of two sides, each a run or all runs of a method; where a side is a method, of one comparison.

    UserError if the methods share more than one comparison and no task was given, or not the one that was.
    """
    sides = [locate_side(name, results, task) for name in (a, b)]
    groups = [{plan.comparison for plan in side.values()} for side in sides]
    both = groups[0] & groups[1]
    if any(len(group) > 1 for group in groups):
        if len(both) != 1:
            count = f"share {len(both)} comparisons" if both else "share no comparison and have several"
            raise UserError(f"{a} and {b} {count} in '{results}': expected two runs by name, or --task TASK")
        sides = [{path: plan for path, plan in side.items() if plan.comparison in both} for side in sides]
    return list(sides[0]), list(sides[1])


def locate_side(name: str, results: Path, task: str | None) -> dict[Path, RunPlan]:
    """All runs of the method of this name, on a task if it is given, else the one run that the name means.

    A run whose plan cannot be read may be one of any method: a method is refused then, other runs by name are not.
    """
    of_method, bad = {}, []
    for path in [] if is_run(Path(name)) else [results / run for run in run_names(results)]:
        try:
            plan = read_plan(path)
        except CorruptRun as fault:
            bad.append((path, str(fault)))
            continue
        if plan.method == name:
            of_method[path] = plan
    if not of_method:
        path = locate(name, results)
        return {path: known_plan(path)}
    if bad:
        raise corrupted(*bad[0])
    chosen = {path: plan for path, plan in of_method.items() if task in (None, plan.task)}
    if not chosen:
        raise nearest(str(task), {plan.task for plan in of_method.values()}, f"task of {name}")
    return chosen
