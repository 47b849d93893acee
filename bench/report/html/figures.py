"""The report's figures as files: learning curves, accuracies with intervals, pairwise differences, profiles.

Intervals are those of the tables; nothing is estimated by the drawing library.  Colours are colour-blind safe and never
the only sign.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.analysis.sentences import p_text
from bench.analysis.table import Table
from bench.report.figure_files import save_figure
from bench.report.html.charts import CROWD, Point
from bench.report.html.content import Loaded, section_names
from bench.report.html.profiles import AXES, profile_sets
from bench.report.safe_text import visible

MARKERS = "os^Dv"
DASHES = ("-", "--", ":", "-.")
GREY = "0.5"
LINES = (6.4, 4.0)  # inches, of a figure of lines
Draw = Callable[[Any], None]  # draws on the axes that it is given


def write_figures(loaded: Loaded, folder: Path, formats: Sequence[str]) -> list[Path]:
    """All figures in all formats, as KIND-TABLE.FORMAT; the folder is made if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    tables = loaded.board.tables
    colors = palette([row.method for table in tables for row in table.rows])
    for table, name, curves in zip(tables, section_names(tables), loaded.curves):
        ordered = {row.method: curves[row.method] for row in table.rows if row.method in curves}
        num = len(table.rows)
        drawings: list[tuple[str, tuple[float, float], Draw]] = [
            ("curves", LINES, partial(draw_curves, curves=ordered, colors=colors)),
            ("accuracy", (6.4, 1.1 + 0.3 * num), partial(draw_accuracy, table=table, colors=colors)),
        ]
        if num > 1:
            drawings.append(("pairs", (2.2 + 0.72 * num, 1.2 + 0.52 * num), partial(draw_pairs, table=table)))
        for kind, size, draw in drawings:
            written += save_titled(draw, size, visible(name), folder / f"{kind}-{slug(name)}", formats)
    for number, (name, lines) in enumerate(profile_sets(loaded.board), 1):
        draw = partial(draw_profiles, lines=lines, colors=colors)
        written += save_titled(draw, LINES, visible(name), folder / f"profiles-{number}", formats)
    return written


