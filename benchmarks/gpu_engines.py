"""What ``benchmarks/gpu.py`` measures of the sampler engines: torch, and vLLM where it is installed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch

from bench.engine.engines import weights_version
from bench.engine.planned import planned_engine
from bench.plan.execution import SAMPLERS
from bench.types import Trajectory
from benchmarks.gpu_cases import Row, Sizes, clear, metered, random_rows, share_of, timed


def engines(model: Any, device: str, sizes: Sizes, rate: float) -> Iterator[Row]:
    """Each sampler engine that is installed, with the most rows; its directory has a configuration and no weights."""
    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        for name in SAMPLERS:
            row: Row = {"case": "engine", "engine": name}
            if name != "torch" and find_spec(name) is None:
                yield row | {"fault": "not installed"}
                continue
            yield row | by_engine(model, device, sizes, name, folder) | share_of(rate, device)
            clear(device)


def by_engine(model: Any, device: str, sizes: Sizes, name: str, folder: str) -> Row:
    """Seconds to start, to take over weights after memory was released, and to sample; nats from the trainer's."""
    count = max(sizes.sampled)
    examples = random_rows(max(count // 8, 1), sizes, model.config.vocab_size)
    policy = metered(model)
    policy.engine = planned_engine(name, folder, device, count) or policy.engine
    meter, group = policy.meter, count // len(examples)
    assert meter is not None

    def work(new: int) -> Any:
        return policy.sample([e.prompt_ids for e in examples], group, new, list(range(count)), max_rows=count)

    clear(device)
    start = timed(device, lambda: work(2))
    policy.engine.release()
    sync = timed(device, lambda: policy.engine.sync(model, weights_version(model)))
    work(2)
    before, out = meter.ledger.flops, list[Any]()
    seconds = timed(device, lambda: out.append(work(sizes.new)))
    spent = {"seconds": seconds, "flops": meter.ledger.flops - before, "tokens": sum(map(len, out[0].token_ids))}
    policy.engine.release()
    rows = [Trajectory(examples[r // group].prompt_ids, (), tuple(out[0].token_ids[r])) for r in range(min(8, count))]
    trained = policy.score(rows, model, max(sizes.micro))
    gaps = [(trained[id(row)].cpu() - torch.tensor(out[0].logprobs[r])).abs() for r, row in enumerate(rows)]
    return {"rows": count, "start_seconds": start, "sync_seconds": sync, "gap": float(torch.cat(gaps).mean()), **spent}
