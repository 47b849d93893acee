"""Learning curves: validation accuracy at equal shares of the budget, with intervals over seeds and items."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bench.analysis.inference import crossed_interval
from bench.analysis.runs import RunRecord, method_scores
from bench.records import load_run
from bench.store import read_lines
from bench.types import UserError

Point = tuple[float, float, float, float]  # share of the budget, accuracy, low, high


def curves(records: Sequence[RunRecord]) -> dict[str, list[Point]]:
    """Points of each method of one comparison; base, which spends nothing, is drawn as a level line."""
    by_method: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_method[record.method].append(record)
    found = {}
    for method, runs in sorted(by_method.items()):
        shares = [0.0, 1.0] if method == "base" else fractions(Path(runs[0].path))
        points = []
        for share in shares:
            at = None if method == "base" else share
            scores = method_scores([load_run(Path(run.path), "val", at) for run in runs])
            interval = crossed_interval(scores.values)
            points.append((share, interval.mean, interval.low, interval.high))
        found[method] = points
    return found


def fractions(path: Path) -> list[float]:
    """Shares of the budget at which a run was validated."""
    return [e["fraction"] for e in read_lines(path / "evals.jsonl") if e["split"] == "val"]


def plot(records: Sequence[RunRecord], out: Path) -> list[Path]:
    """One figure per comparison; several are numbered by the comparison's id.  UserError without records."""
    groups: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        groups[record.comparison].append(record)
    if not groups:
        raise UserError("no finished runs to plot")
    written = []
    for comparison, group in groups.items():
        path = out if len(groups) == 1 else out.with_name(f"{out.stem}-{comparison[:8]}{out.suffix}")
        plot_accuracy(curves(group), path)
        written.append(path)
    return written


def plot_accuracy(curves: Mapping[str, Sequence[tuple[float, float, float, float]]], path: str | Path) -> None:
    """Draw accuracy against the share of the budget spent, one line and band per method, to an SVG, PDF or PNG file.

    ``curves`` maps a method to points (share, accuracy, low, high), all fractions.  Raises UserError on other suffixes.
    """
    path = Path(path)
    if path.suffix not in (".svg", ".png", ".pdf"):
        raise UserError(f"cannot plot to {path.name}: use .svg, .png or .pdf")
    import seaborn as sns
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({**sns.axes_style("whitegrid"), "svg.hashsalt": "bench"}):
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        palette = sns.color_palette("colorblind")
        for n, (method, curve) in enumerate(curves.items()):
            share, accuracy, low, high = (100 * np.asarray(sorted(curve), dtype=float)).reshape(-1, 4).T
            style = ("-", "--", ":", "-.")[n // len(palette) % 4]
            color = palette[n % len(palette)]
            axes.plot(share, accuracy, style, marker="o^sDvP"[n % 6], markersize=4, color=color, label=method)
            axes.fill_between(share, low, high, color=color, alpha=0.2, linewidth=0)
        axes.set(xlabel="budget spent (%)", ylabel="accuracy (%), band: 95 % interval")
        if curves:
            axes.legend(frameon=False)
        figure.savefig(path, dpi=200, metadata={"Date": None} if path.suffix == ".svg" else None)
