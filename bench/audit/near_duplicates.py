"""How held out held-out problems are: which share a key with a training problem, and which rows contradict each other.

Splits are those that a run draws with the same sizes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.models import locate, model_settings
from bench.plan.spec import Evaluation
from bench.study.groups import check_level, check_rows
from bench.types import Example, Task
from tasks import common
from tasks._near import Grouped

SAME = "same problem"
Problems = Mapping[str, Sequence[Mapping[str, Any]]]  # by split


def split_sizes(train_size: int | None) -> dict[str, int]:
    """Problems of each split: the defaults of a run with the embedded model."""
    sizes = Evaluation()
    train = train_size or model_settings(locate("tiny").path)["train_size"]
    return {"train": train, "val": sizes.val_items, "test": sizes.test_items, "ood": sizes.ood_items}


def of_level(task: Task, level: str, train_size: int | None = None, split_by: str = "") -> dict[str, Any]:
    """The count for the generated problems of a level; UserError if the key has too few classes to split by."""
    if split_by:
        check_level(task, level, split_by)
    sizes = split_sizes(train_size)
    levels = dict.fromkeys(("train", "val", "test"), level)
    if level in task.harder:
        levels["ood"] = task.harder[level]
    drawn = {}
    for split, of_split in levels.items():
        stream = common.problems(task, "test" if split == "ood" else split, of_split, split_by=split_by)
        drawn[split] = [next(stream) for _ in range(sizes[split])]
    return {"task": task.name, "level": level, **counted(task, drawn, split_by)}


def of_rows(
    task: Task, rows: Iterable[Example], name: str, train_size: int | None = None, split_by: str = ""
) -> dict[str, Any]:
    """The count for the rows of a data file of this name; UserError if the key has too few classes to split by."""
    by_split = common.divided(task, rows, split_by)
    if split_by:
        check_rows(task, by_split, name, split_by)
    sizes = split_sizes(train_size)
    drawn = {split: [e.problem for e in common.in_order(by_split, split, sizes[split])] for split in by_split}
    return counted(task, drawn, split_by)


def keys_of(task: Task, problem: Mapping[str, Any]) -> dict[str, str]:
    """Every key of a problem by name, its identity among them."""
    return {SAME: task.key(problem)} | (task.near_keys(problem) if isinstance(task, Grouped) else {})


def counted(task: Task, drawn: Problems, split_by: str) -> dict[str, Any]:
    """For each key and split: problems whose key a training problem has too, classes, and problems of the largest one.

    Names of keys may differ between splits, as levels may have different ones.
    """
    keys = {split: [keys_of(task, problem) for problem in problems] for split, problems in drawn.items()}
    train: dict[str, set[str]] = defaultdict(set)
    for of_problem in keys["train"]:
        for name, key in of_problem.items():
            train[name].add(key)
    found: dict[str, dict[str, dict[str, int]]] = defaultdict(dict)
    for split in (split for split in keys if split != "train"):
        for name in keys[split][0] if keys[split] else ():
            classes = Counter(of_problem[name] for of_problem in keys[split])
            shared = sum(count for key, count in classes.items() if key in train[name])
            largest = max(classes.values())
            found[name][split] = {"in_train": shared, "classes": len(classes), "largest": largest}
    return {"split_by": split_by, "sizes": {split: len(problems) for split, problems in drawn.items()}, "keys": found}


def contradictions(task: Task, rows: Sequence[tuple[int, Example]]) -> list[dict[str, int]]:
    """Rows, by number, with the prompt of an earlier row and an answer that it refuses, or the other way round."""
    first: dict[str, tuple[int, Example]] = {}
    found = []
    for number, example in rows:
        earlier, other = first.setdefault(" ".join(example.prompt.split()), (number, example))
        answers = (other.problem, example.demonstration.text), (example.problem, other.demonstration.text)
        if earlier != number and not all(task.verify(problem, text).correct for problem, text in answers):
            found.append({"row": number, "contradicts": earlier})
    return found


def near_text(result: Mapping[str, Any]) -> str:
    """The count as a table, and what splitting by a key comes to."""
    sizes, keys, split_by = result["sizes"], result["keys"], result["split_by"]
    held_out = [split for split in sizes if split != "train"]
    where = f"{result['task']}, level {result['level']}, " if "level" in result else ""
    drawn = ", ".join(f"{number} {split}" for split, number in sizes.items())
    lines = [f"{where}as a run draws them: {drawn} problems", "With the key of a training problem (classes, largest):"]
    width = max(map(len, keys), default=0)
    rows = [("", held_out), *((name, [cell(by_split.get(s)) for s in held_out]) for name, by_split in keys.items())]
    lines += [f"{name:<{width}}" + "".join(f"  {text:>16}" for text in texts) for name, texts in rows]
    if split_by:
        own = [keys[split_by][split] for split in ("val", "test") if split in keys.get(split_by, {})]
        shared, number = sum(of_split["in_train"] for of_split in own), sizes["val"] + sizes["test"]
        lines.append(f"Split by {split_by}: {shared} of {number} problems of val and test share theirs with training.")
    return "\n".join(lines)


def cell(counts: Mapping[str, int] | None) -> str:
    return "-" if counts is None else f"{counts['in_train']} ({counts['classes']}, {counts['largest']})"
