"""Ablation reports beside the runs, as `bench ablate --out` writes them: arms, effects and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.analysis.sentences import p_text, point_limits, signed_points
from bench.report.grids import percent
from bench.store.run_folder import CorruptRun, read_json
from bench.types import UserError

NAME = "report.json"


def read_ablations(folder: Path) -> tuple[dict[str, Any], ...]:
    """The reports in a folder and its subfolders, by path.  UserError names one that cannot be read."""
    if not folder.is_dir():
        raise UserError(f"folder of ablations '{folder}' does not exist: bench ablate --out makes one")
    paths = sorted([*folder.glob(NAME), *folder.glob(f"*/{NAME}")])
    if not paths:
        raise UserError(f"no ablation in '{folder}': expected {NAME} in it or in a folder of it")
    sections = []
    for path in paths:
        try:
            sections.append(ablation_section(read_json(path)))
        except (CorruptRun, LookupError, TypeError, ValueError, AttributeError) as fault:
            raise UserError(f"ablation '{path}' cannot be read: {type(fault).__name__}: {fault}") from None
    return tuple(sections)


def ablation_section(record: Mapping[str, Any]) -> dict[str, Any]:
    """One report: its arms as (name, method, accuracy, limits, seeds) in %, its effects as ``effect_cells``."""
    arms = []
    for arm in record["arms"]:
        accuracy = arm["accuracy"]
        limits = f"[{percent(accuracy['low'])}, {percent(accuracy['high'])}]"
        arms.append((str(arm["name"]), str(arm["method"]), percent(accuracy["mean"]), limits, str(len(arm["seeds"]))))
    what = "Path" if record["design"] == "path" else f"Ablation ({record['design']})"
    shared = f"{record['task']}, level {record['level']}, model {record['model']}, {record['num_items']} items"
    return {
        "title": f"{what} of {record['method']}: {shared}, {record['metric']}",
        "arms": arms,
        "effects": list(map(effect_cells, record["effects"])),
        "sentences": list(map(str, record["sentences"])),
    }


def effect_cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    """One contrast: name, difference in points, its limits, Holm's p, and what the test says of it."""
    low, high, p = record["low"], record["high"], p_text(record["adjusted"]).replace("0.", ".")
    limits = "-" if low is None or high is None or low == high else point_limits(low, high)
    points = signed_points(record["difference"]["mean"])
    return str(record["contrast"]["name"]), points, limits, p, str(record["verdict"])
