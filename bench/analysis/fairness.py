"""What differs between two arms besides the method: every resolved knob, declared, tuned or undeclared.

The rule is in docs/fairness.md; ``concerns`` applies it to all rows of a leaderboard.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.analysis.concerns import MISSING, Concern
from bench.analysis.concerns import UNDECLARED as DIFFERS
from bench.analysis.field_origin import DECLARED, STATUSES, TUNED, UNDECLARED, Reason, field_reason, run_presets
from bench.analysis.records import passport_state, read_plan
from bench.analysis.runs import RunRecord
from bench.plan.spec import RunPlan
from bench.store.run_folder import CorruptRun, is_done, read_json

ABSENT = "-"
NOT_KNOBS = (
    "method",
    "stages",
    "seed",
    "tuned",
    "scaled",
    "evaluation",
    "others",
    "execution",
)  # what the arms are, or taken apart below
ENVIRONMENT = ("python", "machine", "system", "cores", "gpu")
APART = (
    *("task", "level", "data", "model", "model_digest", "template", "chat_digest"),
    *("protocol", "budget_unit", "budget_limit"),
)


@dataclass(frozen=True)
class Knob:
    """A setting on which two arms differ: values as text, one of STATUSES, and why."""

    name: str
    a: str
    b: str
    status: str
    why: str = ""


@dataclass(frozen=True)
class Arm:
    """One run, as far as settings go: plan, content of env.json, state of its passport."""

    plan: RunPlan
    env: Mapping[str, Any] = field(default_factory=dict)
    passport: str = ""


def read_arm(path: Path, passport: bool = True) -> Arm:
    """The arm of one run directory, finished or not.  Raises CorruptRun if plan or environment cannot be read."""
    plan = read_plan(path)
    env = read_json(path / "env.json") if (path / "env.json").exists() else {}
    return Arm(plan, env, passport_state(path, plan) if passport else "")


def diff_plans(plan_a: RunPlan, plan_b: RunPlan) -> list[Knob]:
    """Every knob on which two plans differ, undeclared ones first.  A seed is a repetition, not a knob."""
    return diff_arms([Arm(plan_a)], [Arm(plan_b)])


def diff_arms(a: Sequence[Arm], b: Sequence[Arm]) -> list[Knob]:
    """Every knob on which the runs of two methods differ; the text of a side lists all values that its runs have."""
    knobs = [*shared_knobs(a, b), *stage_fields(a, b)]
    return sorted(knobs, key=lambda k: (STATUSES[::-1].index(k.status), k.name))


def shared_knobs(a: Sequence[Arm], b: Sequence[Arm]) -> list[Knob]:
    """Knobs that belong to no method.  None of them may differ, whichever methods are compared."""
    sides = [[arm_settings(arm) for arm in side] for side in (a, b)]
    names = dict.fromkeys(name for side in sides for values in side for name in values)
    knobs = []
    for name in names:
        left, right = (distinct_values([values.get(name, ABSENT) for values in side]) for side in sides)
        if left != right:
            knobs.append(Knob(name, left, right, UNDECLARED, "belongs to no method"))
    left, right = (distinct_values([arm.plan.method for arm in side]) for side in (a, b))
    if left != right:
        knobs.append(Knob("method", left, right, DECLARED, "what is compared"))
    return knobs


def arm_settings(arm: Arm) -> dict[str, str]:
    """All settings of a run except method, seed and hyper-parameters, as text by name."""
    plan = arm.plan.model_dump(mode="json")
    values = {k: setting_text(v) for k, v in plan.items() if k not in NOT_KNOBS}
    values |= {f"evaluation.{k}": setting_text(v) for k, v in plan["evaluation"].items()}
    values["evaluation.others"] = setting_text([f"{o['task']} {o['level']} v{o['version']}" for o in plan["others"]])
    values |= {k: setting_text(v) for k, v in (plan["execution"] or {}).items()}  # where it is compared too
    return values | environment_values(arm.env) | ({"passport": arm.passport} if arm.passport else {})


def environment_values(env: Mapping[str, Any]) -> dict[str, str]:
    """What in env.json may move a number: the code of bench, versions of libraries, hardware."""
    values = {key: setting_text(env[key]) for key in ENVIRONMENT if key in env}
    values |= {f"version of {name}": setting_text(version) for name, version in env.get("versions", {}).items()}
    if "source" in env.get("stack", {}):
        values["code of bench"] = setting_text(env["stack"]["source"])
    return values


def stage_fields(a: Sequence[Arm], b: Sequence[Arm]) -> list[Knob]:
    """Knobs for the hyper-parameters that differ.

    One counts as declared or tuned only if every value of both sides is explained.
    """
    sides = [field_values(side) for side in (a, b)]
    knobs: list[Knob] = []
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        left, right = (side.get(name, {}) for side in sides)
        if set(left) == set(right):
            continue
        known = [{r.status for reasons in values.values() for r in reasons} for values in (left, right)]
        status = max(known[0] | known[1], key=STATUSES.index)
        one_sided = (TUNED in known[0]) != (TUNED in known[1])
        why = "; ".join(dict.fromkeys(reasons_text(values) for values in (left, right) if values))
        alone = "only one has it; " if not (left and right) else "tuned on one side only; " if one_sided else ""
        knobs.append(Knob(name, values_text(left), values_text(right), status, alone + why))
    return knobs


def field_values(side: Sequence[Arm]) -> dict[str, dict[str, list[Reason]]]:
    """For each field the values that stages of these runs have, each with its reasons."""
    reasons: dict[str, dict[str, list[Reason]]] = defaultdict(lambda: defaultdict(list))
    for arm in {(arm.plan.method, repr(arm.plan.stages)): arm for arm in side}.values():  # seeds share them
        known = run_presets(arm.plan, arm.env)
        for number, stage in enumerate(arm.plan.stages):
            if stage.fields["batch_size"] == 0:  # base: it trains nothing
                continue
            for name, value in stage.fields.items():
                reasons[name][setting_text(value)].append(field_reason(arm.plan, number, name, known))
            reasons["share"][setting_text(stage.share)].append(Reason(DECLARED, "in the label"))
            if stage.overlap is not None:
                reasons["overlap"][setting_text(stage.overlap)].append(Reason(DECLARED, "in the label"))
    return reasons


def values_text(values: Mapping[str, Sequence[Reason]]) -> str:
    return " and ".join(values) if values else ABSENT


def reasons_text(values: Mapping[str, Sequence[Reason]]) -> str:
    return " and ".join(dict.fromkeys(r.why for reasons in values.values() for r in reasons))


def setting_text(value: Any) -> str:
    """A value as JSON, but words without quotes."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def distinct_values(values: Sequence[str]) -> str:
    return " and ".join(sorted(set(values)))


