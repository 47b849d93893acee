"""Finished runs as they are stored, for everything that hands them on: cards, result files, trackers."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.plan.spec import RunPlan, stable_hash
from bench.store.run_folder import CorruptRun, check, finished, is_done, read_json, read_lines
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

    def metrics(self) -> list[dict[str, Any]]:
        return read_lines(self.path / "metrics.jsonl")

    @sense()
    def items(self) -> dict[str, list[dict[str, Any]]]:
        """By split, the item records of its last evaluation; CorruptRun unless they are all there."""
        last = {(split, e["fraction"]): e["num_items"] for split, e in self.splits.items()}
        found: dict[str, list[dict[str, Any]]] = {split: [] for split in self.splits}
        for item in read_lines(self.path / "items.jsonl"):
            if (item["split"], item["fraction"]) in last:
                found[item["split"]].append(item)
        for (split, _), expected in last.items():
            if len(found[split]) != expected:
                raise CorruptRun(f"items.jsonl has {len(found[split])} items of the {split} split, expected {expected}")
        return found


@sense()
def load(path: Path) -> StoredRun:
    """A finished run; CorruptRun when its files contradict each other."""
    done = check(path)
    try:
        plan = RunPlan.restore(read_json(path / "plan.json"))
    except ValidationError as error:
        raise CorruptRun(f"plan.json: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}") from None
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


def find_run(source: str, results: Path) -> StoredRun:
    """The finished run that a directory, a name in the results folder or an id means; UserError if there is none."""
    path = locate(source, results)
    if not (path / "plan.json").exists():
        raise UserError(f"'{path}' is not a run but a folder: expected a run, one of {among(run_names(path))}")
    if not is_done(path):
        raise UserError(f"run '{path.name}' is not finished: give its 'bench run' again, it resumes where it stopped")
    try:
        return load(path)
    except (CorruptRun, OSError) as fault:
        raise UserError(f"run '{path}' is corrupted ({fault}): nothing was changed") from None


def find_runs(source: str, results: Path) -> list[StoredRun]:
    """One run, or all finished runs of a folder; corrupted runs of a folder are named on standard error and left out.

    UserError if there is none.
    """
    path = locate(source, results)
    if (path / "plan.json").exists():
        return [find_run(source, results)]
    good, bad = finished(path)
    found = []
    for run in good:
        try:
            found.append(load(run))
        except (CorruptRun, OSError) as fault:
            bad.append((run, str(fault)))
    for run, reason in bad:
        leave_out(run, reason)
    if not found:
        raise UserError(
            f"folder '{path}' has no finished run: expected a run, or a folder of runs as 'bench run' makes"
        )
    return found


def leave_out(path: Path, reason: str) -> None:
    print(f"warning: run '{path}' is corrupted and was left out: {reason}", file=sys.stderr)


def locate(source: str, results: Path) -> Path:
    """The directory that a path, a run's name, its beginning or its id means; UserError with the nearest names."""
    if source and Path(source).is_dir():
        return Path(source).resolve()  # so that "." has a name
    names = run_names(results)
    matches = [name for name in names if source and (name == source or name.endswith(f"-{source}"))]
    matches = matches or [name for name in names if source and name.startswith(source)]
    if len(matches) == 1:
        return results / matches[0]
    if matches:
        raise UserError(f"run '{source}' is ambiguous in '{results}': expected one of {among(matches)}")
    if not names:
        raise UserError(f"run '{source}' does not exist, and '{results}' has no runs: give a directory or --results")
    close = difflib.get_close_matches(source, names, n=3, cutoff=0.3)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise UserError(f"unknown run '{source}': {hint}expected a directory, or a name or id in '{results}'")


def run_names(results: Path) -> list[str]:
    return sorted(p.parent.name for p in results.glob("*/plan.json"))


def among(names: list[str]) -> str:
    """Up to three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (", ".join(names[:3]) or "none") + more
