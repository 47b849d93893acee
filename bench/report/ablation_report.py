"""An ablation's findings for a terminal, as markdown or JSON: arms, effects, identities, a sentence per component."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bench.analysis.effects import COSTS, INTERACTION, TERM, Effect, contrasts, estimate_effects
from bench.analysis.runs import RunRecord, method_scores, scores_interval
from bench.analysis.sentences import describe_difference, p_text, point_limits, say_planning, signed_points
from bench.report.grids import MARKS, interval_cell
from bench.report.table_cells import UNITS, amount
from bench.report.table_writers import json_text, markdown_table
from bench.report.terminal_table import terminal_table
from bench.stats.intervals import ITEMS, Interval
from bench.stats.power import MARGIN, REFUTED, SUPPORTED
from bench.store.passport import worst
from bench.study.ablation import Ablation

if TYPE_CHECKING:
    from bench.audit.identities import Agreement

COST_HEADS = [UNITS.get(key, key) for key in COSTS]
EFFECTS = "Effects, in points, and changes of cost"
READING = (
    "Effect: the changed setting minus the kept one, in points, paired by seed and item; the limits have the level of "
    "their step in Holm's correction over all effects here, so that they exclude 0 exactly where the adjusted p is "
    "at most 0.05; an effect with one or two seeds is not corrected, its adjusted p is 1 and its limits are at 95 %. "
    f"Refuted: the change is better, or the limits lie within {100 * MARGIN:g} points of 0."
)


@dataclass(frozen=True)
class ArmRow:
    """One arm's runs: accuracy (a fraction) with its interval, and mean costs."""

    name: str
    method: str
    seeds: tuple[int, ...]
    accuracy: Interval
    costs: Mapping[str, float]
    passport: str


@dataclass(frozen=True)
class Findings:
    """What an ablation showed; ``missing`` names arms without a finished run."""

    ablation: Ablation
    metric: str
    record: RunRecord
    arms: tuple[ArmRow, ...]
    effects: tuple[Effect, ...]
    identities: tuple[Agreement, ...]
    sentences: tuple[str, ...]
    missing: tuple[str, ...]


def findings(
    ablation: Ablation,
    records: Mapping[str, Sequence[RunRecord]],
    identities: Sequence[Agreement] = (),
    metric: str = "accuracy",
) -> Findings:
    """Tests and sentences from the finished runs of each arm.  At least one arm must have some."""
    present = {arm: runs for arm, runs in records.items() if runs}
    missing = tuple(arm.name for arm in ablation.arms if arm.name not in present)
    wanted = contrasts(ablation)
    effects = tuple(estimate_effects(wanted, present, metric))
    rows = tuple(
        arm_row(arm.name, arm.method, present[arm.name], metric) for arm in ablation.arms if arm.name in present
    )
    tested = {e.contrast.name for e in effects}
    sentences = [effect_sentence(ablation, effect) for effect in effects]
    sentences += [f"{c.name}: not estimated, its arms have no seed in common." for c in wanted if c.name not in tested]
    sentences += [agreement.sentence for agreement in identities]
    sentences += ablation.notes
    if any(row.accuracy.over == ITEMS for row in rows):
        sentences.append(
            "One seed: limits cover items only, not the variation between seeds; nothing is decided by it."
        )
    if missing:
        sentences.append(f"No finished run: {', '.join(missing)}.")
    record = next(iter(present.values()))[0]
    return Findings(ablation, metric, record, rows, effects, tuple(identities), tuple(sentences), missing)


def arm_row(name: str, method: str, runs: Sequence[RunRecord], metric: str) -> ArmRow:
    scores = method_scores(runs, metric)
    costs = {k: sum(r.ledger[k] for r in runs) / len(runs) for k in COSTS if all(k in r.ledger for r in runs)}
    return ArmRow(name, method, scores.seeds, scores_interval(scores), costs, worst([r.passport for r in runs]))


def effect_sentence(ablation: Ablation, effect: Effect) -> str:
    """One sentence from the test of one contrast."""
    contrast, test = effect.contrast, effect.difference
    figures = f"({describe_difference(test, effect.adjusted)})" if not test.constant else ""
    if effect.verdict == SUPPORTED:
        shown = {INTERACTION: "they interact", TERM: f"it {'raises' if test.mean > 0 else 'lowers'} accuracy"}
        what = shown.get(contrast.kind, f"{contrast.factor}={contrast.kept} helps")
    elif effect.verdict == REFUTED:
        kind = {INTERACTION: "an interaction", TERM: "an effect"}.get(contrast.kind, "a difference")
        better = test.mean > MARGIN or effect.low > 0
        what = f"{contrast.changed} is better" if better else f"{kind} of {100 * MARGIN:g} points or more is ruled out"
    else:
        what = f"not shown to matter; {how_to_plan(effect)}"
    return f"{contrast.name}: {effect.verdict}, {what} {figures}".rstrip() + "."


