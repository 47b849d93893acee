"""All that a report says, computed from a results folder; the templates only lay it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.analysis.board import leaderboard
from bench.analysis.contests import ties_below
from bench.analysis.fairness import find_concerns
from bench.analysis.records import load_results, load_run
from bench.analysis.runs import RunRecord, by_table
from bench.analysis.sentences import listed_names, p_text, signed_points
from bench.analysis.table import Board, Table
from bench.plan.registry import nearest
from bench.report.curves import method_curves
from bench.report.grids import Grid, percent, table_grids
from bench.report.html.ablations import read_ablations
from bench.report.html.charts import GREY, Chart, Point, Strip, make_chart, make_strip, styled
from bench.report.html.completions import choose_completions
from bench.report.html.profiles import profiles
from bench.report.html.settings import TableSettings, commands_and_machines, table_settings
from bench.report.overview import overview_grids
from bench.report.table_cells import board_columns, table_legend, table_remarks, table_title
from bench.report.views import across_grids
from bench.stats.intervals import ALPHA
from bench.types import UserError


@dataclass(frozen=True)
class Choice:
    """Which runs of a results folder a report is about; without ``tasks`` all of them.

    ``items`` and ``seeds`` bound the completions in the file: per table, and per method of a table.  ``ablations`` is a
    folder of ablation reports.
    """

    results: Path
    tasks: tuple[str, ...] = ()
    items: int = 100
    seeds: int = 3
    ablations: Path | None = None


@dataclass(frozen=True)
class Line:
    """A row of a leaderboard: cells as in the other formats, its interval as a strip, the number of its colour."""

    method: str
    mark: str
    style: int
    strip: Strip
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """One table of the leaderboard with everything about it."""

    anchor: str
    name: str
    table: Table
    title: str
    headline: str
    head: tuple[str, ...]
    lines: tuple[Line, ...]
    chance: tuple[str, ...]
    scale: float  # end of the strips' axis, a fraction
    chance_at: float  # of chance on that axis
    legend: str
    grids: tuple[Grid, ...]
    curves: Chart
    matrix: Mapping[tuple[str, str], Mapping[str, str]]  # by row and column
    settings: TableSettings


@dataclass(frozen=True)
class Report:
    """The whole page; ``said`` is what the completions leave out, ``left_out`` names runs that cannot be read."""

    sections: tuple[Section, ...]
    overviews: tuple[Grid, ...]
    across: tuple[Grid, ...]
    profiles: tuple[Chart, ...]
    ablations: tuple[Mapping[str, Any], ...]
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    completions: Mapping[str, Any]
    said: Sequence[str]
    origin: Mapping[str, Sequence[tuple[Any, int]]]
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Loaded:
    """Finished runs of a results folder, their tables, and the learning curves of each table."""

    board: Board
    records: tuple[RunRecord, ...]
    curves: tuple[Mapping[str, Sequence[Point]], ...]
    bad: tuple[tuple[Path, str], ...]


def load_choice(choice: Choice) -> Loaded:
    """All runs that the choice is about; UserError if there are none."""
    records, bad = load_results(choice.results, "test")
    known = sorted({r.task for r in records})
    if not records:
        broken = f", {len(bad)} cannot be read: {bad[0][0]}: {bad[0][1]}" if bad else ""
        raise UserError(f"no finished runs in '{choice.results}' to report on{broken}")
    for task in choice.tasks:
        if task not in known:
            raise nearest(task, known, "task of these runs")
    kept = [r for r in records if not choice.tasks or r.task in choice.tasks]
    board = leaderboard(kept, concerns=find_concerns(kept, choice.results, bad))
    curves = tuple(method_curves(validated(runs)) for runs in by_table(kept))
    return Loaded(board, tuple(kept), curves, tuple(bad))


def validated(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The records as curves need them: of base its validation; of the others curves use only the paths."""
    return [load_run(Path(r.path), "val") if r.method == "base" else r for r in records]


def make_report(loaded: Loaded, choice: Choice) -> Report:
    """The content of the page."""
    board = loaded.board
    methods = dict.fromkeys(row.method for table in board.tables for row in table.rows)
    styles = {method: n for n, method in enumerate([m for m in methods if m != "base"])} | {"base": GREY}
    names = section_names(board.tables)
    runs = by_table(loaded.records)
    completions, said = choose_completions(list(zip(board.tables, runs)), choice.items, choice.seeds)
    return Report(
        tuple(make_section(*parts, styles) for parts in zip(board.tables, names, runs, loaded.curves)),
        tuple(overview_grids(board)),
        tuple(across_grids(board)),
        profiles(board, styles),
        () if choice.ablations is None else read_ablations(choice.ablations),
        report_facts(board, loaded.records),
        tuple(dict.fromkeys(note for t in board.tables for note in table_remarks(t)[len(t.sentences) :])),
        completions,
        said,
        commands_and_machines(loaded.records),
        tuple((str(path), fault) for path, fault in loaded.bad),
    )


