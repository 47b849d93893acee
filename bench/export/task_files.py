"""`bench tasks export`: a task's items for other programs, with its own verdicts."""

from __future__ import annotations

import json
from pathlib import Path

from bench.export.common import write_files
from bench.export.task_formats import FORMATS, ONE_SPLIT, Export, Row
from bench.exported import VERSION_COLUMN
from bench.plan import registry
from bench.plan.registry import check_choice
from bench.types import UserError

SPLITS = ("train", "val", "test")
MANIFEST = ".export.json"


def plan(
    name: str, to: str, level: str | None, template: str | None, split: str | None, count: int, model: str
) -> Export:
    """The export that the options ask for; what they leave open is the model's default, else the task's."""
    from bench.models import locate, model_settings
    from bench.study.jobs import Spec, task_format

    check_choice(to, FORMATS, "format to export to")
    defaults = model_settings(locate(model).path)
    if to == "verl":  # it puts every prompt through the model's chat template
        template = template or "chat"
    spec = Spec((), (name,), model=model, level=level, template=template)
    task = registry.task(name)
    found_level, found_template = task_format(spec, name, defaults)
    splits = (split,) if split else (ONE_SPLIT[to],) if to in ONE_SPLIT else SPLITS
    check_choice(splits[0], SPLITS, "split")
    return Export(task, found_level, found_template, splits, count, int(defaults.get("max_new_tokens", 256)))


def export_task(chosen: Export, to: str, folder: Path, force: bool = False) -> list[Path]:
    """Write the files of one format, and a manifest; their paths.

    UserError for a folder that is not empty, unless ``force``: then files of the same names are replaced, others stay.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"'{folder}' is a file: expected a new or empty folder")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        raise UserError(
            f"folder '{folder}' is not empty: give another one, or --force to replace files of the same name"
        )
    files = dict(FORMATS[to](chosen))
    files[chosen.name + MANIFEST] = json.dumps(manifest(chosen, to), indent=1) + "\n"
    return write_files(folder, files)


def manifest(chosen: Export, to: str) -> Row:
    """What the files were made from."""
    return {
        "format": to,
        "name": chosen.name,
        "task": chosen.task.name,
        VERSION_COLUMN: chosen.task.version,
        "level": chosen.level,
        "template": chosen.template,
        "splits": list(chosen.splits),
        "items": chosen.count,
        "max_new_tokens": chosen.max_new_tokens,
    }
