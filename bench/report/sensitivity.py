"""Sensitivity to hyper-parameters: what trials scored on validation against each searched field.

Accuracies are fractions.  Records are those of `bench tune`, or of the older form that holds learning rates only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.foreign import parse_json
from bench.report.figure_files import save_figure
from bench.report.table_cells import amount
from bench.report.terminal_table import terminal_table

COLUMNS = 4
MARGIN = 1.3  # of a log axis beyond the range, as a factor
CLOSE = 0.02  # points of accuracy within which trials count as good as the best


@dataclass(frozen=True)
class TrialPoint:
    """One trial at a value of one field; ``accuracy`` and its limits are None for a failed trial."""

    value: Any
    accuracy: float | None
    low: float | None
    high: float | None
    best: bool


@dataclass(frozen=True)
class Panel:
    """All trials of one method against one field, in order of the field's values."""

    method: str
    field: str  # METHOD.FIELD
    log: bool
    space: tuple[float, float] | None  # limits of a range
    points: tuple[TrialPoint, ...]


def panels(record: Mapping[str, Any]) -> list[Panel]:
    """One panel per method and searched field."""
    if isinstance(record.get("trials"), list):
        return panels_of_rates(record)
    panels_by_field = []
    for method, entry in sorted(record["methods"].items()):
        for name, space in entry["space"].items():
            points = [
                TrialPoint(t["settings"][name], t["accuracy"], t["low"], t["high"], index == entry["best"])
                for index, t in enumerate(entry["trials"])
            ]
            limits = (space["low"], space["high"]) if isinstance(space, dict) else None
            log = isinstance(space, dict) and space["scale"] == "log"
            panels_by_field.append(Panel(method, name, log, limits, ordered_points(points)))
    return panels_by_field


def panels_of_rates(record: Mapping[str, Any]) -> list[Panel]:
    """Records that hold learning rates only, on one grid for all methods and without intervals."""
    panels = []
    for method in sorted({t["method"] for t in record["trials"]}):
        own = [t for t in record["trials"] if t["method"] == method]
        points = [TrialPoint(t["lr"], t["val_accuracy"], None, None, t["lr"] == record["best"][method]) for t in own]
        rates = [t["lr"] for t in own]
        panels.append(Panel(method, f"{method}.lr", True, (min(rates), max(rates)), ordered_points(points)))
    return panels


def ordered_points(points: Sequence[TrialPoint]) -> tuple[TrialPoint, ...]:
    """The points by value; words come after numbers."""
    return tuple(sorted(points, key=lambda p: (isinstance(p.value, str), p.value)))


def panel_sentence(panel: Panel) -> str:
    """One sentence: the best value, the values that are hardly worse, and whether the best ends the range."""
    scored = [p for p in panel.points if p.accuracy is not None]
    if not scored:
        return f"{panel.method}: every trial failed."
    top = next(p for p in scored if p.best)
    assert top.accuracy is not None
    near = [p.value for p in scored if p.accuracy is not None and top.accuracy - p.accuracy <= CLOSE]
    worst = min(p.accuracy for p in scored if p.accuracy is not None)
    text = f"{panel.method}: best {100 * top.accuracy:.1f} % at {panel.field} {trial_value_text(top.value)}"
    if len(near) > 1:
        text += f"; {len(near)} of {len(panel.points)} trials within {100 * CLOSE:.0f} points of it"
        text += f", from {trial_value_text(min(near))} to {trial_value_text(max(near))}" if panel.space else ""
    text += f"; the worst {100 * worst:.1f} %"
    if len(scored) < len(panel.points):
        text += f"; {len(panel.points) - len(scored)} failed"
    edge = {scored[0].value: "lowest", scored[-1].value: "highest"}.get(top.value) if len(scored) > 1 else None
    if panel.space and edge and top.accuracy - worst > CLOSE:
        text += f". The best is the {edge} value tried: a better one may lie beyond"
    return text + "."


def trial_value_text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def accuracy_text(point: TrialPoint) -> str:
    """``31.2 [27.0, 35.4]`` in %."""
    if point.accuracy is None:
        return "failed"
    if point.low is None or point.high is None:
        return f"{100 * point.accuracy:.1f}"
    return f"{100 * point.accuracy:.1f} [{100 * point.low:.1f}, {100 * point.high:.1f}]"


def render_trials(panels: Sequence[Panel], title: str, notes: Sequence[str]) -> str:
    """A table of all trials for a terminal, a sentence per panel under it."""
    rows = []
    for panel in panels:
        for n, p in enumerate(panel.points):
            names = ["", ""] if n else [panel.method, panel.field]
            rows.append([*names, trial_value_text(p.value), accuracy_text(p), "best" if p.best else ""])
    return terminal_table(
        title, ["method", "field", "value", "validation %", ""], rows, [*map(panel_sentence, panels), *notes]
    )


