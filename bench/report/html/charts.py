"""Geometry of the page's charts in units of their view boxes.  Templates draw it; the style sheet has the colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 52, 26, 10, 44
CROWD = 5  # more series than that get whiskers, side by side, in place of bands
DODGE = 4  # distance between neighbours of a crowd
STYLES = 9  # colours of the style sheet, the next one is grey; further series repeat them with other dashes
GREY = -1  # the index of what is no competitor: base
MARKS = 5  # shapes of points
STRIP = 120  # width of an interval's strip in a table


@dataclass(frozen=True)
class Series:
    """One line with its band and points; ``style`` and ``dash`` number its colour and line, ``mark`` its points."""

    name: str
    style: int
    dash: int
    mark: int
    line: str
    band: str
    whiskers: str  # path of the points' intervals
    points: tuple[tuple[float, float, str], ...]  # x, y and what is read there


@dataclass(frozen=True)
class Chart:
    """Lines over two axes with their ticks (position, label); ``text`` says in words what is drawn."""

    title: str
    text: str
    x_label: str
    y_label: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    series: tuple[Series, ...]

    @property
    def crowded(self) -> bool:
        return len(self.series) > CROWD


Strip = tuple[float, float, float]  # an interval on a small axis: positions of low limit, mean and high limit
Point = tuple[float, float, float, float]  # x, value, low, high


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from at most ``low`` to at least ``high``, in steps of 1, 2 or 5 times a power of ten."""
    rough = max(high - low, 1e-9) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [n * step for n in range(first, last + 1)]


def coordinate(x: float) -> str:
    """A coordinate with one decimal, without trailing zeros."""
    return f"{x:.1f}".removesuffix(".0")


def tick_label(x: float) -> str:
    return f"{x:.6g}"


def styled(index: int) -> tuple[int, int, int]:
    """Colour, dash and mark of the index-th series: no two of the first 36 share colour and dash."""
    if index == GREY:
        return STYLES, 1, 0
    return index % STYLES, index // STYLES % 4, index % MARKS


def make_chart(
    lines: Mapping[str, Sequence[Point]],
    styles: Mapping[str, int],
    labels: tuple[str, str, str],
    *,
    unit: str = "",
    top: float | None = None,
    dotted: bool = True,
) -> Chart:
    """A chart of points (x, value, low, high) by name; ``labels`` are the title and those of the axes.

    The y axis begins at 0 and ends at ``top`` or at a round number above all limits.  ``styles`` numbers the series,
    so that a name looks the same in every chart of a page.  Not ``dotted``: lines alone, without their points.
    """
    title, x_label, y_label = labels
    every = [p for points in lines.values() for p in points if all(map(math.isfinite, p[:2]))]
    x_ticks = ticks(min((p[0] for p in every), default=0.0), max((p[0] for p in every), default=1.0))
    highest = max((p[3] if math.isfinite(p[3]) else p[1] for p in every), default=1.0)
    y_ticks = ticks(0.0, highest if top is None else top)

    def at(x: float, y: float, aside: float = 0.0) -> tuple[float, float]:
        right, up = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]), min(y, y_ticks[-1]) / y_ticks[-1]
        return LEFT + right * (WIDTH - LEFT - RIGHT) + aside, HEIGHT - BOTTOM - max(up, 0.0) * (HEIGHT - TOP - BOTTOM)

    aside = {name: DODGE * (n - (len(lines) - 1) / 2) * (dotted and len(lines) > CROWD) for n, name in enumerate(lines)}
    series = [
        one_series(name, points, styles[name], partial(at, aside=aside[name]), unit, dotted)
        for name, points in lines.items()
    ]
    return Chart(
        title,
        f"{title}. " + " ".join(line_sentence(name, sorted(points), unit) for name, points in lines.items()),
        x_label,
        y_label,
        tuple((at(x, 0)[0], tick_label(x)) for x in x_ticks),
        tuple((at(x_ticks[0], y)[1], tick_label(y)) for y in y_ticks),
        tuple(series),
    )


def one_series(
    name: str, points: Sequence[Point], style: int, at: Callable[..., tuple[float, float]], unit: str, dotted: bool
) -> Series:
    """One series; ``at`` maps a point of the axes to the drawing."""
    whole = sorted(p for p in points if all(map(math.isfinite, p[:2])))
    limits = [p for p in whole if all(map(math.isfinite, p))]
    band = [at(p[0], p[2]) for p in limits] + [at(p[0], p[3]) for p in reversed(limits)]
    ends = [(at(p[0], p[2]), at(p[0], p[3])[1]) for p in limits]
    return Series(
        name,
        *styled(style),
        polyline([at(*p[:2]) for p in whole]),
        polyline(band),
        "".join(f"M{coordinate(x)} {coordinate(low)}V{coordinate(high)}" for (x, low), high in ends),
        tuple((*at(*p[:2]), point_text(name, p, unit)) for p in whole if dotted),
    )


def polyline(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{coordinate(x)},{coordinate(y)}" for x, y in points)


def point_text(name: str, point: Point, unit: str) -> str:
    x, y, low, high = point
    limits = f" [{low:.1f}, {high:.1f}]" if math.isfinite(low) and math.isfinite(high) else ""
    return f"{name} at {tick_label(x)}{unit}: {y:.1f}{limits}"


def line_sentence(name: str, points: Sequence[Point], unit: str) -> str:
    """First and last value of a line, for those who do not see the drawing."""
    if not points:
        return f"{name}: no points."
    first, last = points[0], points[-1]
    return f"{name}: {first[1]:.1f} at {tick_label(first[0])}{unit}, {last[1]:.1f} at {tick_label(last[0])}{unit}."


def make_strip(low: float, mean: float, high: float, most: float) -> Strip:
    """An interval of fractions on an axis from 0 to ``most``; limits beyond the axis are cut to its end."""

    def at(x: float) -> float:
        return round(STRIP * min(max(x if math.isfinite(x) else 1.0, 0.0), most) / most, 1)

    return at(low if math.isfinite(low) else 0.0), at(mean), at(high)
