"""One problem in one or two runs: prompt, gold completion, every completion with its verdict.

Completions, prompts and reasons are hostile text: they are shown neutral and quoted (``bench.report.safe_text``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.plan import registry
from bench.plan.data import Source, parse_columns
from bench.plan.data import data_digest as digest_of
from bench.plan.registry import nearest
from bench.report.run_view import View
from bench.report.safe_text import WIDTH, beside, folded, neutral, quoted, wrapped
from bench.store.run_folder import SELECTED, CorruptRun, read_json, read_lines
from bench.store.stored_run import corrupted
from bench.types import Example, UserError


@dataclass(frozen=True)
class Problem:
    """Prompt and gold completion, or in ``fault`` why they cannot be told."""

    prompt: str = ""
    gold: str = ""
    fault: str = ""


@dataclass(frozen=True)
class Judged:
    """The record of one item in one run: ``record`` is its line of items.jsonl, ``number`` counts from 0."""

    view: View
    split: str
    number: int
    record: Mapping[str, Any]


def records(found: View, split: str) -> list[dict[str, Any]]:
    """Lines of items.jsonl of a split's last evaluation; UserError for a split that the run has not.

    Where the last policy was the best on validation, its test split is what was judged as ``selected``.
    """
    if split == SELECTED and split not in found.splits and last_was_best(found.path):
        split = "test"
    if split not in found.splits:
        if not found.splits:
            raise UserError(f"run '{found.path.name}' has no evaluations yet")
        raise nearest(split, found.splits, "split of this run")
    fraction = found.splits[split][0]["fraction"]
    try:
        lines = read_lines(found.path / "items.jsonl")
    except CorruptRun as fault:
        raise corrupted(found.path, fault) from None
    return [line for line in lines if line["split"] == split and line["fraction"] == fraction]


def last_was_best(path: Path) -> bool:
    try:
        return read_json(path / "done.json").get("selection", {}).get("fraction") == 1.0
    except CorruptRun:
        return False


def judged(found: View, split: str, item: str) -> Judged:
    """An item by its number in the split (from 0) or its id; UserError that names the nearest valid choice."""
    lines = records(found, split)
    for number, line in enumerate(lines):
        if line["id"] == item:
            return Judged(found, split, number, line)
    if item.isdecimal() and int(item) < len(lines):
        return Judged(found, split, int(item), lines[int(item)])
    first = lines[0]["id"] if lines else "-"
    raise UserError(
        f"unknown item '{item}' of the {split} split of {found.path.name}: expected a number from 0 to "
        f"{len(lines) - 1} or an id such as {first}"
    )


def judged_in(views: Sequence[View], split: str, item: str) -> list[Judged]:
    """The same item in every one of these runs; UserError if a later one was not judged on it."""
    found = [judged(views[0], split, item)]
    name = found[0].record["id"]
    for other in views[1:]:
        lines = enumerate(records(other, split))
        same = [Judged(other, split, number, line) for number, line in lines if line["id"] == name]
        if not same:
            raise UserError(
                f"{other.path.name} was not judged on item {name} of {views[0].path.name}: "
                "expected two runs of one task, level and data"
            )
        found += same
    return found


# --- the problem -----------------------------------------------------------------------------------------------------


def problem(found: Judged) -> Problem:
    """Prompt and gold completion, made again from the plan: they are not stored with the run."""
    plan = found.view.plan
    name, expected = plan.task, plan.task_version
    for other in plan.others:
        if found.split == f"other:{other.task}":
            name, expected = other.task, other.version
    try:
        version = registry.task(name).version
    except UserError as error:
        return Problem(fault=str(error))
    if version != expected:
        return Problem(fault=f"task {name} is now version {version}, the run was judged by version {expected}")
    source = None
    if plan.data != "generated":
        source = data_source(found.view.env, plan.data_digest)
        if source is None:
            return Problem(fault=f"the data '{plan.data}' of the run is not found where its command had it")
    return next(
        (Problem(e.prompt, e.demonstration.text) for e in examples(found, source) if e.id == found.record["id"]),
        Problem(fault="the task does not make this problem any more"),
    )


def examples(found: Judged, source: Source | None) -> Sequence[Example]:
    """All problems of the item's split, not tokenised."""
    from bench.engine import splits
    from tasks.common import from_file

    plan = found.view.plan
    if found.split in ("val", "test", "selected"):
        rows = None if source is None else from_file(registry.task(plan.task), source, plan.template)
        kind = "val" if found.split == "val" else "test"
        return splits.own(plan, rows, kind, found.number + 1)
    return next((s.examples for s in splits.written(plan, source) if s.name == found.split), ())


def data_source(env: Mapping[str, Any], digest: str) -> Source | None:
    """The data that the run's command names, if it is still there and unchanged."""
    given: dict[str, str] = {}
    words = [str(word) for word in env.get("command", ())]
    for word, following in zip(words, [*words[1:], ""]):
        option, _, value = word.partition("=")
        if option in ("--data", "--columns"):
            given[option] = value or following
    if "--data" not in given or not Path(given["--data"]).exists():
        return None
    source = Source(given["--data"], parse_columns(given.get("--columns")), "--skip-broken" in words)
    return source if digest_of(source) == digest else None


# --- text and JSON ---------------------------------------------------------------------------------------------------


def as_dict(found: Sequence[Judged], told: Problem) -> dict[str, Any]:
    """For JSON: the problem once, the completions by run."""
    return {
        "id": found[0].record["id"],
        "split": found[0].split,
        "number": found[0].number,
        "prompt": told.prompt or None,
        "gold": told.gold or None,
        "fault": told.fault or None,
        "runs": [
            {
                **{"run": j.view.path.name, "path": str(j.view.path), "method": j.view.plan.method},
                **{"seed": j.view.plan.seed, "greedy": j.record["greedy"], "samples": j.record["samples"]},
            }
            for j in found
        ],
    }


def lines(found: Sequence[Judged], told: Problem) -> list[str]:
    """Text: problem and gold, then the completions of one run, or of two side by side."""
    first = found[0]
    parts = [f"Item {neutral(first.record['id'])}, number {first.number} of the {first.split} split"]
    if told.fault:
        parts += [f"Prompt and gold completion cannot be shown: {neutral(told.fault)}"]
    else:
        parts += ["Prompt", *quoted(told.prompt, WIDTH), "Gold completion", *quoted(told.gold, WIDTH)]
    width = WIDTH if len(found) == 1 else (WIDTH - 2) // 2
    heads = [wrapped(f"{j.view.plan.method}, seed {j.view.plan.seed} ({j.view.path.name})", width) for j in found]
    parts += ["", *beside(heads, [width] * len(heads))]
    for number in range(max(1 + len(j.record["samples"]) for j in found)):
        columns = [completion(j.record, number, width) for j in found]
        parts += ["", *beside(columns, [width] * len(columns))]
    return parts


def completion(record: Mapping[str, Any], number: int, width: int) -> list[str]:
    """The greedy completion (number 0) or a sample: verdict, reason, text; nothing beyond the last sample."""
    every = [record["greedy"], *record["samples"]]
    if number >= len(every):
        return []
    one = every[number]
    name = "greedy" if number == 0 else f"sample {number}"
    end = "" if one.get("stopped", True) else ", cut at the limit"
    verdict = f"{name}: {'RIGHT' if one['correct'] else 'wrong'}, {one['reason']} ({one['tokens']} tokens{end})"
    return [*folded(verdict.replace("\n", "\\n"), width), *quoted(one["text"], width)]
