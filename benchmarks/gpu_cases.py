"""What ``benchmarks/gpu.py`` measures: training, sampling, rounding, resuming, running out of memory."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from bench.engine import checkpoint
from bench.engine.policy import Policy
from bench.engine.trainer import Stage
from bench.models import model_path
from bench.plan import registry
from bench.plan.budget import Budget, Meter
from bench.types import Example, Trajectory
from tasks.common import load_examples

SHAPES: dict[str, dict[str, int]] = {
    "0.5b": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14},
    "1.5b": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
}
VOCABULARY = {"0.5b": 151_936, "1.5b": 151_936, "tiny": 512}
Row = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How much is computed: rows of a training step, tokens of prompt and of demonstration or completion."""

    rows: int
    prompt: int
    new: int
    micro: tuple[int, ...]
    sampled: tuple[int, ...]
    steps: int


FULL = Sizes(64, 256, 512, (8_192, 32_768), (64, 512), 3)
SMALL = Sizes(4, 12, 16, (32, 128), (2, 8), 2)


class Half(Policy):
    """A policy under bfloat16 autocast on any device."""

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16)


class Exact(Policy):
    """A policy in float32 on any device."""

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, enabled=False)


# --- what is measured with ---


def random_model(shape: str, device: str) -> Any:
    """Random weights; the head is tied to the embedding, as in both models."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        **SHAPES[shape],
        "vocab_size": VOCABULARY[shape],
        "num_key_value_heads": 2,
        "rope_theta": 1e6,
    }
    config = Qwen2Config(**sizes, max_position_embeddings=4096, tie_word_embeddings=True)
    with torch.device(device):
        return Qwen2ForCausalLM(config).eval()


def random_rows(count: int, sizes: Sizes, vocabulary: int) -> list[Example]:
    """Examples of equal length, so that every row of a table did the same work."""
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(100, vocabulary, (count, sizes.prompt + sizes.new), generator=draw).tolist()
    model = load_examples(registry.task("countdown"), "train", 1, "3", "compact")[0]
    ends = tuple(range(sizes.new // 4, sizes.new, sizes.new // 4))
    rows = (replace(model, id=str(i), prompt_ids=tuple(row[: sizes.prompt])) for i, row in enumerate(ids))
    return [replace(e, demo_ids=tuple(row[sizes.prompt :]), step_ends=ends) for e, row in zip(rows, ids)]


def metered(model: Any, kind: type[Policy] = Policy) -> Policy:
    tokenizer = AutoTokenizer.from_pretrained(model_path("tiny"))
    policy = kind(model, tokenizer)
    policy.eos_ids = frozenset()  # completions of one length
    policy.meter = Meter(policy.architecture, Budget("tokens", 1e12))
    return policy


def make_stage(policy: Policy, sizes: Sizes, micro: int, rows: int) -> Stage:
    """Fine-tuning with one optimizer update a step."""
    method = registry.build_method("sft", {"batch_size": rows, "lr": 1e-5})
    pool = random_rows(4 * rows, sizes, policy.model.config.vocab_size)
    limits: dict[str, Any] = {"max_new_tokens": sizes.new, "temperature": 1.0, "max_grad_norm": 1.0}
    task = registry.task("countdown")
    return Stage(policy, method, task, pool, 0, "0:sft", micro_batch_tokens=micro, sample_rows=512, **limits)


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def clear(device: str) -> None:
    """Forget earlier peaks, and give back what only the allocator holds."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak(device: str) -> int | None:
    return torch.cuda.max_memory_allocated() if device == "cuda" else None


def timed(device: str, work: Callable[[], object]) -> float:
    """Seconds of a call, the device's work included."""
    synchronize(device)
    begin = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - begin


def matrix_rate(device: str) -> float:
    """FLOPs per second of bfloat16 products (float32 on a CPU), the best of three."""
    size, repeats, kind = (8192, 20, torch.bfloat16) if device == "cuda" else (256, 20, torch.float32)
    a = torch.randn(size, size, device=device, dtype=kind)

    def work() -> None:
        for _ in range(repeats):
            a @ a

    work()
    return 2.0 * size**3 * repeats / min(timed(device, work) for _ in range(3))


# --- cases: each yields rows of the table ---


def training(model: Any, device: str, sizes: Sizes, rate: float) -> Iterator[Row]:
    """Steps of fine-tuning after one that is not timed."""
    for micro in sizes.micro:
        for recompute in ("none", "full") if hasattr(metered(model), "recompute") else ("none",):
            row: Row = {"case": "train", "micro_batch_tokens": micro, "recompute": recompute}
            try:
                yield row | train(model, device, sizes, micro, recompute == "full") | share_of(rate, device)
            except torch.OutOfMemoryError:
                yield row | {"fault": "out of memory"}
            clear(device)


