"""Tokens per second of the sampler and the training step against plain transformers, and where the time goes.

``python benchmarks/speed.py [--model DIR] [--json]``.  Both sides run in this process on the same threads, in turns;
rates are medians.  Sampling: Countdown prompts, groups of 8 that share a prompt, completions that end at their own
EOS; generated tokens up to and including EOS count.  ``transformers`` is ``generate`` with its default cache, sampling
from the full distribution; as it asks for, every row is its own left-padded copy of the prompt.  Training: AdamW on
batches of Countdown demonstrations; the plain loop pads the batch to its longest row and uses the model's own loss.
"""

from __future__ import annotations

import copy
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from bench.engine.decoder import make_decoder
from bench.engine.policy import Policy, load_model
from bench.engine.sampler import sample
from bench.engine.trainer import Stage
from bench.models import model_path, model_settings
from bench.plan import registry
from bench.plan.budget import Budget, Meter
from bench.types import Example, Trajectory
from methods.common import demonstrations
from tasks.common import load_examples

GROUP = 8
TRAIN_ROWS = 128
LR = 1e-5  # small: the weights should stay those of the model
PARTS = {  # self time of these operators; everything else is counted as the last part
    "linear layers": ("mm", "addmm"),
    "attention": ("bmm", "baddbmm", "_softmax 3", "_scaled_dot_product_flash_attention_for_cpu"),
    "sampling": ("_softmax 2", "cumsum", "searchsorted", "gather", "log", "nextafter", "minimum"),
    "cache and copies": ("copy_", "index", "_index_put_impl_", "clone", "cat"),
    "norms, rotation, activation, residuals": (
        *("_fused_rms_norm", "rms_norm", "pow", "mean", "sum", "div_", "rsqrt", "mul", "mul_", "add", "add_", "silu"),
    ),
    "dispatch and rest": (),
}

Side = Callable[[int], tuple[int, float]]  # repetition -> tokens that count, FLOPs that were needed for them


