"""Methods at equal amounts and their learning curves as grids of text and as flat rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.analysis.contests import ties_below
from bench.analysis.equal_currency import (
    ASK_RUNS,
    FREE,
    UNMEASURED,
    WORDS,
    Comparison,
    CurveSummary,
    EqualRow,
    EqualTable,
    at_equal,
    curve_summaries,
)
from bench.analysis.metrics import metric_meaning
from bench.analysis.run_curves import CURRENCIES
from bench.analysis.sentences import say_few_seeds
from bench.report.formats import render_grids
from bench.report.grids import Grid, interval_cell, percent
from bench.report.table_cells import UNITS, amount, setting_words
from bench.stats.intervals import ALPHA, interval_fields

ALL = ("flops", "tokens", "seconds", "rollouts", "demonstrations")  # of the table over all of them
SHORT = {FREE: "end", UNMEASURED: UNMEASURED}
UNIT_NAMES = {**UNITS, "demonstrations": "distinct demonstrations"}


def validation_title(comparison: Comparison) -> str:
    """What all methods of a comparison share, with the size of its validation split."""
    return setting_words(replace(comparison.record, split="val"), comparison.num_items)


@dataclass(frozen=True)
class Shown:
    """What is printed: grids for people, flat rows for JSON and CSV."""

    grids: list[Grid]
    rows: list[dict[str, Any]]


def show_equal(comparisons: Sequence[Comparison], currency: str, tasks: Sequence[str] = ()) -> Shown:
    """One table per comparison at an equal amount of a currency; for "all" one table over all currencies.

    ``tasks`` chooses tables (all if empty), whose p-values stay corrected over all comparisons.
    """
    by_currency = [at_equal(comparisons, name) for name in (ALL if currency == "all" else (currency,))]
    grids, rows = [], []
    for comparison, tables in zip(comparisons, zip(*by_currency)):
        if tasks and comparison.record.task not in tasks:
            continue
        grids.append(currencies_grid(comparison, tables) if currency == "all" else equal_grid(comparison, tables[0]))
        rows += [equal_fields(comparison, table, row) for table in tables for row in table.rows]
    return Shown(grids, rows)


def currency_name(currency: str) -> str:
    return UNIT_NAMES.get(currency, currency)


def equal_grid(comparison: Comparison, table: EqualTable) -> Grid:
    """Methods at an equal amount of one currency."""
    head = [("method", ""), (f"{comparison.metric} %", "95 % interval"), ("ties", ""), ("how", "")]
    head += [(currency_name(table.currency), "at the end"), ("seeds", "")]
    body = [
        [
            (row.method, ""),
            interval_cell(row.score),
            (row.ties, ""),
            (row.state, ""),
            (amount(row.spent), ""),
            (str(row.num_seeds), ""),
        ]
        for row in table.rows
    ]
    states = state_notes([table], {state: state for state in WORDS})
    note = [best_at_amount(table), *states, how_to_read(comparison), *few_seeds_notes(comparison)]
    title = f"At equal {currency_name(table.currency)}: {validation_title(comparison)}"
    return Grid(title, head, body, "\n".join(note))


def best_at_amount(table: EqualTable) -> str:
    """The amount, the best method there, and the methods that are not shown to differ from it."""
    if table.amount is None:
        return f"No method uses {currency_name(table.currency)}: all stand at their ends."
    ranked = [row.method for row in table.rows if row.score is not None]
    if not ranked:
        return f"At {amount(table.amount)} {currency_name(table.currency)}: no method was measured this early."
    ties = ties_below(ranked[0], table.pairs)
    tied = f"; not shown to differ from it: {', '.join(ties)}" if ties else ""
    return f"At {amount(table.amount)} {currency_name(table.currency)} the best is {ranked[0]}{tied}."


def how_to_read(comparison: Comparison) -> str:
    meaning = metric_meaning(comparison.metric, comparison.record.correct.shape[1])
    return (
        f"{meaning}, in %, of the validation split, linear per item "
        "between the two validations beside the amount, which is the least that any run of a method that uses it had "
        f"spent at its end. Ties: methods that share a letter are not shown to differ (p > {ALPHA}, Holm's correction "
        "over the pairs with base and over all others, of all tasks in this setting, within one currency). Letters "
        "come from each pair at the smaller of its own two totals, so that no third method changes its test, and a "
        "pair whose order differs there shares a letter. Intervals are over seeds and items, of a method with one "
        "seed over items only."
    )


def state_notes(tables: Sequence[EqualTable], names: Mapping[str, str]) -> list[str]:
    """What the states beside ``measured`` mean, under the names that the tables give them."""
    seen = {row.state for table in tables for row in table.rows}
    asked = {UNMEASURED: f"; {ASK_RUNS}"} if any(table.currency == "demonstrations" for table in tables) else {}
    return [f"{names[state]}: {WORDS[state]}{asked.get(state, '')}." for state in WORDS if state in seen]


def few_seeds_notes(comparison: Comparison) -> list[str]:
    return say_few_seeds({method: len(runs) for method, runs in comparison.curves.items()})


def currencies_grid(comparison: Comparison, tables: Sequence[EqualTable]) -> Grid:
    """Who wins depends on what is equal: methods x currencies, in the order of the budget's own currency."""
    own = next((t for t in tables if t.currency == comparison.record.budget_unit), tables[0])
    order = [row.method for row in own.rows]
    by_method = [{row.method: row for row in table.rows} for table in tables]
    head = [("method", ""), *((t.currency, amount(t.amount)) for t in tables)]
    body = [[(method, ""), *(equal_cell(rows[method]) for rows in by_method)] for method in order]
    note = [*map(best_at_amount, tables), *state_notes(tables, SHORT), how_to_read(comparison)]
    note += ["Demonstrations are distinct ones.", *few_seeds_notes(comparison)]
    return Grid(f"Who wins depends on what is equal: {validation_title(comparison)}", head, body, "\n".join(note))