def reasons_apart(a: Sequence[Arm], b: Sequence[Arm]) -> list[str]:
    """In words why two arms may not be compared at all; empty if they may."""
    differences: list[str] = []
    for name in APART:
        left, right = (distinct_values([setting_text(getattr(arm.plan, name)) for arm in side]) for side in (a, b))
        if left != right and not (name == "model_digest" and differences and differences[-1].startswith("model ")):
            differences.append(f"{name.replace('_', ' ')} {left} and {right}")
    return differences


# --- rows of a leaderboard -------------------------------------------------------------------------------------------


def find_concerns(
    records: Sequence[RunRecord], results: Path | None, bad: Sequence[tuple[Path, str]]
) -> dict[tuple[str, int, str], list[Concern]]:
    """Undeclared differences and missing runs, to be marked, by comparison, protocol and method.

    A record whose directory is gone has no settings to compare.
    """
    tables: dict[tuple[str, int], list[RunRecord]] = defaultdict(list)
    for record in {r.path: r for r in records}.values():
        tables[record.table].append(record)
    marks: dict[tuple[str, int, str], list[Concern]] = defaultdict(list)
    for key, of_table in tables.items():
        for method, words in undeclared(arms_of(of_table)).items():
            marks[*key, method] += [(DIFFERS, word) for word in words]
    for plan, concern in missing_runs(results, bad) if results is not None else []:
        marks[plan.comparison, plan.protocol, plan.method].append(concern)
    return {key: words for key, words in marks.items() if words}


def arms_of(records: Sequence[RunRecord]) -> dict[str, list[Arm]]:
    """The arms of one table's runs by method."""
    methods: dict[str, list[Arm]] = defaultdict(list)
    for record in records:
        with suppress(CorruptRun):  # named as such when it was loaded
            methods[record.method].append(read_arm(Path(record.path), passport=False))
    return methods


def missing_runs(results: Path, bad: Sequence[tuple[Path, str]]) -> Iterator[tuple[RunPlan, Concern]]:
    """Plans of the runs of a folder that have no result, each with the concern to show.

    Such a run was interrupted, has failed, still goes on, or is corrupted.  One without a readable plan is passed over.
    """
    corrupted = {path for path, _ in bad}
    for run in sorted(path.parent for path in results.glob("*/plan.json")):
        if is_done(run) and run not in corrupted:
            continue
        try:
            plan = read_plan(run)
        except CorruptRun:
            continue
        yield plan, (MISSING, f"seed {plan.seed} {'corrupted' if run in corrupted else 'unfinished'}")


def undeclared(methods: Mapping[str, Sequence[Arm]]) -> dict[str, list[str]]:
    """For each method of one table what differs from the other methods without being declared.

    Outside the methods: every value that is not the most common one among the runs, all values if none is.  Of a
    method: an unexplained value of a field that another method has with another value.
    """
    words: dict[str, list[str]] = {method: [] for method in methods}
    outside = {method: [environment_values(arm.env) for arm in arms] for method, arms in methods.items()}
    names = dict.fromkeys(name for runs in outside.values() for values in runs for name in values)
    for name in names:
        counts = Counter(values.get(name, ABSENT) for runs in outside.values() for values in runs)
        if len(counts) > 1:
            ranked = counts.most_common(2)
            usual = None if ranked[0][1] == ranked[1][1] else ranked[0][0]
            for method, runs in outside.items():
                other = distinct_values([v for values in runs if (v := values.get(name, ABSENT)) != usual])
                words[method] += [f"{name} {other}"] if other else []
    inside = {method: field_values(arms) for method, arms in methods.items()}
    for method, fields in inside.items():
        for name, values in fields.items():
            odd = [v for v, reasons in values.items() if any(r.status == UNDECLARED for r in reasons)]
            elsewhere = {v for other in inside if other != method for v in inside[other].get(name, {})}
            words[method] += [f"{name} {v}" for v in odd if elsewhere - {v}]
    return words
