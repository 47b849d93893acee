"""Learning curves: validation scores along the budget or another currency, with intervals over seeds and items."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.analysis.equal_currency import pooled
from bench.analysis.metrics import ACCURACY
from bench.analysis.run_curves import run_curve
from bench.analysis.runs import RunRecord, method_scores, scores_interval
from bench.report.figure_files import save_figure
from bench.stats.intervals import Interval
from bench.types import UserError

BUDGET = "budget"
BANDS = 5  # with more methods overlapping bands hide each other: error bars instead
DODGE = 0.012  # of the axis, between the error bars of neighbouring methods
UNITS = {"flops": "FLOPs", "seconds": "seconds of training", "demonstrations": "distinct demonstrations"}
MARKERS = "o^sDvPX*"
Point = tuple[float, float, float, float]  # share of the budget or amount, accuracy, low, high


def method_curves(
    records: Sequence[RunRecord], against: str = BUDGET, metric: str = ACCURACY
) -> dict[str, list[Point]]:
    """Points of each method of one comparison.  Base, and methods that spend nothing, get a level line.

    The first number is the share of the budget, or the mean amount that the runs had spent of a currency.
    """
    by_method: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        by_method[record.method].append(record)
    curves: dict[str, list[Point]] = {}
    ends: dict[str, Interval] = {}
    for method, runs in sorted(by_method.items()):
        if method == "base":
            ends[method] = scores_interval(method_scores(runs, metric))
            continue
        validated = [run_curve(run, metric) for run in runs]
        shares = [f for f in validated[0].fractions if all(f in v.fractions for v in validated)]
        points = pooled(validated, "steps" if against == BUDGET else against)
        amounts = shares if against == BUDGET else [x for x, _ in points]
        if amounts[-1] == 0:  # uses none of the currency
            ends[method] = points[-1][1]
        else:
            curves[method] = [(x, i.mean, i.low, i.high) for x, (_, i) in zip(amounts, points, strict=True)]
    farthest = max((points[-1][0] for points in curves.values()), default=1.0)
    curves |= {method: [(x, i.mean, i.low, i.high) for x in (0.0, farthest)] for method, i in ends.items()}
    return dict(sorted(curves.items()))


def plot_curves(records: Sequence[RunRecord], out: Path, against: str = BUDGET, metric: str = ACCURACY) -> list[Path]:
    """One figure per comparison; several are numbered by the comparison's id.  UserError without records."""
    groups: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        groups[record.comparison].append(record)
    if not groups:
        raise UserError("no finished runs to plot")
    written = []
    for comparison, group in groups.items():
        path = out if len(groups) == 1 else out.with_name(f"{out.stem}-{comparison[:8]}{out.suffix}")
        plot_accuracy(method_curves(group, against, metric), path, against, metric)
        written.append(path)
    return written


def plot_accuracy(
    curves: Mapping[str, Sequence[Point]], path: Path, against: str = BUDGET, metric: str = ACCURACY
) -> None:
    """Draw scores against the share of the budget or an amount, one line per method, to an SVG, PDF or PNG file.

    Up to BANDS methods have bands; with more each has error bars, moved apart a little.  ``curves`` maps a method to
    points (share or amount, score, low, high).  Raises UserError on other suffixes.
    """
    few = len(curves) <= BANDS

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for (method, curve), style in zip(curves.items(), line_styles(curves)):
            draw_line(axes, method, np.asarray(sorted(curve), dtype=float).reshape(-1, 4), against, style)
        spent = "budget spent (%)" if against == BUDGET else f"{UNITS.get(against, against)} spent"
        axes.set(xlabel=spent, ylabel=f"{metric} (%), 95 % interval")
        if curves:
            beside = {} if few else {"loc": "upper left", "bbox_to_anchor": (1, 1)}
            axes.legend(frameon=False, **beside)

    save_figure([path], (6, 4) if few else (8, 4.5), draw)


def line_styles(curves: Mapping[str, Sequence[Point]]) -> list[dict[str, Any]]:
    """Colour, line, marker and offset of each method, in units of the first axis; no offset where bands are drawn."""
    import seaborn as sns

    palette = sns.color_palette("colorblind")
    farthest = max((point[0] for points in curves.values() for point in points), default=1.0)
    middle = (len(curves) - 1) / 2
    return [
        {
            "color": palette[n % len(palette)],
            "linestyle": ("-", "--", ":", "-.")[n // len(palette) % 4],
            "marker": MARKERS[n % len(MARKERS)],
            "offset": None if len(curves) <= BANDS else DODGE * farthest * (n - middle),
        }
        for n, _ in enumerate(curves)
    ]


def draw_line(axes: Any, method: str, points: np.ndarray, against: str, style: Mapping[str, Any]) -> None:
    """One method's line ``points`` [points, 4] with its band, or with error bars; base is a level line with a band."""
    offset, color = style["offset"], style["color"]
    amounts = points[:, 0] * (100 if against == BUDGET else 1)
    mean, low, high = 100 * points[:, 1], 100 * points[:, 2], 100 * points[:, 3]
    look = {"color": color, "linestyle": style["linestyle"], "markersize": 4, "linewidth": 1.4}
    if offset is None or method == "base":
        marker = None if method == "base" else style["marker"]
        axes.plot(amounts, mean, marker=marker, label=method, **look)
        axes.fill_between(amounts, low, high, color=color, alpha=0.2 if offset is None else 0.1, linewidth=0)
        return
    moved = amounts + offset * (100 if against == BUDGET else 1)
    axes.errorbar(moved, mean, (mean - low, high - mean), marker=style["marker"], label=method, elinewidth=0.8, **look)
