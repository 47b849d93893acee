"""Claims about stored runs: a single one, or a file of claims with the verdict expected of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.analysis.claim_grammar import Claim, parse_claim
from bench.analysis.claims import Answer, answer_claim
from bench.analysis.runs import RunRecord
from bench.plan.registry import nearest
from bench.stats.power import REFUTED, SUPPORTED, UNDERPOWERED
from bench.store.run_folder import finished_runs, read_lines
from bench.store.stored_run import warn_corrupt
from bench.types import UserError

CODES = {SUPPORTED: 0, REFUTED: 1, UNDERPOWERED: 2}
KEYS = ("claim", "where", "expect", "results", "comparison")
ReadRuns = Callable[[Path, str], list[RunRecord]]


@dataclass(frozen=True)
class Entry:
    """One claim of a file: where its sentence stands, and the verdict that it must have."""

    claim: Claim
    where: str
    expect: str
    results: Path
    comparison: str | None


def claim_records(results: Path, split: str) -> list[RunRecord]:
    """Sound runs of a folder with this split, the others are named on standard error.

    UserError for an empty folder or an unknown split.
    """
    from bench.analysis.records import load_results

    if not results.is_dir():
        raise UserError(f"results folder '{results}' does not exist: run 'bench run' first or give --results")
    good, bad = load_results(results, split)
    if not good:
        raise no_runs_error(results, split, bad)
    warn_corrupt(bad)
    return good


def no_runs_error(results: Path, split: str, bad: Sequence[tuple[Path, str]]) -> UserError:
    """Why a folder has no run to test on."""
    if bad:
        return UserError(f"no sound run in '{results}': for example '{bad[0][0].name}' is corrupted, {bad[0][1]}")
    paths, _ = finished_runs(results)
    if not paths:
        return UserError(f"no finished run in '{results}': run 'bench run' first or give --results")
    known = {e["split"] for path in paths for e in read_lines(path / "evals.jsonl")}
    return nearest(split, known, f"split of the runs in '{results}'")


def evaluate_claim(
    claim: Claim, results: Path, comparison: str | None = None, read: ReadRuns = claim_records
) -> Answer:
    """The answer to a claim by the runs of a folder, of one comparison if its beginning is given."""
    runs = read(results, claim.split)
    if comparison is not None:
        chosen = [r for r in runs if r.comparison.startswith(comparison)]
        if not chosen:
            raise nearest(comparison, {r.comparison for r in runs}, "comparison of these runs")
        runs = chosen
    return answer_claim(claim, runs)


def read_claims(path: Path, results: Path) -> list[Entry]:
    """The claims of a YAML file: a list of {claim, where, expect} with optional results and comparison.

    Folders of ``results`` are relative to the file.  UserError names the entry that is malformed.
    """
    import yaml

    try:
        items = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise UserError(f"claims file '{path}' cannot be read: {error}") from None
    except RecursionError:
        raise UserError(f"claims file '{path}' is nested too deep: expected a list of entries") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"claims file '{path}' is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(items, list) or not items:
        raise UserError(f"claims file '{path}': expected a list of entries with claim, where and expect")
    return [read_entry(path, number, item, results) for number, item in enumerate(items, 1)]


def read_entry(path: Path, number: int, item: Any, results: Path) -> Entry:
    """One entry of a file."""
    place = f"claims file '{path}', entry {number}"
    if not isinstance(item, dict) or not all(isinstance(value, str) for value in item.values()):
        raise UserError(f"{place}: expected claim, where and expect, each a text")
    for key in item:
        if key not in KEYS:
            raise nearest(str(key), KEYS, f"key of {place}")
    for key in KEYS[:3]:
        if key not in item:
            raise UserError(f"{place}: '{key}' is missing, expected claim, where and expect")
    if item["expect"] not in CODES:
        raise nearest(item["expect"], CODES, f"expect of {place}")
    try:
        claim = parse_claim(item["claim"])
    except UserError as error:
        raise UserError(f"{place}: {error}") from None
    folder = path.parent / item["results"] if "results" in item else results
    return Entry(claim, item["where"], item["expect"], folder, item.get("comparison"))


def evaluate_file(path: Path, results: Path) -> list[tuple[Entry, Answer]]:
    """Every entry of a file with its answer; UserError names the entry that cannot be tested."""
    read = cache(claim_records)  # many claims are about the same runs
    answers = []
    for number, item in enumerate(read_claims(path, results), 1):
        try:
            answers.append((item, evaluate_claim(item.claim, item.results, item.comparison, read)))
        except UserError as error:
            raise UserError(f"claims file '{path}', entry {number} ({item.claim.text}): {error}") from None
    return answers
