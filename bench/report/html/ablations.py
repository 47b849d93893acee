"""Ablation reports beside the runs, as `bench ablate --out` writes them: arms, effects and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.analysis.sentences import p_text, point_limits, signed_points
from bench.report.grids import percent
from bench.store.run_folder import CorruptRun, read_json
from bench.types import UserError

NAME = "report.json"


@dataclass(frozen=True)
class EffectRow:
    """One contrast: its difference in points with limits, Holm's p and what the test says of it."""

    name: str
    difference: str
    limits: str
    p: str
    verdict: str


@dataclass(frozen=True)
class AblationSection:
    """One report: arms as (name, method, accuracy, limits, seeds) in %."""

    title: str
    arms: tuple[tuple[str, ...], ...]
    effects: tuple[EffectRow, ...]
    sentences: tuple[str, ...]


def read_ablations(folder: Path) -> tuple[AblationSection, ...]:
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


def ablation_section(record: Mapping[str, Any]) -> AblationSection:
    arms = []
    for arm in record["arms"]:
        accuracy = arm["accuracy"]
        limits = f"[{percent(accuracy['low'])}, {percent(accuracy['high'])}]"
        arms.append((str(arm["name"]), str(arm["method"]), percent(accuracy["mean"]), limits, str(len(arm["seeds"]))))
    what = "Path" if record["design"] == "path" else f"Ablation ({record['design']})"
    shared = f"{record['task']}, level {record['level']}, model {record['model']}, {record['num_items']} items"
    return AblationSection(
        f"{what} of {record['method']}: {shared}, {record['metric']}",
        tuple(arms),
        tuple(map(effect_row, record["effects"])),
        tuple(map(str, record["sentences"])),
    )


def effect_row(record: Mapping[str, Any]) -> EffectRow:
    low, high, p = record["low"], record["high"], record["adjusted"]
    known = low is not None and high is not None and low != high
    return EffectRow(
        str(record["contrast"]["name"]),
        signed_points(record["difference"]["mean"]),
        point_limits(low, high) if known else "-",
        p_text(p).replace("0.", "."),
        str(record["verdict"]),
    )
