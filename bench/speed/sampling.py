"""Sides that complete prompts: bench's sampler, transformers' ``generate`` and vLLM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria

from bench.engine.decoder import make_decoder
from bench.engine.policy import Policy, load_model
from bench.engine.sampler import row_uniforms, sample
from bench.seeds import derive_seed
from bench.speed.turns import Amount, Turns
from bench.speed.work import GROUP, Work

Complete = Callable[[int, Sequence[int]], list[int]]  # seed and longest lengths -> tokens of each completion


def take_turns(work: Work, turns: Turns, complete: Complete, flops: Callable[[Sequence[int]], float]) -> None:
    """Completions of one length, then of lengths spread over a quarter of it and all of it."""
    cases = {"equal lengths": [work.tokens] * work.rows, "spread lengths": list(work.limits)}
    for turn in turns:
        turns.measure_matrix()
        for case, limits in cases.items():
            with turns.timed(case) as amount:
                for repeat in range(work.repeats):
                    count(amount, complete(work.repeats * turn + repeat, limits))
                amount.flops = flops(limits) * work.repeats


def count(amount: Amount, lengths: Sequence[int]) -> None:
    amount.units += sum(lengths)
    amount.counts["generated tokens"] = amount.units


def nothing(limits: Sequence[int]) -> float:
    return 0.0


def ours(work: Work, turns: Turns) -> None:
    """The sampler of every run, on the decoder that it chooses for this model."""
    policy = Policy(*load_model(work.model, work.device))
    decoder = make_decoder(policy.model, policy._autocast)
    prompts = [e.prompt_ids for e in work.prompts]

    def complete(seed: int, limits: Sequence[int]) -> list[int]:
        seeds = [derive_seed("speed", "row", seed, row) for row in range(work.rows)]
        uniforms = row_uniforms(seeds, max(limits))
        with policy._autocast():
            out = sample(decoder, prompts, GROUP, list(limits), frozenset(), uniforms, 1.0, work.rows)
        return [len(ids) for ids in out.token_ids]

    def flops(limits: Sequence[int]) -> float:
        lengths = [len(prompts[row // GROUP]) for row in range(work.rows)]
        prefill = sum(policy.architecture.forward(len(prompt), 1) for prompt in prompts)
        return prefill + sum(map(policy.architecture.decode, lengths, limits))

    take_turns(work, turns, complete, flops)


# --- transformers ------------------------------------------------------------------------------------------------


class Limits(StoppingCriteria):
    """Ends every row at a length of its own."""

    def __init__(self, limits: Sequence[int], width: int, device: str) -> None:
        self.ends = torch.tensor(limits, device=device) + width

    def __call__(self, input_ids: torch.Tensor, scores: Any, **others: Any) -> torch.Tensor:
        return self.ends <= input_ids.shape[1]


def left_padded(rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask [R, T]."""
    width = max(map(len, rows))
    ids = [[0] * (width - len(row)) + list(row) for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids), torch.tensor(mask)


def hf_dynamic(work: Work, turns: Turns) -> None:
    generate(work, turns, None)


def hf_static(work: Work, turns: Turns) -> None:
    generate(work, turns, "static")


def generate(work: Work, turns: Turns, cache: str | None) -> None:
    """``generate`` on left-padded copies of the prompts, from the whole distribution, without an end token."""
    model, _ = load_model(work.model, work.device)
    ids, mask = (t.to(work.device) for t in left_padded([e.prompt_ids for e in work.prompts for _ in range(GROUP)]))
    width = ids.shape[1]
    plain = {"do_sample": True, "top_k": 0, "max_new_tokens": work.tokens, "pad_token_id": 0}
    model.generation_config = GenerationConfig(**plain, cache_implementation=cache)

    def complete(seed: int, limits: Sequence[int]) -> list[int]:
        torch.manual_seed(seed)
        stops = [] if min(limits) == work.tokens else [Limits(limits, width, work.device)]
        with torch.autocast("cuda", torch.bfloat16, enabled=work.device == "cuda"):
            out = model.generate(ids, attention_mask=mask, stopping_criteria=stops)[:, width:]
        assert out.shape == (work.rows, max(limits)), "generate made completions of other lengths"
        return list(limits)  # what a row has after its end is padding, for which generate runs it on

    take_turns(work, turns, complete, nothing)


# --- vLLM --------------------------------------------------------------------------------------------------------


def vllm(work: Work, turns: Turns) -> None:
    """``LLM.generate`` in this process, in the precision that the other sides compute in."""
    import os

    os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_CPU_OMP_THREADS_BIND="nobind", VLLM_NO_USAGE_STATS="1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from vllm import LLM, SamplingParams

    cuda = work.device == "cuda"
    longest = max(len(e.prompt_ids) for e in work.prompts) + work.tokens
    options: dict[str, Any] = {"max_model_len": longest, "max_num_seqs": work.rows, "generation_config": "vllm"}
    memory = {"gpu_memory_utilization": 0.5} if cuda else {"kv_cache_memory_bytes": 2 * 1024**3, "enforce_eager": True}
    how = {**options, **memory, "dtype": "bfloat16" if cuda else "float32", "disable_log_stats": True, "seed": 0}
    llm = LLM(model=work.model, skip_tokenizer_init=True, **how)
    prompts = [{"prompt_token_ids": list(e.prompt_ids)} for e in work.prompts for _ in range(GROUP)]

    def complete(seed: int, limits: Sequence[int]) -> list[int]:
        params = [
            SamplingParams(temperature=1.0, max_tokens=n, ignore_eos=True, detokenize=False, seed=None) for n in limits
        ]
        out = llm.generate(prompts, params, use_tqdm=False)
        return [len(each.outputs[0].token_ids) for each in out]

    take_turns(work, turns, complete, nothing)
