"""Figures as files: one look, and the same bytes for the same figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.store.targets import check_file
from bench.types import UserError

SUFFIXES = (".svg", ".pdf", ".png")
DATES: Mapping[str, dict[str, Any]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None, "ModDate": None}}


def check_suffix(path: Path) -> None:
    """UserError for other suffixes than those of SVG, PDF and PNG."""
    if path.suffix not in SUFFIXES:
        raise UserError(f"cannot plot to {path.name}: use {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


def check_figure(path: Path) -> None:
    """UserError unless a figure of a known kind can be written at this path; changes nothing."""
    check_suffix(path)
    check_file(path)


def save_figure(
    paths: Sequence[Path],
    size: tuple[float, float],
    draw: Callable[[Any], None],
    look: Mapping[str, Any] | None = None,
) -> None:
    """Draw on a matplotlib figure of this size in inches and write it to every path, without a date in the file.

    ``look`` changes parameters of matplotlib.  Raises UserError for an unknown suffix.
    """
    for path in paths:
        check_suffix(path)
    import seaborn as sns
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    parameters: Any = {**sns.axes_style("whitegrid"), "svg.hashsalt": "bench", **(look or {})}
    with rc_context(parameters):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        for path in paths:
            figure.savefig(path, dpi=200, metadata=DATES.get(path.suffix))
