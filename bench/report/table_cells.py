"""The cells, title and notes of a leaderboard's table, as text for every format."""

from __future__ import annotations

import math

from bench.analysis.concerns import notes
from bench.analysis.metrics import ACCURACY, GREEDY, metric_chance, metric_meaning
from bench.analysis.runs import RunRecord
from bench.analysis.sentences import point_limits, signed_points
from bench.analysis.table import Row, Table
from bench.report.grids import percent, percent_limits, row_label
from bench.stats.intervals import ALPHA
from bench.store.run_folder import SELECTED

NOTES = {
    "none": "? no passport: the stack of these runs was not checked; 'bench preflight' checks the present one.",
    "failed": "! failed preflight: an identity of a correct implementation does not hold on the stack of these runs.",
    "other methods": "~ passport of other methods: the stack was checked, not with these methods, settings or task.",
}
UNITS = {"flops": "FLOPs"}
EMPTY = "no finished runs to compare"


def amount(x: float | None) -> str:
    """A count for people: 950, 12.3k, 4.5M; from 1e12 on 4.0e12; "-" if unknown."""
    if x is None or not math.isfinite(x):
        return "-"
    if x >= 1e12:
        return f"{x:.1e}".replace("e+", "e")
    for scale, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if x >= scale * (1 - 5e-5):
            return f"{x / scale:.1f}{suffix}"
    return f"{x:.0f}" if x >= 100 or x == round(x) else f"{x:.1f}"


def table_title(table: Table) -> str:
    """What all rows share: task, model, data, budget, items."""
    return setting_words(table.record, table.num_items)


def setting_words(r: RunRecord, num_items: int) -> str:
    """The same, from one of the runs and the number of items of its split."""
    of = {"ood": f"ood split (level {r.ood_level})", SELECTED: "test split (policies of the best validation)"}
    split = of.get(r.split, f"{r.split} split")
    return (
        f"{r.task}, level {r.level}, model {r.model}, template {r.template}, data {r.data}, {split} of "
        f"{num_items} items, budget {amount(r.budget_limit)} {UNITS.get(r.budget_unit, r.budget_unit)}, "
        f"protocol {r.protocol}, comparison {r.comparison[:8]}"
    )


def table_legend(table: Table) -> str:
    """How to read the columns."""
    basis = {r.ranked.over for r in table.rows if r.method != "base"} or {table.rows[0].ranked.over}
    return (
        f"{metric_meaning(table.metric, table.record.correct.shape[1])}, in %, with its "
        f"95 % interval over {' or '.join(sorted(basis, reverse=True))}. Gain: points over base, paired by item. "
        f"Ties: methods that share a letter are not shown to differ (p > {ALPHA}, Holm's correction over the pairs "
        "with base and over all others, of all tasks in this setting; intervals are not corrected), which does not "
        "show that they are equal. "
        "Costs: means over seeds."
    )


def table_remarks(table: Table) -> list[str]:
    """What stands under a table: what the tests found, then what its marks mean."""
    states = {row.passport for row in table.rows}
    marks = [note for state, note in NOTES.items() if state in states]
    return [*table.sentences, *marks, *notes({row.method: row.concerns for row in table.rows})]


def metric_headings(table: Table) -> tuple[str, str, int]:
    """Names of the metric and of the figure beside it, and the k of the pass@k shown; k is 1 if none is shown."""
    return table.metric, ACCURACY if table.metric == GREEDY else GREEDY, table.max_k


def board_columns(table: Table) -> tuple[list[str], list[list[str]]]:
    """Headings and one-line cells of the markdown and LaTeX tables."""
    first, beside, k = metric_headings(table)
    unit = UNITS.get(table.record.budget_unit, table.record.budget_unit)
    head = ["method", f"{first} %", f"{beside} %", *([f"pass@{k} %"] if k > 1 else []), "gain over base", "ties"]
    head += [f"{unit} spent", "tokens", "rollouts", "demos", "seconds", "seeds"]
    body = []
    for row in table.rows:
        share = spent_cell(row)
        costs = [amount(row.ledger.get(key)) for key in ("tokens", "rollouts", "demonstrations", "seconds")]
        body.append(
            [
                row_label(row),
                f"{percent(row.ranked.mean)} {percent_limits(row.ranked)}",
                percent(second_figure(table, row)),
            ]
            + ([percent(row.pass_at_k[k])] if k > 1 else [])
            + [" ".join(gain_cell(row)).strip(), row.ties, f"{share[0]} ({share[1]})" if share[1] else share[0]]
            + [*costs, str(len(row.scores.seeds))]
        )
    body.append(["(chance)", percent(metric_chance(table.metric, table.record.chance)), *[""] * (len(head) - 2)])
    return head, body


def terminal_cells(table: Table, row: Row) -> list[str]:
    """Two-line cells of one row, in the order of the terminal table's columns after the method."""
    ledger, max_k = row.ledger, table.max_k
    return [
        f"{percent(row.ranked.mean)}\n{percent_limits(row.ranked)}",
        percent(second_figure(table, row)) + (f"\n{percent(row.pass_at_k[max_k])}" if max_k > 1 else ""),
        "\n".join(gain_cell(row)),
        row.ties,
        "\n".join(spent_cell(row)),
        f"{amount(ledger.get('tokens'))}\n{amount(ledger.get('rollouts'))}",
        f"{amount(ledger.get('demonstrations'))}\n{amount(ledger.get('distinct_demonstrations'))}",
        f"{amount(ledger.get('seconds'))}\n{len(row.scores.seeds)}",
    ]


def second_figure(table: Table, row: Row) -> float:
    """The figure beside the metric: greedy accuracy, or the sampled one where rows are ranked by the greedy one."""
    return row.accuracy.mean if table.metric == GREEDY else row.greedy


def gain_cell(row: Row) -> tuple[str, str]:
    """Gain over base and its limits in points; dashes for base."""
    if row.gain is None:
        return "-", ""
    return signed_points(row.gain.mean), point_limits(row.gain.low, row.gain.high)


def spent_cell(row: Row) -> tuple[str, str]:
    """What was spent in the budget's unit, and its share of the limit; dashes for base, which spends nothing."""
    return ("-", "") if row.method == "base" else (amount(row.spent), f"{percent(1 - row.unspent_share)} %")
