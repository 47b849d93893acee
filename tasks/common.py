"""What all tasks share: hash-derived seeds, splits that are disjoint by content, answer extraction, loading."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.exported import is_exported, problem_of
from bench.plan.cells import is_missing, plain, text_cell
from bench.plan.data import Source, read_rows, rename_columns
from bench.seeds import derive_seed as derive_seed  # for task files: they need no other import
from bench.types import Demonstration, Example, Task, UserError, Verdict
from tasks._near import near_key

# A problem belongs to the split whose share of [0, 1) holds the hash of its content.  A problem can therefore
# never stand in two splits, whatever the seed, the level or the number of problems drawn.
SPLITS: dict[str, tuple[float, float]] = {
    "pretrain": (0.0, 0.4),
    "train": (0.4, 0.7),
    "val": (0.7, 0.8),
    "test": (0.8, 1.0),
}
FORMAT_REWARD = 0.1  # of an answer that is wrong or unreadable
MAX_ATTEMPTS = 20_000  # consecutive draws without a new problem of the split: the level is exhausted


def split_of(task: str, key: str) -> str:
    """The split that a problem belongs to, by content alone."""
    place = derive_seed("split", task, key) / 2**63
    return next(name for name, (low, high) in SPLITS.items() if low <= place < high)


def place_of(task: Task, problem: Mapping[str, Any], split_by: str = "") -> str:
    """The split of a problem: by its content, or by a key that near duplicates share; empty if it may be in none.

    With a key no two splits share its values.  What the pretraining split holds by content is left out of validation
    and test then: the embedded model has seen it.
    """
    by_content = split_of(task.name, task.key(problem))
    if not split_by:
        return by_content
    by_key = split_of(task.name, f"{split_by}:{near_key(task, problem, split_by)}")
    if by_content != "pretrain":
        return by_key
    return "pretrain" if by_key in ("pretrain", "train") else ""


def problems(task: Task, split: str, level: str, seed: int = 0, split_by: str = "") -> Iterator[dict[str, Any]]:
    """Distinct problems of one split, in a fixed order; raises UserError when the level has no more.

    ``split_by`` names a key that no two splits shall share (``place_of``).
    """
    if split not in SPLITS:
        raise UserError(f"unknown split '{split}': expected one of {', '.join(SPLITS)}")
    if level not in task.levels:
        raise UserError(f"unknown level '{level}' of task {task.name}: expected one of {', '.join(task.levels)}")
    seen: set[str] = set()
    misses = 0
    index = 0
    while misses < MAX_ATTEMPTS:
        problem = task.generate(random.Random(derive_seed(task.name, level, split, seed, index)), level)
        index += 1
        key = task.key(problem)
        if key in seen or place_of(task, problem, split_by) != split:
            misses += 1
            continue
        misses = 0
        seen.add(key)
        yield problem
    raise UserError(f"task {task.name}, level {level}: only {len(seen)} distinct problems in split {split}")


def example(task: Task, problem: Mapping[str, Any], template: str, id: str) -> Example:
    """An Example with its prompt and demonstration rendered in one template.

    A blank at the end of a prompt begins the demonstration instead.  Most tokenizers join a blank to the next word, so
    that after a final blank no word would stand as the model knows it.
    """
    prompt, demonstration = task.prompt(problem, template), task.demonstrate(problem, template)
    blanks = prompt[len(unfinished(prompt, template)) :]
    pieces = [
        blanks + piece if i == 0 else piece for i, piece in enumerate((*demonstration.steps, demonstration.ending))
    ]
    return Example(id, unfinished(prompt, template), Demonstration(tuple(pieces[:-1]), pieces[-1]), problem)


def unfinished(prompt: str, template: str) -> str:
    """A prompt that is continued right after its end, without final blanks; a chat turn is closed, and stays."""
    return prompt if template == "chat" else prompt.rstrip(" ")


def reworded(task: Task, examples: Iterable[Example], template: str) -> list[Example]:
    """The same problems, demonstrations and ids under other prompts."""
    return [replace(e, prompt=unfinished(task.reword(e.problem, template), template)) for e in examples]


def harder_level(task: Task, level: str) -> str:
    """The level of the out-of-distribution split; UserError when there is none."""
    if level not in task.harder:
        known = ", ".join(task.harder) or "none"
        raise UserError(f"level '{level}' of task {task.name} has no harder level: levels with one are {known}")
    return task.harder[level]


def load_examples(
    task: Task, split: str, count: int, level: str, template: str, seed: int = 0, split_by: str = ""
) -> list[Example]:
    """The first ``count`` examples of a split; the same call gives the same examples on every machine."""
    if template not in task.templates:
        raise UserError(f"unknown template '{template}' of task {task.name}: expected {', '.join(task.templates)}")
    source = problems(task, split, level, seed, split_by)
    return [example(task, next(source), template, f"{task.name}/{level}/{split}/{i}") for i in range(count)]


def problems_of(
    task: Task, source: Source | Path | str, template: str
) -> tuple[list[tuple[int, Example]], list[tuple[int, str]]]:
    """Examples of a source by row number (from 0), and the rows that the task cannot read, each with the reason."""
    origin = source if isinstance(source, Source) else Source(str(source))
    good, broken = [], []
    rows = read_rows(origin)
    moved = {column for _, column in origin.columns}
    # A column that some rows have is empty in the others: JSON lines leave out what tables hold as null.
    empty = {name: None for row in rows for name in row if name not in moved}
    for number, row in enumerate(rows):
        try:
            row = rename_columns(row, origin.columns)
            problem = problem_of(task, row) if is_exported(row) else task.from_row({**empty, **row})
            good.append((number, example(task, problem, template, f"{task.name}/{origin.name}/{number}")))
        except (ValueError, TypeError, KeyError) as error:
            broken.append((number, str(error)))
    return good, broken


def from_file(task: Task, source: Source | Path | str, template: str, split_by: str = "") -> dict[str, list[Example]]:
    """Examples of a source by split (decided by content or key, so never in two); repeated problems are dropped.

    UserError names the first unreadable row, unless the source says that such rows are skipped.
    """
    good, broken = problems_of(task, source, template)
    if broken and not (isinstance(source, Source) and source.skip_broken):
        number, reason = broken[0]
        more = f"; {len(broken) - 1} more rows are unreadable" if len(broken) > 1 else ""
        location = source.location if isinstance(source, Source) else source
        raise UserError(f"data file '{location}': row {number} (counted from 0): {reason}{more}")
    return divided(task, [built for _, built in good], split_by)


def divided(task: Task, examples: Iterable[Example], split_by: str = "") -> dict[str, list[Example]]:
    """Examples of data by split, each problem once; what the pretraining split would hold is trained on."""
    by_split: dict[str, list[Example]] = {"train": [], "val": [], "test": []}
    seen: set[str] = set()
    for built in examples:
        key = task.key(built.problem)
        if key not in seen:
            seen.add(key)
            if split := place_of(task, built.problem, split_by):
                by_split["train" if split == "pretrain" else split].append(built)
    return by_split


def in_order(by_split: Mapping[str, list[Example]], split: str, count: int) -> list[Example]:
    """The first examples of a split of data, in an order that is the same for every run."""
    chosen = list(by_split[split])
    random.Random(derive_seed("rows", split)).shuffle(chosen)
    return chosen[:count]


def listed(parts: Iterable[object], last: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *others, final = map(str, parts)
    return f"{', '.join(others)} {last} {final}" if others else final


def last_answer(text: str) -> str | None:
    """Content of the last complete <answer>...</answer> pair, None if there is none; linear in the text."""
    # Two searches from the end: a regular expression would take quadratic time on a text of many opening tags.
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, end) if end >= 0 else -1
    return text[start + len("<answer>") : end] if start >= 0 else None


def judge(text: str, fault_of: Callable[[str], str]) -> Verdict:
    """Verdict on a completion by its last answer.

    ``fault_of`` says what is wrong with the answer, in an empty text if nothing is.  It raises ValueError, with the
    reason, for an answer that cannot be read.
    """
    answer = last_answer(text)
    if answer is None:
        return Verdict(False, 0.0, "no <answer>...</answer> found")
    try:
        fault = fault_of(answer)
    except ValueError as error:
        fault = f"unreadable answer: {error}"
    return Verdict(False, FORMAT_REWARD, fault) if fault else Verdict(True, 1.0, "correct")


def dialogue(question: str, template: str) -> str:
    """A question alone (chat), or as a plain prompt for models without a chat template, ending in an open think tag."""
    if template == "chat":
        return question
    return (
        "This is a dialogue between a User and an Assistant. The Assistant first reasons about the question and then "
        f"states the answer.\nUser: {question}\nAssistant: I will go step by step.\n<think> "
    )


def conversation(question: str, template: str) -> str:
    """``dialogue`` with other words around the question."""
    if template == "chat":
        return question
    return (
        "A person asks a question. The reply thinks it through first and gives the answer at the end.\n"
        f"Question: {question}\nReply: Let me think about it.\n<think> "
    )


def texts_of_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """The texts of a row that its problem keeps: prompt, and steps and ending if the answer begins with the hint."""
    texts: dict[str, Any] = {}
    answer, steps = "" if is_missing(row.get("answer")) else text_cell(row, "answer"), hints_of_row(row)
    if steps and answer.startswith("".join(steps)):
        texts |= {"steps": steps, "ending": answer.removeprefix("".join(steps))}
    if not is_missing(row.get("question")):
        texts["prompt"] = text_cell(row, "question")
    return texts


def hints_of_row(row: Mapping[str, Any]) -> list[str]:
    """The steps in column ``hint``, none if it is missing; ValueError if it is no list of texts."""
    hint = plain(row.get("hint"))
    if is_missing(hint):
        return []
    if not isinstance(hint, (list, tuple)) or not all(isinstance(step, str) for step in hint):
        raise ValueError("column 'hint' must be a list of steps")
    return list(hint)
