"""One problem in one or two runs: prompt, gold completion, every completion with its verdict.

Completions, prompts and reasons are hostile text: they are shown neutral and quoted (``bench.report.safe_text``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.foreign import neutral
from bench.plan import registry
from bench.plan.data import Source, parse_columns
from bench.plan.data import data_digest as digest_of
from bench.plan.registry import nearest
from bench.report.run_view import View
from bench.report.safe_text import WIDTH, beside, folded, quoted, wrapped
from bench.store.run_folder import SELECTED, CorruptRun, read_json, read_lines
from bench.store.stored_run import corrupted
from bench.types import Example, UserError


@dataclass(frozen=True)
class Problem:
    """Prompt and gold completion, or in ``fault`` why they cannot be shown."""

    prompt: str = ""
    gold: str = ""
    fault: str = ""


@dataclass(frozen=True)
class JudgedItem:
    """The record of one item in one run: ``record`` is its line of items.jsonl, ``number`` counts from 0."""

    view: View
    split: str
    number: int
    record: Mapping[str, Any]


def item_records(view: View, split: str) -> list[dict[str, Any]]:
    """Lines of items.jsonl of a split's last evaluation; UserError for a split that the run does not have.

    Where the last policy was the best on validation, its test split also counts as ``selected``.
    """
    if split == SELECTED and split not in view.splits and last_was_best(view.path):
        split = "test"
    if split not in view.splits:
        if not view.splits:
            raise UserError(f"run '{view.path.name}' has no evaluations yet")
        raise nearest(split, view.splits, "split of this run")
    fraction = view.splits[split][0]["fraction"]
    try:
        lines = read_lines(view.path / "items.jsonl")
    except CorruptRun as fault:
        raise corrupted(view.path, fault) from None
    return [line for line in lines if line["split"] == split and line["fraction"] == fraction]


def last_was_best(path: Path) -> bool:
    try:
        return read_json(path / "done.json").get("selection", {}).get("fraction") == 1.0
    except CorruptRun:
        return False


def judged_in(views: Sequence[View], split: str, item: str) -> list[JudgedItem]:
    """An item of the first run by its number in the split (from 0) or its id, in every one of these runs.

    UserError where there is no such item, or a later run was not judged on it.
    """
    first, *others = views
    lines = item_records(first, split)
    ids = [line["id"] for line in lines]
    if item not in ids and not (item.isdecimal() and int(item) < len(ids)):
        raise UserError(
            f"unknown item '{item}' of the {split} split of {first.path.name}: expected a number from 0 to "
            f"{len(ids) - 1} or an id such as {ids[0] if ids else '-'}"
        )
    number = ids.index(item) if item in ids else int(item)
    judged = [JudgedItem(first, split, number, lines[number])]
    for other in others:
        records = enumerate(item_records(other, split))
        same = [JudgedItem(other, split, n, record) for n, record in records if record["id"] == ids[number]]
        if not same:
            raise UserError(
                f"{other.path.name} was not judged on item {ids[number]} of {first.path.name}: "
                "expected two runs of one task, level and data"
            )
        judged += same
    return judged


# --- the problem -----------------------------------------------------------------------------------------------------


def item_problem(judged: JudgedItem) -> Problem:
    """Prompt and gold completion, made again from the plan, because runs do not store them."""
    plan = judged.view.plan
    name, level, expected = plan.task, plan.level, plan.task_version
    for other in plan.others:
        if judged.split == f"other:{other.task}":
            name, level, expected = other.task, other.level, other.version
    try:
        version = registry.task_version(registry.task(name), level, plan.template)
    except UserError as error:
        return Problem(fault=str(error))
    if version != expected:
        return Problem(fault=f"task {name} is now version {version}, the run was judged by version {expected}")
    source = None
    if plan.data != "generated":
        source = data_source(judged.view.env, plan.data_digest)
        if source is None:
            return Problem(fault=f"the data '{plan.data}' of the run is not found where its command had it")
    name = judged.record["id"]
    problems = (Problem(e.prompt, e.demonstration.text) for e in split_examples(judged, source) if e.id == name)
    return next(problems, Problem(fault="the task does not make this problem any more"))


def split_examples(judged: JudgedItem, source: Source | None) -> Sequence[Example]:
    """All problems of the item's split, not tokenised."""
    from bench.engine import splits
    from tasks.common import from_file

    plan = judged.view.plan
    if judged.split in ("val", "test", "selected"):
        rows = None if source is None else from_file(registry.task(plan.task), source, plan.template, plan.split_by)
        kind = "val" if judged.split == "val" else "test"
        return splits.own(plan, rows, kind, judged.number + 1)
    return next((s.examples for s in splits.written(plan, source) if s.name == judged.split), ())


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


def item_as_dict(judged: Sequence[JudgedItem], told: Problem) -> dict[str, Any]:
    """For JSON: the problem once, the completions by run."""
    return {
        "id": judged[0].record["id"],
        "split": judged[0].split,
        "number": judged[0].number,
        "prompt": told.prompt or None,
        "gold": told.gold or None,
        "fault": told.fault or None,
        "runs": [
            {
                **{"run": j.view.path.name, "path": str(j.view.path), "method": j.view.plan.method},
                **{"seed": j.view.plan.seed, "greedy": j.record["greedy"], "samples": j.record["samples"]},
            }
            for j in judged
        ],
    }


def item_lines(judged: Sequence[JudgedItem], told: Problem) -> list[str]:
    """Lines of text: problem and gold completion, then the completions of one run, or of two side by side."""
    first = judged[0]
    parts = [f"Item {neutral(first.record['id'])}, number {first.number} of the {first.split} split"]
    if told.fault:
        parts += [f"Prompt and gold completion cannot be shown: {neutral(told.fault)}"]
    else:
        parts += ["Prompt", *quoted(told.prompt, WIDTH), "Gold completion", *quoted(told.gold, WIDTH)]
    width = WIDTH if len(judged) == 1 else (WIDTH - 2) // 2
    heads = [wrapped(f"{j.view.plan.method}, seed {j.view.plan.seed} ({j.view.path.name})", width) for j in judged]
    parts += ["", *beside(heads, [width] * len(heads))]
    for number in range(max(1 + len(j.record["samples"]) for j in judged)):
        columns = [completion_lines(j.record, number, width) for j in judged]
        parts += ["", *beside(columns, [width] * len(columns))]
    return parts


def completion_lines(record: Mapping[str, Any], number: int, width: int) -> list[str]:
    """The greedy completion (number 0) or a sample: verdict, reason, text; nothing beyond the last sample."""
    every = [record["greedy"], *record["samples"]]
    if number >= len(every):
        return []
    one = every[number]
    name = "greedy" if number == 0 else f"sample {number}"
    end = "" if one.get("stopped", True) else ", cut at the limit"
    verdict = f"{name}: {'RIGHT' if one['correct'] else 'wrong'}, {one['reason']} ({one['tokens']} tokens{end})"
    return [*folded(verdict.replace("\n", "\\n"), width), *quoted(one["text"], width)]