def how_to_plan(effect: Effect) -> str:
    """Why an underpowered contrast is not decided, and which seeds would find which effect."""
    if effect.difference.num_seeds < 2:
        return "one seed says nothing of other seeds"
    if effect.seeds_needed is None:
        return "both sides have the same score on every item, which leaves no variation to estimate an interval from"
    return say_planning(effect.seeds_needed)


# --- cells ---------------------------------------------------------------------------------------------------------


def ablation_title(findings: Findings) -> str:
    r = findings.record
    kind = "Path" if findings.ablation.design == "path" else f"Ablation ({findings.ablation.design})"
    return (
        f"{kind} of {findings.ablation.method}: {r.task}, level {r.level}, model {r.model}, {r.split} split of "
        f"{len(r.item_ids)} items, {findings.metric}, budget {amount(r.budget_limit)} {r.budget_unit}, protocol "
        f"{r.protocol}, comparison {r.comparison[:8]}"
    )


def arm_cells(findings: Findings) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the arms."""
    head = ["arm", f"{findings.metric} %", "95 % interval", *COST_HEADS, "seeds"]
    body = []
    for row in findings.arms:
        costs = [amount(row.costs.get(key)) for key in COSTS]
        body.append([row.name + MARKS[row.passport], *interval_cell(row.accuracy), *costs, str(len(row.seeds))])
    return head, body


def effect_cells(findings: Findings) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the effects."""
    head = ["contrast", "effect", "limits", "Holm p", "verdict", *COST_HEADS]
    body = []
    for e in findings.effects:
        limits = "-" if e.low == e.high else point_limits(e.low, e.high)
        costs = [cost_change(e.costs.get(key)) for key in COSTS]
        body.append([e.contrast.name, signed_points(e.difference.mean), limits, p_text(e.adjusted), e.verdict, *costs])
    return head, body


def cost_change(pair: tuple[float, float] | None) -> str:
    """Change of a cost, for example "+12 %"; "-" where one side is unknown or the kept side is free."""
    if pair is None or pair[0] == 0:
        return "-"
    return f"{100 * (pair[1] / pair[0] - 1):+.0f} %"


# --- formats -------------------------------------------------------------------------------------------------------


def ablation_table(findings: Findings) -> str:
    """For a terminal of 100 columns."""
    arms = terminal_table(ablation_title(findings), *arm_cells(findings), [])
    if not findings.effects:
        return "\n".join([arms, "", *findings.sentences]) + "\n"
    effects = terminal_table(EFFECTS, *effect_cells(findings), [*findings.sentences, READING])
    return f"{arms}\n\n{effects}\n"


def ablation_markdown(findings: Findings, figures: Sequence[str] = ()) -> str:
    """GitHub tables, the sentences as a list, then the figures."""
    parts = [f"# {ablation_title(findings)}", markdown_table(*arm_cells(findings))]
    if findings.effects:
        parts += [f"## {EFFECTS}", markdown_table(*effect_cells(findings))]
    parts += ["\n".join(f"- {sentence}" for sentence in findings.sentences), READING]
    parts += [f"![{name}]({name})" for name in figures]
    return "\n\n".join(parts) + "\n"


def findings_as_dict(findings: Findings) -> dict[str, Any]:
    """All figures: accuracies and differences are fractions, absent values None."""
    r = findings.record
    shared = ("task", "level", "model", "template", "data", "split", "budget_unit", "budget_limit", "protocol")
    settings = {arm.name: dict(arm.levels) for arm in findings.ablation.arms}
    return {
        "method": findings.ablation.method,
        "design": findings.ablation.design,
        "metric": findings.metric,
        **{key: getattr(r, key) for key in shared},
        "comparison": r.comparison,
        "num_items": len(r.item_ids),
        "arms": [{**asdict(row), "levels": settings[row.name]} for row in findings.arms],
        "effects": [asdict(effect) for effect in findings.effects],
        "identities": [asdict(agreement) for agreement in findings.identities],
        "sentences": list(findings.sentences),
        "missing": list(findings.missing),
    }


def ablation_json(findings: Findings) -> str:
    return json_text(findings_as_dict(findings)) + "\n"


FORMATS = {"table": ablation_table, "markdown": ablation_markdown, "json": ablation_json}
