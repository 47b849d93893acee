"""The files of each format that `bench tasks export` writes: rows, and modules that ask the task for verdicts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.exported import VERSION_COLUMN
from bench.types import Example, Task
from tasks.common import load_examples

Row = dict[str, Any]


@dataclass(frozen=True)
class Export:
    """What is exported: ``count`` items of each split, as prompts of one template."""

    task: Task
    level: str
    template: str
    splits: tuple[str, ...]
    count: int
    max_new_tokens: int

    @property
    def name(self) -> str:
        """Name of the task elsewhere and stem of the files: letters, digits and underscores."""
        return re.sub(r"\W", "_", f"bench_{self.task.name}_{self.level}", flags=re.ASCII)

    @property
    def summary(self) -> str:
        return (
            f"bench task {self.task.name} (version {self.task.version}), level {self.level}, "
            f"template {self.template}, up to {self.max_new_tokens} new tokens"
        )

    def examples(self, split: str) -> list[Example]:
        return load_examples(self.task, split, self.count, self.level, self.template)

    def rows(self, split: str) -> list[Row]:
        return item_rows(self.task, self.examples(split))


# --- rows ----------------------------------------------------------------------------------------------------


def item_rows(task: Task, examples: Sequence[Example]) -> list[Row]:
    """One row per item; the problem is JSON text, so that every task has the same columns."""
    return [
        {
            "id": e.id,
            "task": task.name,
            VERSION_COLUMN: task.version,
            "prompt": e.prompt,
            "demonstration": e.demonstration.text,
            "problem": json.dumps(e.problem),
        }
        for e in examples
    ]


def turns(chosen: Export, row: Mapping[str, Any]) -> Row:
    """A row as TRL's trainers read it: prompt and completion, as turns with the template "chat"."""
    prompt, completion = row["prompt"], row["demonstration"]
    if chosen.template == "chat":
        prompt, completion = turn("user", prompt), turn("assistant", completion)
    return {"prompt": prompt, "completion": completion, "problem": row["problem"], "id": row["id"]}


def turn(role: str, text: str) -> list[Row]:
    return [{"role": role, "content": text}]


def verl_row(row: Mapping[str, Any], split: str, index: int) -> Row:
    """A row in the columns of verl's data sets; its ground truth is the problem as JSON text."""
    return {
        "data_source": f"bench/{row['task']}",
        "prompt": turn("user", row["prompt"]),
        "ability": row["task"],
        "reward_model": {"style": "rule", "ground_truth": row["problem"]},
        "extra_info": {"split": split, "index": index, "id": row["id"], "answer": row["demonstration"]},
    }


