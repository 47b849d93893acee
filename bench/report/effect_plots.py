"""Figures of an ablation: all effects with their limits, and accuracy by the levels of each factor."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.analysis.effects import arms_mean
from bench.analysis.runs import RunRecord, method_scores, shared_clusters
from bench.report.ablation_report import Findings, ablation_json, ablation_markdown
from bench.report.figure_files import save_figure
from bench.stats.intervals import crossed_interval
from bench.study.ablation import Factor

MAX_LINES = 6


def write_report(findings: Findings, records: Mapping[str, Sequence[RunRecord]], out: Path) -> list[Path]:
    """Write ``report.md``, ``report.json`` and the figures to a folder, which is made if it is missing."""
    out.mkdir(parents=True, exist_ok=True)
    figures = []
    if findings.effects:
        figures.append(out / "effects.svg")
        forest(findings, figures[0])
    if findings.ablation.design not in ("path", "paper"):
        for factor in findings.ablation.factors:
            figures.append(out / f"{re.sub('[^A-Za-z0-9_-]', '-', factor.name)}.svg")
            by_level(findings, factor, records, figures[-1])
    text = ablation_markdown(findings, [path.name for path in figures])
    (out / "report.md").write_text(text, encoding="utf-8")
    (out / "report.json").write_text(ablation_json(findings), encoding="utf-8")
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
    """Accuracy at each level, one line per setting of the other factors; a mean over these if there are too many."""
    lines = arms_by_line(findings, factor, records)
    scores = {arm: method_scores(runs, findings.metric) for arm, runs in records.items() if runs}

    def draw(figure: Any) -> None:
        import seaborn as sns

        axes, palette = figure.subplots(), sns.color_palette("colorblind")
        for n, (name, arms) in enumerate(lines.items()):
            places = [place for place, level in enumerate(factor.levels) if arms.get(level)]
            means = [arms_mean(arms[factor.levels[p]], scores) for p in places]
            intervals = [crossed_interval(mean, clusters=shared_clusters(*scores.values())) for mean in means]
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
    """The arms at each level, for each line of a factor's figure."""
    present = [arm for arm in findings.ablation.arms if records.get(arm.name)]
    rest = {f.name: f.baseline for f in findings.ablation.factors if f.name != factor.name}
    if findings.ablation.design in ("one-at-a-time", "leave-one-out"):
        present = [arm for arm in present if all(arm.levels[name] == level for name, level in rest.items())]
    by_others = {arm.name: ", ".join(f"{k}={v}" for k, v in arm.levels.items() if k != factor.name) for arm in present}
    merged = findings.ablation.design == "fractional" or len(set(by_others.values())) > MAX_LINES
    lines: dict[str, dict[str, list[str]]] = {}
    for arm in present:
        line = "mean over the other factors" if merged else by_others[arm.name]
        lines.setdefault(line, {}).setdefault(arm.levels[factor.name], []).append(arm.name)
    return lines