def equal_cell(row: EqualRow) -> tuple[str, str]:
    """``43.8 a`` and ``[39.1, 48.5] end``"""
    figure, limits = interval_cell(row.score)
    if row.score is None:
        return figure, SHORT[row.state]
    return f"{figure} {row.ties}", f"{limits} {SHORT.get(row.state, '')}".strip()


def comparison_fields(comparison: Comparison) -> dict[str, Any]:
    """The fields that all rows of a comparison have."""
    keys = ("task", "level", "model", "template", "data", "protocol", "comparison", "budget_unit", "budget_limit")
    return {key: getattr(comparison.record, key) for key in keys}


def equal_fields(comparison: Comparison, table: EqualTable, row: EqualRow) -> dict[str, Any]:
    """One flat row; scores are fractions, absent ones None."""
    return {
        **comparison_fields(comparison),
        **{"currency": table.currency, "ledger": CURRENCIES[table.currency], "amount": table.amount},
        **{"method": row.method, "metric": comparison.metric, "state": row.state, "ties": row.ties},
        **{**interval_fields("score", row.score), "interval_over": row.score.over if row.score else None},
        **{"num_seeds": row.num_seeds, "num_items": comparison.num_items, "spent": row.spent, "runs": list(row.runs)},
    }


# --- learning curves -------------------------------------------------------------------------------------------------


def show_curves(comparisons: Sequence[Comparison], currency: str | None, level: float | None) -> Shown:
    """Area under every learning curve and what reaching a level costs; by default against the budget's currency."""
    grids, rows = [], []
    for comparison in comparisons:
        name = currency or comparison.record.budget_unit
        ranked, wanted, low, high = curve_summaries(comparison.curves, name, level)
        head = [
            ("method", ""),
            ("area %", "95 % interval"),
            (f"{currency_name(name)} to", f"reach {percent(wanted)} %"),
        ]
        head += [("earliest", "to latest"), ("end %", "95 % interval")]
        body = [curve_cells(summary) for summary in ranked]
        note = [
            f"Area: mean {comparison.metric} along the curve from {amount(low)} to {amount(high)} "
            f"{currency_name(name)}.",
            "To reach: where the mean curve first is at the level; earliest and latest: where the limits of its "
            "interval are; -: not within the budget.",
            *([] if "base" in comparison.curves else ["No base run: curves begin at their first validation."]),
        ]
        title = f"Learning curves against {currency_name(name)}: {validation_title(comparison)}"
        grids.append(Grid(title, head, body, "\n".join(note)))
        rows += [
            {**comparison_fields(comparison), **curve_fields(summary, name, wanted, low, high)} for summary in ranked
        ]
    return Shown(grids, rows)


def curve_cells(summary: CurveSummary) -> list[tuple[str, str]]:
    """Cells of one method's curve."""
    area, reached, end = summary.area, summary.reached, summary.points[-1][1]
    return [
        (summary.method, ""),
        interval_cell(area),
        (amount(reached.amount), ""),
        (f"{amount(reached.earliest)} to {amount(reached.latest)}", ""),
        interval_cell(end),
    ]


def curve_fields(summary: CurveSummary, currency: str, level: float, low: float, high: float) -> dict[str, Any]:
    """One flat row of a method's curve; points are (amount, mean, low, high)."""
    reached = summary.reached
    return {
        **{"method": summary.method, "currency": currency, "ledger": CURRENCIES[currency]},
        **{**interval_fields("area", summary.area), "area_from": low, "area_to": high, "reach": level},
        **{"to_reach": reached.amount, "to_reach_low": reached.earliest, "to_reach_high": reached.latest},
        "points": [[amount, i.mean, i.low, i.high] for amount, i in summary.points],
    }


def render_shown(shown: Shown, format: str) -> str:
    """The tables in one of the leaderboard's formats, ending with a newline."""
    return render_grids(lambda: shown.grids, lambda: shown.rows, format)