def load_trials(path: Path) -> dict[str, Any]:
    """The record of trials in a file.  UserError names the file if it holds none."""
    from bench.study.trials import read_trials

    try:
        record = parse_json(path.read_bytes())
    except (OSError, ValueError):
        record = {}
    old = isinstance(record, dict) and isinstance(record.get("trials"), list) and isinstance(record.get("best"), dict)
    return record if old else read_trials(path)


def title_and_notes(path: Path, record: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Title and notes of the table: what was searched, and what it cost."""
    search = record.get("search", record)
    setting = record.get("setting", record)
    budget = setting.get("budget") or f"{setting['budget_limit']:g} {setting['budget_unit']}"
    seeds = ", ".join(map(str, search.get("seeds", [search.get("seed")])))
    basis = f"{search['val_items']} items x {search['val_samples']} samples"
    title = (
        f"Trials on {setting['task']}, level {setting['level']}, model {record.get('model', setting['model_digest'])}, "
        f"budget {budget} each, seeds {seeds}; validation: {basis}"
    )
    if "cost" not in record:
        return title, [f"All trials: {amount(sum(t['flops'] for t in record['trials']))} FLOPs."]
    parts = [f"{name} {amount(entry['cost']['flops'])}" for name, entry in sorted(record["methods"].items())]
    spent = record["cost"]
    total = (
        f"All trials: {amount(spent['flops'])} FLOPs ({', '.join(parts)}), {amount(spent['seconds'])} s, "
        f"{amount(spent['rollouts'])} rollouts."
    )
    return title, [total, f"Written to {path}; 'bench run --tuned' uses the best."]


def trials_summary(path: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """For JSON: the panels with their sentences, and the cost of all trials."""
    described = [{**asdict(panel), "sentence": panel_sentence(panel)} for panel in panels(record)]
    return {"file": str(path), "setting": record.get("setting"), "cost": record.get("cost"), "panels": described}


def plot_panels(panels: Sequence[Panel], path: Path) -> None:
    """Accuracy against each field, a panel per method and field; error bars where known, a star for the best trial.

    Failed trials are crosses at 0.  Raises UserError for other suffixes than SVG, PDF and PNG.
    """
    num_columns = min(COLUMNS, len(panels))
    num_rows = math.ceil(len(panels) / num_columns)

    def draw(figure: Any) -> None:
        import seaborn as sns

        axes = figure.subplots(num_rows, num_columns, squeeze=False, sharey=True).flatten()
        for place, panel in zip(axes, panels):
            joined = panel.space is not None and sum(other.method == panel.method for other in panels) == 1
            draw_panel(place, panel, joined, sns.color_palette("colorblind")[0])
        for place in axes[len(panels) :]:
            place.set_axis_off()
        figure.supylabel("validation accuracy (%)", fontsize="medium")

    save_figure([path], (0.6 + 2.6 * num_columns, 0.4 + 2.3 * num_rows), draw)


def draw_panel(axes: Any, panel: Panel, joined: bool, color: Any) -> None:
    """One panel; choices stand side by side.  Points are ``joined`` only if nothing else differs between them."""
    from matplotlib.ticker import NullFormatter

    places: list[Any] = [p.value if panel.space else trial_value_text(p.value) for p in panel.points]
    scored = [(x, p) for x, p in zip(places, panel.points) if p.accuracy is not None]
    heights = [100 * p.accuracy for _, p in scored if p.accuracy is not None]
    axes.plot(
        [x for x, _ in scored], heights, linestyle="-" if joined else "none", marker="o", markersize=4, color=color
    )
    for x, p in scored:
        if p.low is not None and p.high is not None:
            axes.plot([x, x], [100 * p.low, 100 * p.high], color=color, alpha=0.5)
        if p.best and p.accuracy is not None:
            axes.axvline(x, linestyle=":", color="0.4")
            axes.plot([x], [100 * p.accuracy], marker="*", markersize=12, color="black", zorder=3)
    failed = [x for x, p in zip(places, panel.points) if p.accuracy is None]
    axes.plot(failed, [0] * len(failed), "x", color="black")
    if panel.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
    if panel.log and panel.space:
        axes.set_xlim(panel.space[0] / MARGIN, panel.space[1] * MARGIN)
    title = panel.field if panel.method == panel.field.partition(".")[0] else f"{panel.method}: {panel.field}"
    axes.set_title(title, fontsize="medium")
