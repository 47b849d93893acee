"""Settings under which a method is another one: which arms must then agree to the bit, and whether they do.

A method's file declares them as ``IDENTITIES``: (its settings, the other method, settings of that method); fields that
both have keep their values, other fields of the method have no effect.  Runs of one method that reduce to the same
settings must have equal records.  Runs of different methods draw other samples, as a method's name is part of the seed:
for these the first steps are trained again under one name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from bench.plan import registry
from bench.store.job import Job
from bench.store.run_folder import RECORDS, read_json, read_lines
from bench.study.ablation import Ablation, Arm

DATA_FIELDS = ("num_demos", "demo_share", "buffer_size")  # the engine draws other examples where these differ
REPLAYED = 3
Setting = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Agreement:
    """Two things that must be equal, and the first difference, empty if there is none."""

    left: str
    right: str
    how: str  # "records of seed 0", "first 3 steps, seed 0"
    difference: str

    @property
    def sentence(self) -> str:
        verdict = f"differ: {self.difference}" if self.difference else "identical to the bit"
        return f"{self.left} and {self.right}: {verdict} ({self.how})."


def reduced(name: str, fields: Mapping[str, Any]) -> Setting:
    """The method and fields that these are by the declared identities; themselves if there is none."""
    for when, other, values in registry.module("methods", name).IDENTITIES:
        if any(fields[key] != value for key, value in when.items()):
            continue
        target = registry.module("methods", other).METHOD()
        theirs = {key: getattr(target, key) for key in target.__dataclass_fields__}
        merged = {**theirs, **{k: v for k, v in fields.items() if k in theirs}, **values}
        if (other, merged) != (name, dict(fields)):
            return reduced(other, merged)
    return name, dict(fields)


def twins(arms: Sequence[Arm]) -> list[tuple[Arm, Arm]]:
    """Arms of one method that must have equal records."""
    pairs = []
    for a, b in combinations(arms, 2):
        data = all(a.stage.fields.get(key) == b.stage.fields.get(key) for key in DATA_FIELDS)
        if a.stage.name == b.stage.name and data and reduction(a) == reduction(b):
            pairs.append((a, b))
    return pairs


def reduction(arm: Arm) -> Setting:
    return reduced(arm.stage.name, arm.stage.fields)


def check_identities(ablation: Ablation, runs: Mapping[str, Sequence[Job]], replayed: bool) -> list[Agreement]:
    """All identities among the arms of an ablation: finished runs' records, and replays of one seed unless refused."""
    agreements = []
    for a, b in twins(ablation.arms):
        for one, other in zip(runs[a.name], runs[b.name]):
            if one.done and other.done:
                how = f"records of seed {one.plan.seed}"
                agreements.append(Agreement(a.name, b.name, how, first_difference(one.path, other.path)))
    seen: list[Setting] = []
    for arm in ablation.arms if replayed else ():
        name, fields = reduction(arm)
        if name != arm.stage.name and runs[arm.name] and (name, fields) not in seen:
            seen.append((name, fields))
            agreements.append(replay(arm, runs[arm.name][0], name, dict(fields)))
    return agreements


# --- stored records ------------------------------------------------------------------------------------------------


def timeless(value: Any) -> Any:
    """The value without wall times: keys that begin with ``seconds``."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if not k.startswith("seconds")}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def first_difference(left: Path, right: Path) -> str:
    """Where the records of two finished runs part, but for wall times; empty where they are equal."""
    for name in RECORDS:
        a, b = (timeless(read_lines(path / name)) for path in (left, right))
        for number, (x, y) in enumerate(zip(a, b), 1):
            if x != y:
                return f"{name}, record {number}: {unequal(x, y)}"
        if len(a) != len(b):
            return f"{name} has {len(a)} and {len(b)} records"
    a, b = (timeless(read_json(path / "done.json")["ledger"]) for path in (left, right))
    return "" if a == b else f"ledger: {unequal(a, b)}"


def unequal(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """The first key on which two records differ, with both values where they are short."""
    key = next(key for key in [*a, *b] if a.get(key) != b.get(key))
    values = [str(side.get(key)) for side in (a, b)]
    return f"{key} is {values[0]} and {values[1]}" if max(map(len, values)) < 40 else key


# --- replays -------------------------------------------------------------------------------------------------------


def replay(arm: Arm, job: Job, name: str, fields: dict[str, Any], steps: int = REPLAYED) -> Agreement:
    """Train the first steps as the arm's method and as the other, from one model with one seed; nothing is stored."""
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(job.execution.threads)
    ours, left = replayed_steps(job, arm.stage.name, arm.stage.name, arm.stage.fields, arm.stage.fields, steps)
    theirs, right = replayed_steps(job, arm.stage.name, name, fields, arm.stage.fields, steps)
    how = f"first {len(ours)} steps, seed {job.plan.seed}"
    other = f"{name} with the same settings"
    for number, (a, b) in enumerate(zip(ours, theirs), 1):
        shared = [key for key in a if key in b]
        if any(a[key] != b[key] for key in shared):
            pair = ({k: record[k] for k in shared} for record in (a, b))
            return Agreement(arm.name, other, how, f"step {number}: {unequal(*pair)}")
    if not ours or len(ours) != len(theirs):
        return Agreement(arm.name, other, how, f"{len(ours)} and {len(theirs)} steps")
    parted = [key for key, value in left.items() if not torch.equal(value, right[key])]
    return Agreement(arm.name, other, how, f"weights {parted[0]}" if parted else "")


def replayed_steps(
    job: Job, label: str, name: str, fields: dict[str, Any], drawn_as: dict[str, Any], steps: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Step records and weights after a few steps; samples are drawn under ``label``, prompts as ``drawn_as`` does."""
    from bench.engine import splits
    from bench.engine.planned import planned_stage
    from bench.engine.policy import Policy, load_model
    from bench.engine.step import divide
    from bench.plan.budget import Meter

    plan = job.plan
    policy = Policy(*load_model(job.model_path, job.execution.device))
    policy.meter = Meter(policy.architecture, plan.budget)
    pool: Sequence[Any] = splits.split_examples(plan, job.data, policy)["train"]
    if fields.get("num_demos", 0) != drawn_as.get("num_demos", 0):  # the other method has no demonstrations of its own
        pool = divide(pool, drawn_as.get("demo_share", 0.0))[1]
    stage = planned_stage(job, policy, registry.build_method(name, fields), pool, f"0:{label}")
    records: list[dict[str, Any]] = []
    while len(records) < steps and (record := stage.run_step()) is not None:
        records.append({**record, "spent": timeless(policy.meter.ledger.record())})
    return records, {key: value.detach().clone() for key, value in policy.model.state_dict().items()}