def left_padded(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask [R, T]."""
    width = max(map(len, rows))
    ids = [[0] * (width - len(row)) + list(row) for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids), torch.tensor(mask)


def sampling_sides(policy: Policy, examples: Sequence[Example], rows: int, steps: int) -> dict[str, Side]:
    """Our sampler and ``generate`` on the same prompts; the FLOPs are those of ours, without any waste."""
    prompts = [e.prompt_ids for e in examples[: rows // GROUP]]
    ids, mask = left_padded([prompt for prompt in prompts for _ in range(GROUP)])
    [eos] = policy.eos_ids
    decoder = make_decoder(policy.model)

    def ours(seed: int) -> tuple[int, float]:
        uniforms = torch.rand(rows, steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        out = sample(decoder, prompts, GROUP, steps, policy.eos_ids, uniforms)
        flops = sum(policy.architecture.forward(n, 1) for n in out.prefill_lengths)
        flops += sum(policy.architecture.decode(context, new) for context, new in out.rows)
        return sum(map(len, out.token_ids)), flops

    def theirs(seed: int) -> tuple[int, float]:
        torch.manual_seed(seed)
        options = {"do_sample": True, "top_k": 0, "max_new_tokens": steps, "eos_token_id": eos, "pad_token_id": 0}
        out = policy.model.generate(ids, attention_mask=mask, **options)[:, ids.shape[1] :]
        ended = out == eos
        lengths = torch.where(ended.any(1), ended.int().argmax(1) + 1, out.shape[1])
        return int(lengths.sum()), 0.0

    return {"bench": ours, "transformers": theirs}


def training_sides(policy: Policy, examples: Sequence[Example]) -> dict[str, Side]:
    """Our training step and a plain padded loop; every token of a row counts, padding does not."""
    batches = [examples[i : i + TRAIN_ROWS] for i in range(0, len(examples) - TRAIN_ROWS + 1, TRAIN_ROWS)]
    method = registry.build_method("sft", {"lr": LR, "batch_size": TRAIN_ROWS})
    meter = Meter(policy.architecture, Budget.parse("1e30flops"))
    mine = Policy(copy.deepcopy(policy.model), policy.tokenizer, meter)
    stage = Stage(
        *(mine, method, registry.task("countdown"), examples, 0, "speed"),
        max_new_tokens=64,
        temperature=1.0,
        max_grad_norm=1.0,
        micro_batch_tokens=2048,
        sample_rows=256,
    )
    plain = copy.deepcopy(policy.model)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=LR)

    def bucketed(step: int) -> tuple[int, float]:
        rows = demonstrations(batches[step % len(batches)])
        before = meter.ledger.flops
        stage.update(rows, LR, 0.0)
        return sum(map(len, rows)), meter.ledger.flops - before

    def padded(step: int) -> tuple[int, float]:
        rows = demonstrations(batches[step % len(batches)])
        optimizer.zero_grad(set_to_none=True)
        plain(**padded_batch(rows), use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.step()
        return sum(map(len, rows)), 0.0

    return {"bench": bucketed, "transformers": padded}


def padded_batch(rows: Sequence[Trajectory]) -> dict[str, Tensor]:
    """Right-padded input_ids, attention_mask and labels [B, T]; labels only at the demonstration."""
    width = max(map(len, rows))
    found: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for row in rows:
        pad = width - len(row)
        found["input_ids"].append([*row.prompt_ids, *row.demo_ids] + [0] * pad)
        found["attention_mask"].append([1] * len(row) + [0] * pad)
        found["labels"].append([-100] * len(row.prompt_ids) + [*row.demo_ids] + [-100] * pad)
    return {name: torch.tensor(values) for name, values in found.items()}


def interleaved(sides: dict[str, Side], repeats: int) -> dict[str, dict[str, float]]:
    """Median rates of each side, taken in turns after one warm-up round; by wall clock unless named otherwise."""
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for repeat in range(repeats + 1):
        for name, side in sides.items():
            begin, begin_cpu = time.perf_counter(), time.process_time()
            tokens, flops = side(repeat)
            seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - begin_cpu
            rates = {"tokens_per_s": tokens / seconds, "tokens_per_cpu_s": tokens / cpu_seconds}
            rounds[name].append({**rates, "gflop_per_s": flops / seconds / 1e9})
    found = {}
    for name, (_, *measured) in rounds.items():
        found[name] = {key: statistics.median(r[key] for r in measured) for key in measured[0]}
        found[name]["slowest"] = min(r["tokens_per_s"] for r in measured)
        found[name]["fastest"] = max(r["tokens_per_s"] for r in measured)
    return found


def matmul_rate(size: int = 1024, repeats: int = 20) -> float:
    """Measured GFLOP/s of square float32 products at the current number of threads (the best of them)."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - begin)
    return 2 * size**3 / min(seconds) / 1e9


def breakdown(side: Side, repeats: int = 3) -> dict[str, float]:
    """Share of the operators' self time by part of the decoder, prefill included, from the profiler."""
    side(0)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        for seed in range(1, repeats + 1):
            side(seed)
    part_of = {name: part for part, names in PARTS.items() for name in names}
    shares = dict.fromkeys(PARTS, 0.0)
    for event in profiler.key_averages(group_by_input_shape=True):
        name = event.key.removeprefix("aten::")
        if name == "_softmax":  # over attention scores [rows, queries, keys] or over the vocabulary [rows, V]
            name += f" {min(len(event.input_shapes[0]), 3)}"
        shares[part_of.get(name, "dispatch and rest")] += event.self_cpu_time_total
    total = sum(shares.values())
    return {part: share / total for part, share in shares.items()}


def measure(policy: Policy, template: str, steps: int, threads: Sequence[int], repeats: int) -> dict[str, Any]:
    """All figures, keyed by workload and number of threads."""
    task = registry.task("countdown")
    examples = [policy.encode(e) for e in load_examples(task, "val", 4 * TRAIN_ROWS, task.default_level, template)]
    workloads = {f"sampling, batch {n}": sampling_sides(policy, examples, n, steps) for n in (64, 256)}
    workloads["training"] = training_sides(policy, examples)
    found: dict[str, Any] = {"matmul_gflop_per_s": {}, "rates": [], "breakdown": {}}
    for count in threads:
        torch.set_num_threads(count)
        peak = found["matmul_gflop_per_s"][count] = matmul_rate()
        for name, sides in workloads.items():
            rates = interleaved(sides, repeats)
            row = {"workload": name, "threads": count, **rates, "share": rates["bench"]["gflop_per_s"] / peak}
            for key in ("tokens_per_s", "tokens_per_cpu_s"):
                row[f"ratio_of_{key}"] = rates["bench"][key] / rates["transformers"][key]
            found["rates"].append(row)
    torch.set_num_threads(1)
    for n in (64, 256):
        found["breakdown"][n] = breakdown(workloads[f"sampling, batch {n}"]["bench"])
    return found


def show(found: dict[str, Any], console: Console) -> None:
    """The table of rates (share: of the measured matmul rate), that rate, and the breakdown."""
    table = Table(
        "workload", "threads", "bench tok/s", "transformers tok/s", "ratio", "by CPU time", "GFLOP/s", "share"
    )
    for row in found["rates"]:
        ours, theirs = row["bench"], row["transformers"]
        spans = [f"{r['tokens_per_s']:,.0f} ({r['slowest']:,.0f}-{r['fastest']:,.0f})" for r in (ours, theirs)]
        ratios = (f"{row['ratio_of_tokens_per_s']:.2f}", f"{row['ratio_of_tokens_per_cpu_s']:.2f}")
        work = (f"{ours['gflop_per_s']:.1f}", f"{row['share']:.0%}")
        table.add_row(row["workload"], str(row["threads"]), *spans, *ratios, *work)
    console.print(table)
    for count, rate in found["matmul_gflop_per_s"].items():
        console.print(f"float32 matmul 1024 x 1024, {count} thread(s): {rate:.0f} GFLOP/s")
    parts = Table("time of one sample call (1 thread)", *(f"batch {n}" for n in found["breakdown"]))
    for part in PARTS:
        parts.add_row(part, *(f"{shares[part]:.0%}" for shares in found["breakdown"].values()))
    console.print(parts)


def main(
    model: Annotated[str, typer.Option(help="tiny, a model directory or a hub name.")] = "tiny",
    threads: Annotated[list[int], typer.Option(help="Numbers of threads to measure with.")] = [1, 2],  # noqa: B006
    repeats: Annotated[int, typer.Option(min=1, help="Interleaved repetitions of each side.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    path = model_path(model)
    defaults = model_settings(path)
    network, tokenizer = load_model(path)
    steps = defaults.get("max_new_tokens", 64)
    found = measure(Policy(network, tokenizer), defaults.get("template", "compact"), steps, threads, repeats)
    if as_json:
        print(json.dumps({"model": model if model == "tiny" else Path(path).name, **found}, indent=1))
    else:
        show(found, Console(width=120))


if __name__ == "__main__":
    typer.run(main)