def train(model: Any, device: str, sizes: Sizes, micro: int, recompute: bool) -> Row:
    policy = metered(copy.deepcopy(model))
    if recompute:
        policy.recompute = True  # type: ignore[attr-defined]
    stage = make_stage(policy, sizes, micro, sizes.rows)
    clear(device)
    stage.run_step()
    meter = policy.meter
    assert meter is not None
    before = replace(meter.ledger)
    seconds = timed(device, lambda: [stage.run_step() for _ in range(sizes.steps)])
    tokens = meter.ledger.trained_tokens - before.trained_tokens
    return {"tokens": tokens, "seconds": seconds, "flops": meter.ledger.flops - before.flops}


def sampling(model: Any, device: str, sizes: Sizes, rate: float) -> Iterator[Row]:
    """Completions of one length, in groups of 8 where there are so many rows."""
    policy = metered(model)
    assert policy.meter is not None
    for rows in sizes.sampled:
        group = 8 if rows >= 16 else 1
        prompts = [e.prompt_ids for e in random_rows(rows // group, sizes, model.config.vocab_size)]
        clear(device)

        def work(new: int, prompts: Any = prompts, group: int = group, rows: int = rows) -> Any:
            return policy.sample(prompts, group, new, list(range(rows)), max_rows=rows)

        work(2)  # kernels are chosen on the first call
        before = policy.meter.ledger.flops
        out: list[Any] = []
        seconds = timed(device, lambda: out.append(work(sizes.new)))  # noqa: B023
        tokens = sum(map(len, out[0].token_ids))
        spent = {"tokens": tokens, "seconds": seconds, "flops": policy.meter.ledger.flops - before}
        yield {"case": "sample", "rows": rows, **spent} | share_of(rate, device)


def rounding(model: Any, device: str, sizes: Sizes, rate: float) -> Iterator[Row]:
    """How far log-probabilities under autocast are from those in float32, in nats."""
    examples = random_rows(min(sizes.rows, 8), sizes, model.config.vocab_size)
    rows = [Trajectory(e.prompt_ids, e.demo_ids) for e in examples]
    scores = [metered(model, kind).score(rows, model, max(sizes.micro)) for kind in (Half, Exact)]
    gaps = torch.cat([(scores[0][id(row)] - scores[1][id(row)]).abs() for row in rows]).float()
    values = {"mean": gaps.mean(), "p99": gaps.quantile(0.99), "most": gaps.max()}
    yield {"case": "bfloat16 gap", **{name: float(value) for name, value in values.items()}}


def resuming(model: Any, device: str, sizes: Sizes, rate: float) -> Iterator[Row]:
    """A checkpoint after one step: its bytes, its seconds, and whether the next step from it is the next step."""
    stage = make_stage(metered(copy.deepcopy(model)), sizes, min(sizes.micro), 2)
    stage.run_step()
    with tempfile.TemporaryDirectory() as folder:
        saved: list[Any] = []
        path = Path(folder)
        write = timed(
            device, lambda: saved.append(checkpoint.save(path, stage.policy.model, stage.optimizer, None, {}))
        )
        other = make_stage(metered(copy.deepcopy(model)), sizes, min(sizes.micro), 2)
        read = timed(device, lambda: checkpoint.load_weights(other.policy.model, saved[0].path / checkpoint.POLICY))
        checkpoint.restore_optimizer(saved[0], other.optimizer)
        other.restore(stage.state())
        size = sum(file.stat().st_size for file in saved[0].path.iterdir())
    for each in (stage, other):
        each.run_step()
    pairs = zip(stage.policy.model.parameters(), other.policy.model.parameters())
    apart = max(float((a - b).detach().abs().max()) for a, b in pairs)
    yield {"case": "resume", "bytes": size, "save_seconds": write, "load_seconds": read, "weights_apart": apart}


def out_of_memory(model: Any, device: str, sizes: Sizes, rate: float) -> Iterator[Row]:
    """A step whose passes do not fit: finished in smaller ones, or not, where this version does not try again."""
    policy = metered(copy.deepcopy(model))
    stage = make_stage(policy, sizes, 1_000_000, sizes.rows)
    row: Row = {"case": "out of memory", "retries_known": hasattr(stage, "limit")}
    try:
        with too_small(policy, device, sizes):
            stage.run_step()
        yield row | {"finished": True}
    except torch.OutOfMemoryError:
        yield row | {"finished": False}
    clear(device)


@contextmanager
def too_small(policy: Policy, device: str, sizes: Sizes) -> Iterator[None]:
    """A device that runs out of memory on passes of more than a few rows: a real limit on CUDA, a raised error else."""
    if device == "cuda":
        need = 5 * sum(p.numel() * 4 for p in policy.model.parameters())  # weights twice, gradient, two moments
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, (need + 8e9) / total))
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return
    outputs, most = policy.outputs, 2 * (sizes.prompt + sizes.new)

    def limited(batch: Any, wanted: Any) -> Any:
        if batch.token_ids.numel() > most:
            raise torch.OutOfMemoryError("simulated")
        return outputs(batch, wanted)

    policy.outputs = limited  # type: ignore[method-assign]
    yield


def share_of(rate: float, device: str) -> Row:
    return {"matrix_rate": rate, "peak_bytes": peak(device)}


CASES = (training, sampling, rounding)
ONCE = (resuming, out_of_memory)  # of the first shape alone: a checkpoint of the larger one takes 19 GB
