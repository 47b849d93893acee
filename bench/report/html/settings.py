"""What the arms of a table were run with: their hyper-parameters side by side, passports, commands and machines."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from bench.analysis.fairness import diff_plans, setting_text
from bench.analysis.field_origin import STATUSES
from bench.analysis.records import read_plan
from bench.analysis.runs import RunRecord, by_method
from bench.plan.spec import RunPlan
from bench.store import passport
from bench.store.run_folder import CorruptRun, read_json

ABSENT = "-"
STATES = {
    passport.PASSED: "passed: every check of its methods and settings on the stack of its runs",
    passport.NONE: "none: the stack of its runs was not checked",
    passport.FAILED: "failed: an identity of a correct implementation does not hold on the stack of its runs",
    passport.OTHER: "other methods: the stack was checked, not with these methods, settings or task",
}
PROGRAM = ("__main__.py", "bench", "posttrain-bench")  # what a command's first word may be: it is shown as "bench"


@dataclass(frozen=True)
class SettingRow:
    """A setting that at least two methods of a table have, with its value for each; "-" where there is none."""

    name: str
    values: tuple[str, ...]
    status: str = ""  # of the differences, where they were judged: "declared", "tuned" or "undeclared"

    @property
    def differs(self) -> bool:
        return len({v for v in self.values if v != ABSENT}) > 1

    @property
    def usual(self) -> str:
        """The value that most methods have, the first of several."""
        return Counter(v for v in self.values if v != ABSENT).most_common(1)[0][0]


@dataclass(frozen=True)
class TableSettings:
    """The methods that train, side by side the settings that at least two of them have, and every method in full."""

    methods: tuple[str, ...]
    knobs: tuple[SettingRow, ...]
    arms: tuple[dict[str, Any], ...]  # as ``method_in_full`` gives them


def value_text(value: Any) -> str:
    """A setting's value as a user may write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(value_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def table_settings(methods: Sequence[str], records: Sequence[RunRecord]) -> TableSettings:
    """Settings of these methods from the plans of their runs."""
    runs = by_method(records)
    plans = {m: [read_plan(Path(r.path)) for r in runs[m]] for m in methods}
    arms = tuple(method_in_full(m, runs[m], plans[m]) for m in methods)
    trained = [m for m in methods if any(s.fields["batch_size"] > 0 for s in plans[m][0].stages)]
    names = dict.fromkeys(name for m in trained for stage in plans[m][0].stages for name in stage.fields)
    status = statuses([plans[m][0] for m in trained])
    knobs = [
        SettingRow(name, tuple(stage_values(plans[m][0], name) for m in trained), status.get(name, ""))
        for name in names
    ]
    several = [knob for knob in knobs if sum(v != ABSENT for v in knob.values) > 1]
    return TableSettings(tuple(trained), tuple(sorted(several, key=lambda k: not k.differs)), arms)


def statuses(plans: Sequence[RunPlan]) -> dict[str, str]:
    """For each setting the worst status of its differences from the first plan."""
    knobs = [(knob.name, str(knob.status)) for plan in plans[1:] for knob in diff_plans(plans[0], plan)]
    return dict(sorted(knobs, key=lambda pair: STATUSES.index(pair[1])))


def stage_values(plan: RunPlan, name: str) -> str:
    """A setting of a method; for a pipeline the values of its stages, once if they are equal."""
    values = dict.fromkeys(value_text(stage.fields[name]) for stage in plan.stages if name in stage.fields)
    return " / ".join(values) or ABSENT


def method_in_full(method: str, records: Sequence[RunRecord], plans: Sequence[RunPlan]) -> dict[str, Any]:
    """One method of a table: passport in words, keys of its stacks, its runs, and every setting stage by stage."""
    first = plans[0]
    same = all(plan.stages == first.stages for plan in plans)
    return {
        "method": method,
        "passport": STATES[passport.worst([r.passport for r in records])],
        "stacks": list(dict.fromkeys(k for r in records for k in passport.stack_keys(Path(r.path) / "env.json"))),
        "runs": [PurePath(r.path).name for r in sorted(records, key=lambda r: r.seed)],
        "stages": [
            (f"{s.name}, {100 * s.share:g} % of the budget", [(k, value_text(v)) for k, v in sorted(s.fields.items())])
            for s in first.stages
        ],
        "note": "" if same else "its runs have different settings; those of the first are shown",
    }


def commands_and_machines(records: Sequence[RunRecord]) -> dict[str, list[tuple[Any, int]]]:
    """Commands and machines with the number of runs that each made, the most frequent first.

    Runs without env.json are counted as unknown.
    """
    commands: Counter[str] = Counter()
    machines: Counter[tuple[tuple[str, str], ...]] = Counter()
    for record in records:
        path = Path(record.path) / "env.json"
        try:
            env = read_json(path) if path.exists() else {}
        except CorruptRun as fault:
            env = {"env.json": str(fault)}
        commands[command_line(env.get("command"))] += 1
        machines[machine_facts(env)] += 1
    return {"commands": commands.most_common(), "machines": machines.most_common()}


def command_line(words: Any) -> str:
    """A command as it may be pasted into a shell; the program is called bench wherever it was installed."""
    if not isinstance(words, list) or not words:
        return "unknown"
    first, *rest = map(str, words)
    return shlex.join(["bench" if PurePath(first).name in PROGRAM else first, *rest])


def machine_facts(env: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What an environment record says of machine and versions, flat and sorted, without command and passport."""
    texts: dict[str, str] = {}
    for key, item in env.items():
        if key in ("command", "stack_key", "earlier_stack_keys"):
            continue
        if isinstance(item, Mapping):
            texts |= {k if key in ("versions", "stack") else f"{key}: {k}": setting_text(v) for k, v in item.items()}
        else:
            texts[key] = setting_text(item)
    return tuple(sorted((k, v) for k, v in texts.items() if v))
