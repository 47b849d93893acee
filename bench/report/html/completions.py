"""The completions that the page shows side by side: a bounded choice of runs and items, as one JSON value.

Runs are chosen before anything is read, and the records of the others are never opened.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from bench.analysis.records import read_plan
from bench.analysis.runs import RunRecord
from bench.analysis.table import Table
from bench.foreign import parse_json
from bench.plan import registry
from bench.report.safe_text import bounded, json_block, visible
from bench.store.run_folder import CorruptRun, check_records, read_content
from bench.types import UserError

MAX_RUNS = 200  # whose records are read
MAX_BYTES = 8_000_000  # of all texts together, as they are written
SAMPLES = 1  # sampled completions of an item, besides the greedy one


class Strings:
    """Texts by number, each once: greedy completions of several methods are often the same."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.bytes = 0

    def number(self, text: str) -> int:
        if text not in self.numbers:
            self.numbers[text] = len(self.numbers)
            self.bytes += len(json_block(text))
        return self.numbers[text]


def choose_completions(
    tables: Sequence[tuple[Table, Sequence[RunRecord]]], num_items: int, num_seeds: int
) -> tuple[dict[str, Any], list[str]]:
    """Completions of the first items of each table and the first seeds of each method, as far as the limits allow.

    The first value is what the page's script reads, the second are sentences on what was left out.
    """
    most = num_seeds
    while most > 1 and sum(len(run_choice(t, r, most)) for t, r in tables) > MAX_RUNS:
        most -= 1
    strings, blocks, left = Strings(), [], MAX_RUNS
    share = MAX_BYTES // max(len(tables), 1)
    for table, records in tables:
        runs = run_choice(table, records, most)[: max(left, 0)]
        left -= len(runs)
        if runs:
            blocks.append(table_block(table, runs, num_items, strings, strings.bytes + share))
    said = [block_sentence(b) for b in blocks]
    shown = sum(b["runs_shown"] for b in blocks)
    every = sum(len({r.run_id for r in records}) for _, records in tables)
    rest = "; those of the others are in their folders" if shown < every else ""
    said.append(f"Completions of {shown} of {every} runs are in this file{rest}.")
    return {"strings": list(strings.numbers), "tables": blocks}, said


def run_choice(table: Table, records: Sequence[RunRecord], num_seeds: int) -> list[RunRecord]:
    """Runs of the first seeds of each method, in the table's order."""
    chosen = []
    for row in table.rows:
        runs = sorted({r.run_id: r for r in records if r.method == row.method}.values(), key=lambda r: r.seed)
        chosen += runs[:num_seeds]
    return chosen


def table_block(table: Table, runs: Sequence[RunRecord], num_items: int, strings: Strings, most: int) -> dict[str, Any]:
    """One table's items, prompts and completions; items end early where ``most`` bytes are reached."""
    judged, faults = {}, []
    for run in runs:
        try:
            check_records(Path(run.path))  # all digests: what is shown is what was judged
            judged[run.run_id] = last_items(run)
        except (CorruptRun, OSError, LookupError, TypeError, ValueError) as fault:
            faults.append(f"completions of {run.path} cannot be read: {fault}")
    runs = [run for run in runs if run.run_id in judged]
    ids = sorted(table.record.item_ids, key=natural_key)[:num_items]
    prompts, why = problems(table.record, ids)
    items: list[list[Any]] = []
    columns: list[dict[str, Any]] = [{"method": visible(r.method), "seed": r.seed, "items": []} for r in runs]
    for id in ids:
        if strings.bytes >= most:
            break
        prompt, demonstration = prompts.get(id, ("", ""))
        items.append([visible(id), strings.number(visible(prompt)), strings.number(visible(demonstration))])
        for run, column in zip(runs, columns):
            item = judged[run.run_id].get(id)
            draws = [] if item is None else [item["greedy"], *item["samples"][:SAMPLES]]
            column["items"].append([completion_numbers(draw, strings) for draw in draws])
    r = table.record
    name = f"{r.task}, level {r.level}, {r.comparison[:8]}"
    whole = {"name": visible(name), "items": items, "runs": columns, "num_items": len(r.item_ids), "notes": why}
    return {**whole, "runs_shown": len(runs), "faults": [visible(f) for f in faults]}


def last_items(run: RunRecord) -> dict[str, Mapping[str, Any]]:
    """The items of a run's last evaluation of its split, by id.  Lines that do not name the split are not parsed."""
    content = read_content(Path(run.path) / "items.jsonl") or b""
    word = json.dumps(run.split).encode()
    lines = (parse_json(line) for line in content.split(b"\n")[:-1] if word in line)
    return {line["id"]: line for line in lines if line["split"] == run.split}  # a later one replaces an earlier one


def natural_key(id: str) -> tuple[str, int]:
    """Sort key that takes the digits at the end of an id as a number."""
    head, _, tail = id.rpartition("/")
    return (head, int(tail)) if tail.isdecimal() and tail.isascii() and len(tail) < 18 else (id, -1)


def completion_numbers(record: Mapping[str, Any], strings: Strings) -> list[int]:
    """Numbers of beginning, end and reason, characters cut, 1 if right + 2 if it stopped by itself, tokens."""
    head, tail, cut = bounded(str(record["text"]))
    reason = visible(str(record["reason"])[:500])
    flags = bool(record["correct"]) + 2 * bool(record["stopped"])
    texts = (strings.number(head), strings.number(tail), strings.number(reason))
    return [*texts, cut, flags, int(record["tokens"])]


def problems(record: RunRecord, ids: Sequence[str]) -> tuple[dict[str, tuple[str, str]], str]:
    """Prompts and demonstrations by item id, made again from the task; or none, and the reason.

    Runs do not store their problems; generated ones are the same on every machine while the task's version is.
    """
    plan = read_plan(Path(record.path))
    if plan.data != "generated":
        return {}, "Prompts are not shown: the problems come from a data file, which runs do not copy."
    try:
        task = registry.task(record.task)
        version = registry.task_version(task, plan.level, plan.template)
        if version != plan.task_version:
            return {}, f"Prompts are not shown: the task is version {version} now, the runs had another."
        texts = generated(record.task, len(ids), record.level, record.template, plan.split_by)
    except UserError as error:
        return {}, f"Prompts are not shown: {error}."
    missing = [id for id in ids if id not in texts]
    return texts, "Prompts of some items are not known." if missing else ""


@cache
def generated(task: str, count: int, level: str, template: str, split_by: str) -> dict[str, tuple[str, str]]:
    """Prompts and demonstrations of the first test problems by id: tables of one task share them."""
    from tasks import common

    examples = common.load_examples(registry.task(task), "test", count, level, template, split_by=split_by)
    return {e.id: (e.prompt, e.demonstration.text) for e in examples}


def block_sentence(block: Mapping[str, Any]) -> str:
    """Which part of a table's completions the file holds."""
    seeds = len({run["seed"] for run in block["runs"]})
    faults = "".join(f" {fault}." for fault in block["faults"])
    return (
        f"{block['name']}: the first {len(block['items'])} of {block['num_items']} items, {seeds} "
        f"seed{'' if seeds == 1 else 's'} at most per method, the greedy completion and the first sample.{faults}"
    )