def jsonl(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def table_file(rows: Sequence[Row], as_stream: bool = False) -> bytes:
    """The rows as parquet, or as an Arrow stream, which is what the library ``datasets`` saves."""
    import pyarrow as pa
    from pyarrow import parquet

    table, buffer = pa.Table.from_pylist(list(rows)), pa.BufferOutputStream()
    if as_stream:
        with pa.ipc.new_stream(buffer, table.schema) as stream:
            stream.write_table(table)
    else:
        parquet.write_table(table, buffer)
    return buffer.getvalue().to_pybytes()


# --- formats: pairs of file name and content --------------------------------------------------------------------

LM_EVAL_TASK = """\
# {summary}; written by `bench tasks export`.
task: {name}
custom_dataset: !function {name}.load
test_split: test
num_fewshot: 0
output_type: generate_until
doc_to_text: prompt
doc_to_target: demonstration
target_delimiter: ""
generation_kwargs:
  until: []  # greedy until the end-of-sequence token
  max_gen_toks: {tokens}
  do_sample: false
process_results: !function {name}.process_results
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: reward, aggregation: mean, higher_is_better: true}}
metadata:
  version: {version}
"""
LM_EVAL_MODULE = '''\
"""Items and verdicts for lm-eval: {summary}; written by `bench tasks export`."""

from pathlib import Path

from bench.exported import items, judge


def load(**settings):
    """The items as lm-eval wants them; its settings change nothing."""
    from datasets import Dataset

    return {{"test": Dataset.from_list(items(Path(__file__).with_suffix(".jsonl")))}}


def process_results(doc, results):
    """The task's own verdict of one completion."""
    verdict = judge("{task}", {version}, doc["problem"], results[0])
    return {{"acc": float(verdict.correct), "reward": verdict.reward}}
'''
TRL_MODULE = '''\
"""Reward functions for TRL: {summary}; written by `bench tasks export`."""

from bench.exported import judge


def reward(completions, problem, **columns):
    """The task's training rewards, one per completion."""
    return [judge("{task}", {version}, p, c).reward for p, c in zip(problem, completions, strict=True)]


def accuracy(completions, problem, **columns):
    """1.0 for each completion that is right, else 0.0."""
    return [float(judge("{task}", {version}, p, c).correct) for p, c in zip(problem, completions, strict=True)]
'''
VERL_MODULE = '''\
"""Reward function for verl: {summary}; written by `bench tasks export`."""

from bench.exported import judge


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **settings):
    """The task's training reward (score), and whether the completion is right (acc)."""
    verdict = judge("{task}", {version}, ground_truth, solution_str)
    return {{"score": verdict.reward, "acc": verdict.correct}}
'''


def filled(text: str, chosen: Export) -> str:
    return text.format(
        summary=chosen.summary,
        name=chosen.name,
        task=chosen.task.name,
        version=chosen.task.version,
        tokens=chosen.max_new_tokens,
    )


def lm_eval(chosen: Export) -> Iterator[tuple[str, str]]:
    """An lm-eval task: its YAML, a module for items and verdicts, and the items."""
    yield f"{chosen.name}.yaml", filled(LM_EVAL_TASK, chosen)
    yield f"{chosen.name}.py", filled(LM_EVAL_MODULE, chosen)
    yield f"{chosen.name}.jsonl", jsonl(chosen.rows(chosen.splits[0]))


def trl(chosen: Export) -> Iterator[tuple[str, str]]:
    """A module with reward functions, and prompts with completions and problems."""
    yield f"{chosen.name}.py", filled(TRL_MODULE, chosen)
    yield f"{chosen.name}.jsonl", jsonl([turns(chosen, row) for row in chosen.rows(chosen.splits[0])])


def datasets(chosen: Export) -> Iterator[tuple[str, str | bytes]]:
    """A folder for ``datasets.load_from_disk``, laid out as that library saves one."""
    name = "data-00000-of-00001.arrow"
    yield "dataset_dict.json", json.dumps({"splits": list(chosen.splits)})
    for split in chosen.splits:
        state: Row = {
            "_data_files": [{"filename": name}],
            "_fingerprint": f"{chosen.name}-{chosen.template}-{split}-{chosen.count}-v{chosen.task.version}",
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": split,
        }
        yield f"{split}/state.json", json.dumps(state)
        yield f"{split}/dataset_info.json", json.dumps({"description": chosen.summary})
        yield f"{split}/{name}", table_file(chosen.rows(split), as_stream=True)


def parquet_files(chosen: Export) -> Iterator[tuple[str, bytes]]:
    """One parquet file per split, for ``datasets.load_dataset(folder)`` and for pandas."""
    for split in chosen.splits:
        yield f"{split}.parquet", table_file(chosen.rows(split))


def verl(chosen: Export) -> Iterator[tuple[str, str | bytes]]:
    """One parquet file per split in verl's columns, and a module with its reward function."""
    yield f"{chosen.name}.py", filled(VERL_MODULE, chosen)
    for split in chosen.splits:
        table = [verl_row(row, split, index) for index, row in enumerate(chosen.rows(split))]
        yield f"{split}.parquet", table_file(table)


FORMATS: dict[str, Callable[[Export], Iterator[tuple[str, Any]]]] = {
    "lm-eval": lm_eval,
    "trl": trl,
    "datasets": datasets,
    "parquet": parquet_files,
    "verl": verl,
}
ONE_SPLIT = {"lm-eval": "test", "trl": "train"}  # and the one that is taken unless another is asked for
