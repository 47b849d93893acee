"""What each method needs and costs, from the ledger of a short run: writes methods/costs.json for `bench methods`.

``python -m benchmarks.method_costs [--methods dft,asft]``, under a minute on one core for all.  The embedded model
trains for STEPS steps on Countdown with small batches and otherwise its own settings.  Without --methods the file is
written anew; with it the others keep their figures.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from bench.engine.policy import Policy, load_model
from bench.engine.trainer import Stage
from bench.foreign import parse_json, say
from bench.models import locate, model_settings
from bench.plan import registry
from bench.plan.budget import Budget, Meter
from bench.types import Context, Example, Requests, Trajectory
from tasks import common

FILE = registry.ROOT / "methods" / "costs.json"
STEPS = 8  # spread over the whole budget, since hints and mixtures follow it
SMALL = {"batch_size": 4, "num_demos": 4, "buffer_size": 4}  # of methods that sample groups
PLAIN = {"batch_size": 16}
POOL = 64


@dataclass
class Watched:
    """A method, and whether it ever trained on an answer that was judged wrong."""

    method: Any
    negatives: bool = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.method, name)

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        rows: list[Trajectory] = self.method.collect(examples, ctx)
        self.negatives |= any(row.completion_ids and not row.correct for row in rows)
        return rows


class WatchedPreparer(Watched):
    """The same of a method that rewrites its data."""

    def prepare(self, examples: Sequence[Example], ctx: Context) -> list[Example]:
        made: list[Example] = self.method.prepare(examples, ctx)
        return made

    def prepare_worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Any:
        return self.method.prepare_worst_case(examples, max_new_tokens)


def settings(name: str) -> dict[str, Any]:
    """The fields of a method in its run: those for the embedded model, with a small batch."""
    default = registry.build_method(name, {})
    fields = asdict(default) | model_settings(locate("tiny").path).get("methods", {}).get(name, {})
    small = SMALL if "group_size" in fields else PLAIN
    # A fixed field has no other value than its own.
    fixed = registry.module("methods", name).FIXED
    return {k: v for k, v in (fields | {k: v for k, v in small.items() if fields.get(k)}).items() if k not in fixed}


def measured(name: str) -> dict[str, Any]:
    """Ledgers of one method's preparation and of its steps, and what the run needed."""
    path = locate("tiny").fetch().path
    policy, task = Policy(*load_model(path)), registry.task("countdown")
    defaults, fields = model_settings(path), settings(name)
    method = registry.build_method(name, fields)
    asks = Requests.of(method)
    watched: Any = (WatchedPreparer if hasattr(method, "prepare") else Watched)(method)
    policy.meter = Meter(policy.architecture, Budget("steps", STEPS * method.num_updates))
    drawn = common.load_examples(task, "train", POOL, task.default_level, defaults["template"])
    examples = [policy.encode(example, defaults["template"]) for example in drawn]
    limits: dict[str, Any] = {
        "max_new_tokens": int(defaults["max_new_tokens"]),
        "temperature": 1.0,
        "max_grad_norm": 1.0,
    }
    stage = Stage(policy, watched, task, examples, 0, f"0:{name}", **limits, micro_batch_tokens=2048, sample_rows=256)
    if "initial" in asks.scored_under:
        stage.initial = policy.frozen_copy()  # as in a pipeline whose first stage is over
    stage.prepare()
    once = policy.meter.ledger.record()
    for _ in range(STEPS):
        stage.run_step()
    steps = {key: value - once[key] for key, value in policy.meter.ledger.record().items()}
    ledger = policy.meter.ledger
    needs = {
        "demonstrations": ledger.demonstrations > 0,
        "rewards": ledger.verifier_calls > 0,
        "reference": asks.uses_reference or asks.uses_reference_kl or bool(asks.scored_under),
        "negatives": watched.negatives,
    }
    return {"once": once["flops"], "steps": steps, "needs": [k for k, v in needs.items() if v], "fields": fields}


def relative(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Each method's cost per token of the loss, in that of SFT or, where its steps sample, of GRPO."""
    per_token = {name: run["steps"]["flops"] / max(run["steps"]["loss_tokens"], 1) for name, run in found.items()}
    per_example = found["sft"]["steps"]["flops"] / found["sft"]["steps"]["demonstrations"]
    rows = {}
    for name, run in found.items():
        trained, of = run["steps"]["loss_tokens"] > 0, "grpo" if run["steps"]["rollouts"] else "sft"
        rows[name] = {
            "needs": run["needs"],
            "of": of if trained else None,
            "ratio": round(per_token[name] / per_token[of], 3) if trained else None,
            # Preparation, per example, in SFT's training of one.
            "once": round(run["once"] / POOL / per_example, 3),
            "fields": run["fields"],
        }
    return rows


def main(methods: Annotated[str, typer.Option(help="Only these, and sft and grpo.")] = "") -> None:
    """Measure and write the file."""
    torch.set_num_threads(1)
    wanted = (
        dict.fromkeys(["sft", "grpo", *filter(None, methods.split(","))]) if methods else registry.built_in("methods")
    )
    found = {}
    for name in wanted:
        say(name, error=True)
        found[name] = measured(name)
    rows = relative(found)
    kept = parse_json(FILE.read_bytes())["methods"] if methods and FILE.exists() else {}
    grpo = found["grpo"]["steps"]["flops"] / found["grpo"]["steps"]["loss_tokens"]
    sft = found["sft"]["steps"]["flops"] / found["sft"]["steps"]["loss_tokens"]
    record = {
        "command": "python -m benchmarks.method_costs",
        "run": f"embedded model, countdown {registry.task('countdown').default_level}, {STEPS} steps, seed 0",
        "grpo_in_sft": round(grpo / sft, 3),
        "methods": dict(sorted((kept | rows).items())),
    }
    part = Path(f"{FILE}.part")
    part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(part, FILE)


if __name__ == "__main__":
    typer.run(main)