def report_facts(board: Board, records: Sequence[RunRecord]) -> tuple[tuple[str, str], ...]:
    """Counts at the top of the page."""
    trained = {row.method for t in board.tables for row in t.rows} - {"base"}
    seeds = {r.seed for r in records if r.method != "base"} or {r.seed for r in records}
    counts = (
        ("run", len({r.run_id for r in records})),
        ("trained method", len(trained)),
        ("task", len({r.task for r in records})),
        ("table", len(board.tables)),
        ("seed", len(seeds)),
    )
    models = sorted({r.model for r in records})
    named = ("model" if len(models) == 1 else "models", ", ".join(models))
    return (*((f"{name}{'' if n == 1 else 's'}", str(n)) for name, n in counts), named)


def section_names(tables: Sequence[Table]) -> list[str]:
    """Short names: the task, with level, model or hash where tables share what stands before it."""
    tries = [
        [t.record.task for t in tables],
        [f"{t.record.task}, level {t.record.level}" for t in tables],
        [f"{t.record.task}, level {t.record.level}, {t.record.comparison[:8]}" for t in tables],
    ]
    names = []
    for shortest, longer, longest in zip(*tries):
        unique = [n for n, every in zip((shortest, longer), tries) if every.count(n) == 1]
        names.append(unique[0] if unique else longest)
    return names


def make_section(
    table: Table, name: str, runs: Sequence[RunRecord], lines: Mapping[str, Sequence[Point]], styles: Mapping[str, int]
) -> Section:
    head, body = board_columns(table)
    methods = [row.method for row in table.rows]
    highs = [row.accuracy.high for row in table.rows if row.accuracy.high <= 1]
    scale = min(1.0, 1.05 * max([*highs, table.record.chance, 1e-3]))
    in_points = {m: [(100 * x, 100 * y, 100 * a, 100 * b) for x, y, a, b in points] for m, points in lines.items()}
    labels = (f"Learning curves, {name}", "budget spent (%)", "validation accuracy (%)")
    return Section(
        anchor=f"t-{table.record.comparison[:12]}-{table.record.protocol}",
        name=name,
        table=table,
        title=table_title(table),
        headline=headline(table),
        head=tuple(head),
        lines=tuple(
            Line(
                r.method,
                cells[0].removeprefix(r.method).strip(),
                styled(styles[r.method])[0],
                make_strip(r.accuracy.low, r.accuracy.mean, r.accuracy.high, scale),
                tuple(cells[1:]),
            )
            for r, cells in zip(table.rows, body)
        ),
        chance=tuple(body[-1]),
        scale=scale,
        chance_at=make_strip(0, table.record.chance, 1, scale)[1],
        legend=table_legend(table),
        grids=tuple(table_grids(table)),
        curves=make_chart({m: in_points[m] for m in methods if m in in_points}, styles, labels, unit=" %"),
        matrix=pair_matrix(table),
        settings=table_settings(methods, runs),
    )


def headline(table: Table) -> str:
    """The best method and those not shown to differ from it, in one sentence that the tests allow."""
    first = table.rows[0]
    ties = ties_below(first.method, table.pairs)
    best = f"{first.method} scores {percent(first.accuracy.mean)} %"
    if not table.pairs:
        return f"Only {best}: nothing to compare it with."
    if not ties:
        return f"{best}, more than every other method (Holm-adjusted p <= {ALPHA})."
    return f"{best}, the highest mean; not shown to differ from {listed_names(ties)}."


def pair_matrix(table: Table) -> dict[tuple[str, str], dict[str, str]]:
    """By row and column: row minus column in points, its limits, Holm's p, and as ``state`` what the test says."""
    cells = {}
    for pair in table.pairs:
        d, p = pair.difference, p_text(pair.adjusted).replace("0.", ".")
        ways = ((pair.first, pair.second, d.mean, d.low, d.high), (pair.second, pair.first, -d.mean, -d.high, -d.low))
        for row, column, mean, low, high in ways:
            state = "tie" if pair.tie else "above" if mean > 0 else "below"
            limits = f"{signed_points(low)} to {signed_points(high)}"
            cells[row, column] = {"state": state, "difference": signed_points(mean), "limits": limits, "p": p}
    return cells
