"""One run over several processes against the same run in one: how far losses, gradients, records and ledgers differ.

``python -m benchmarks.several_devices [--ranks 2] [--methods sft,uft]``.  A random model in float64 trains for some
steps with each method, samples truly, and meets small micro-batches, so that every rank has several, some of them
empty.  The processes exchange by gloo on the CPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from bench.engine.policy import Policy
from bench.engine.ranks import ALONE, Ranks, join
from bench.engine.sharding import whole
from bench.engine.trainer import Stage
from bench.foreign import say
from bench.plan import registry
from bench.plan.budget import Budget, Meter
from bench.types import Requests
from tests.helpers.engine import TOKENIZER, method, pool, small_model, stage

STEPS = 2
FIELDS: dict[str, dict[str, Any]] = {
    "asft": {"kl_coef": 1.0},
    "curio_sft": {"sync_every": 2},
    "otr": {"num_candidates": 4},
    "chord": {"num_demos": 4},
    "relift": {"buffer_size": 2},
    "grpo": {"num_updates": 2, "kl_coef": 0.1},
    "uft": {"num_updates": 2, "kl_coef": 0.1, "entropy_coef": 0.01},
    "uds": {"keep": 2, "alpha": 10.0},
    "q_tuning": {"sample_share": 0.5},
}
CUT = {"dft micro-batch": ("dft", {"divisor": "micro-batch"}), "grpo bnpo": ("grpo", {"aggregation": "bnpo"})}


def cases() -> dict[str, tuple[str, dict[str, Any]]]:
    """Every method that trains on several devices, and settings under which a loss depends on how rows are cut."""
    methods = {name: registry.build_method(name, {}) for name in registry.names("methods") if name != "base"}
    several = [name for name, method in methods.items() if not Requests.of(method).ascent_step]
    plain = {name: (name, FIELDS.get(name, {})) for name in several}
    return {**plain, **CUT}


def prepared(case: str, ranks: Ranks) -> Stage:
    """A stage at its beginning, with a model that the ranks share."""
    name, fields = cases()[case]
    policy = Policy(small_model(3, hidden_size=32, intermediate_size=64).double(), TOKENIZER)
    policy.meter = Meter(policy.architecture, Budget.parse("1000steps"))
    policy.spread(ranks)
    how: dict[str, Any] = {"micro_batch_tokens": 128, "max_new_tokens": 32, "max_grad_norm": 1e9}  # no clipping
    current = stage(policy, method(name, **fields), pool(24), **how)
    current.prepare()
    return current


def trained(case: str, ranks: Ranks, change: Callable[[Stage], None] = lambda current: None) -> dict[str, Any]:
    """What some steps leave: records, gradients before clipping, weights, and the ledger without seconds."""
    current = prepared(case, ranks)
    change(current)
    policy = current.policy
    gradients: list[torch.Tensor] = []

    def keep(*_: Any) -> None:
        grads = [whole(p.grad) for p in policy.model.parameters() if p.grad is not None]
        gradients.append(torch.cat([grad.flatten() for grad in grads]))

    current.optimizer.register_step_pre_hook(keep)
    records = [current.run_step() for _ in range(STEPS)]
    ledger = {k: v for k, v in asdict(current.meter.ledger).items() if not k.startswith("seconds")}
    weights = torch.cat([whole(p).flatten() for p in policy.model.parameters()])
    joined = torch.stack(gradients) if gradients else weights.new_zeros(1)  # raft trains on right answers alone
    return {"records": records, "ledger": ledger, "gradients": joined, "weights": weights}


def apart(one: dict[str, Any], several: dict[str, Any]) -> dict[str, float]:
    """The largest differences: of records and ledger relative to each figure, of gradients to the largest entry."""
    assert [r.keys() for r in one["records"]] == [r.keys() for r in several["records"]]
    pairs = [(a[k], b[k]) for a, b in zip(one["records"], several["records"]) for k in a]
    losses = [(a["loss"], b["loss"]) for a, b in zip(one["records"], several["records"]) if "loss" in a]
    charged = {k: v for k, v in one["ledger"].items() if k != "padding_tokens"}
    return {
        "loss": max((relative(a, b) for a, b in losses), default=0.0),
        "gradients": distance(one["gradients"], several["gradients"]),
        "records": max(relative(a, b) for a, b in pairs),
        "ledger": max(relative(v, several["ledger"][k]) for k, v in charged.items()),
        "weights": distance(one["weights"], several["weights"]),
    }


def distance(one: torch.Tensor, several: torch.Tensor) -> float:
    """The largest difference, relative to the largest entry."""
    return float((one - several).abs().max() / one.abs().max().clamp_min(1e-12))


def relative(a: float, b: float) -> float:
    return abs(a - b) / max(abs(a), abs(b), 1e-9)


def several(names: list[str], count: int) -> dict[str, dict[str, Any]]:
    """What each case leaves in ``count`` processes."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "found.pt")
        start = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "localhost")
        rest = ("--nproc-per-node", str(count), "-m", "benchmarks.several_devices")
        subprocess.run([*start, *rest], check=True, env={**os.environ, "BENCH_CASES": json.dumps([names, str(out)])})
        found: dict[str, dict[str, Any]] = torch.load(out, weights_only=True)
    return found


def take_part(names: list[str], out: str) -> None:
    ranks = join(int(os.environ["WORLD_SIZE"]), "cpu")
    found = {name: trained(name, ranks) for name in names}
    if ranks.first:
        torch.save(found, out)


def main(
    ranks: Annotated[int, typer.Option(min=2)] = 2,
    methods: Annotated[str, typer.Option(help="Cases, with commas; all by default.")] = "",
) -> None:
    torch.set_num_threads(1)
    names = methods.split(",") if methods else list(cases())
    found = several(names, ranks)
    say(f"| method | loss | gradients | records | ledger | weights | padding of 1, of {ranks} |")
    say("| --- " + "| ---: " * 6 + "|")
    for name in names:
        one = trained(name, ALONE)
        figures = apart(one, found[name])
        padding = f"{one['ledger']['padding_tokens']}, {found[name]['ledger']['padding_tokens']}"
        say(f"| {name} | {' | '.join(f'{value:.0e}' for value in figures.values())} | {padding} |")


if __name__ == "__main__":
    if told := os.environ.get("BENCH_CASES"):
        take_part(*json.loads(told))
    else:
        typer.run(main)