def slug(name: str) -> str:
    """A file name for a table's name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:80] or "table"


def palette(methods: Sequence[str]) -> dict[str, Any]:
    """A colour for each method, the same in every figure; base is grey."""
    import seaborn as sns

    colors = [c for n, c in enumerate(sns.color_palette("colorblind")) if n != 7]  # the eighth is a grey
    trained = [m for m in dict.fromkeys(methods) if m != "base"]
    return {m: colors[n % len(colors)] for n, m in enumerate(trained)} | {"base": GREY}


def save_titled(draw: Draw, size: tuple[float, float], title: str, stem: Path, formats: Sequence[str]) -> list[Path]:
    """One figure in each format."""
    import seaborn as sns

    def titled(figure: Any) -> None:
        axes = figure.subplots()
        draw(axes)
        axes.set_title(title, loc="left", fontsize=10)
        sns.despine(fig=figure)

    look = {"pdf.fonttype": 42, "text.parse_math": False, "font.size": 9}
    paths = [stem.with_name(f"{stem.name}.{format}") for format in formats]
    save_figure(paths, size, titled, {**look, **sns.axes_style("ticks", {"axes.grid": True, "grid.color": "0.9"})})
    return paths


def draw_curves(axes: Any, curves: Mapping[str, Sequence[Point]], colors: Mapping[str, Any]) -> None:
    """Accuracy along the budget; more than CROWD methods get whiskers side by side in place of bands."""
    crowd = len(curves) > CROWD
    for n, (method, points) in enumerate(curves.items()):
        share, mean, low, high = ([100 * p[k] for p in sorted(points)] for k in range(4))
        look: dict[str, Any] = {
            "color": colors[method],
            "marker": MARKERS[n % 5],
            "markersize": 4,
            "label": visible(method),
        }
        line = DASHES[1 if method == "base" else n // 9 % 4]
        if crowd:
            aside = [x + 0.7 * (n - (len(curves) - 1) / 2) for x in share]
            ends = [[max(m - a, 0) for m, a in zip(mean, low)], [max(b - m, 0) for m, b in zip(mean, high)]]
            axes.errorbar(aside, mean, yerr=ends, linestyle=line, elinewidth=0.8, **look)
        else:
            axes.plot(share, mean, line, **look)
            axes.fill_between(share, low, high, color=colors[method], alpha=0.18, linewidth=0)
    axes.set(xlabel="budget spent (%)", ylabel="validation accuracy (%)")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8, ncols=1 + len(curves) // 6)


def draw_profiles(axes: Any, lines: Mapping[str, Sequence[Point]], colors: Mapping[str, Any]) -> None:
    """The share of runs above each accuracy, both in % already; no intervals."""
    for n, (method, points) in enumerate(lines.items()):
        line = DASHES[1 if method == "base" else n // 9 % 4]
        x, y = ([p[k] for p in points] for k in range(2))
        marks = {"marker": MARKERS[n % 5], "markersize": 4, "markevery": (3 + n, 12)}
        axes.plot(x, y, line, color=colors[method], label=visible(method), **marks)
    axes.set(xlabel=AXES[0], ylabel=AXES[1])
    axes.set_ylim(0, 102)
    axes.legend(frameon=False, fontsize=8, ncols=1 + len(lines) // 6)


def draw_accuracy(axes: Any, table: Table, colors: Mapping[str, Any]) -> None:
    """A bar per method, best on top, with its 95 % interval; letters say which methods tie, a line is chance."""
    rows = table.rows
    names = [visible(row.method) for row in rows]
    means = [100 * row.accuracy.mean for row in rows]
    ends = [
        [100 * max(r.accuracy.mean - r.accuracy.low, 0) for r in rows],
        [100 * max(min(r.accuracy.high, 1) - r.accuracy.mean, 0) for r in rows],
    ]
    at = range(len(rows))
    axes.barh(at, means, color=[colors[r.method] for r in rows], height=0.66, alpha=0.85)
    axes.errorbar(means, at, xerr=ends, fmt="none", ecolor="0.15", elinewidth=1, capsize=2.5)
    for y, row in zip(at, rows):
        axes.text(100 * min(row.accuracy.high, 1) + 0.8, y, row.ties, va="center", fontsize=8, color="0.3")
    axes.axvline(100 * table.record.chance, color="0.35", linestyle=":", linewidth=1)
    axes.set_yticks(list(at), names)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="accuracy (%), 95 % interval; letters: ties; dotted: chance")


def draw_pairs(axes: Any, table: Table) -> None:
    """Differences in points, row minus column; ties are hatched and marked with an equals sign."""
    from matplotlib.patches import Rectangle

    names = [row.method for row in table.rows]
    for pair in table.pairs:
        i, j = names.index(pair.first), names.index(pair.second)
        for row, column, sign in ((i, j, 1), (j, i, -1)):
            mean, tie = sign * pair.difference.mean, pair.tie
            fill = "white" if tie else "#cfe5f5" if mean > 0 else "#f8dcc4"
            hatch = "////" if tie else None
            axes.add_patch(
                Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, facecolor=fill, hatch=hatch, edgecolor="0.88")
            )
            word = "=" if tie else ">" if mean > 0 else "<"
            p = f"p {p_text(pair.adjusted)}".replace("0.", ".")
            axes.text(column, row, f"{word} {100 * mean:+.1f}\n{p}", ha="center", va="center", fontsize=7)
    at, shown = list(range(len(names))), [visible(name) for name in names]
    axes.set_xticks(at, shown, rotation=30, ha="left")
    axes.set_yticks(at, shown)
    axes.xaxis.tick_top()
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5))
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.set_xlabel("row minus column, points of accuracy, Holm-adjusted p; hatched: tie")
