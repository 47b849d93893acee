"""Figures of an ablation: all effects with their limits, and accuracy by the levels of each factor."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.analysis.runs import RunRecord, Scores, method_scores
from bench.report.ablation_report import Findings, ablation_json, ablation_markdown
from bench.report.figure_files import save_figure
from bench.stats.intervals import crossed_interval
from bench.study.ablation import Arm, Factor

MAX_LINES = 6


def write_report(findings: Findings, records: Mapping[str, Sequence[RunRecord]], out: Path) -> list[Path]:
    """``report.md``, ``report.json`` and the figures of a folder, which is made if it is not there."""
    out.mkdir(parents=True, exist_ok=True)
    figures = []
    if findings.effects:
        figures.append(out / "effects.svg")
        forest(findings, figures[0])
    if findings.ablation.design not in ("path", "paper"):
        for factor in findings.ablation.factors:
            figures.append(out / f"{re.sub('[^A-Za-z0-9_-]', '-', factor.name)}.svg")
            by_level(findings, factor, records, figures[-1])
    (out / "report.md").write_text(ablation_markdown(findings, [path.name for path in figures]))
    (out / "report.json").write_text(ablation_json(findings))
    return [out / "report.md", out / "report.json", *figures]


def forest(findings: Findings, path: Path) -> None:
    """One line per contrast, in points, with the limits of its step of Holm's correction."""
    effects = findings.effects[::-1]

    def draw(figure: Any) -> None:
        import seaborn as sns

        axes, palette = figure.subplots(), sns.color_palette("colorblind")
        middles = 100 * np.array([e.difference.mean for e in effects])
        limits = 100 * np.array([(e.low, e.high) for e in effects])
        axes.axvline(0, color="0.4", linewidth=1)
        axes.errorbar(
            middles, range(len(effects)), xerr=np.abs(limits.T - middles), fmt="o", color=palette[0], capsize=3
        )
        axes.set_yticks(range(len(effects)), [textwrap.fill(e.contrast.name, 44) for e in effects])
        axes.set_xlabel("points; limits at the level of Holm's correction")

    save_figure([path], (8, 1.2 + 0.5 * len(effects)), draw)


def by_level(findings: Findings, factor: Factor, records: Mapping[str, Sequence[RunRecord]], path: Path) -> None:
    """Accuracy at each level, one line per setting of the other factors; their mean if these are too many."""
    lines = arms_by_line(findings, factor, records)

    def draw(figure: Any) -> None:
        import seaborn as sns

        axes, palette = figure.subplots(), sns.color_palette("colorblind")
        for n, (name, arms) in enumerate(lines.items()):
            places = [place for place, level in enumerate(factor.levels) if arms.get(level)]
            intervals = [
                crossed_interval(mean_over_arms(arms[factor.levels[p]], records, findings.metric)) for p in places
            ]
            middles = 100 * np.array([i.mean for i in intervals])
            spread = 100 * np.array([(i.mean - i.low, i.high - i.mean) for i in intervals])
            shifted = np.array(places) + 0.06 * (n - (len(lines) - 1) / 2)
            axes.errorbar(
                shifted,
                middles,
                yerr=np.maximum(spread.T, 0),
                fmt="o^sDvP"[n % 6] + "-",
                color=palette[n],
                capsize=3,
                label=name,
            )
        axes.set_xticks(range(len(factor.levels)), factor.levels)
        axes.set(xlabel=factor.name, ylabel=f"{findings.metric} (%), 95 % intervals")
        if len(lines) > 1:
            axes.legend(frameon=False)

    save_figure([path], (6, 4), draw)


def arms_by_line(
    findings: Findings, factor: Factor, records: Mapping[str, Sequence[RunRecord]]
) -> dict[str, dict[str, list[str]]]:
    """For each line of a factor's figure the arms at each level."""
    present = [arm for arm in findings.ablation.arms if records.get(arm.name)]
    rest = {f.name: f.baseline for f in findings.ablation.factors if f.name != factor.name}
    if findings.ablation.design in ("one-at-a-time", "leave-one-out"):
        present = [arm for arm in present if all(arm.levels[name] == level for name, level in rest.items())]
    groups: dict[str, dict[str, list[str]]] = {}
    for arm in present:
        groups.setdefault(other_levels(arm, factor), {}).setdefault(arm.levels[factor.name], []).append(arm.name)
    if findings.ablation.design == "fractional" or len(groups) > MAX_LINES:
        merged: dict[str, list[str]] = {}
        for arm in present:
            merged.setdefault(arm.levels[factor.name], []).append(arm.name)
        return {"mean over the other factors": merged}
    return groups


def other_levels(arm: Arm, factor: Factor) -> str:
    return ", ".join(f"{k}={v}" for k, v in arm.levels.items() if k != factor.name)


def mean_over_arms(arms: Sequence[str], records: Mapping[str, Sequence[RunRecord]], metric: str) -> np.ndarray:
    """Mean over arms of [common seeds, items]; all seeds of a single arm."""
    scores: list[Scores] = [method_scores(records[arm], metric) for arm in arms]
    seeds = sorted(set.intersection(*(set(s.seeds) for s in scores)))
    rows = [s.values[[s.seeds.index(seed) for seed in seeds]] for s in scores]
    found: np.ndarray = np.mean(rows, axis=0)
    return found
