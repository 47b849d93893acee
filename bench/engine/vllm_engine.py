"""Sampling by vLLM in this process (extra ``vllm``): weights pushed in memory, the draws of bench's own sampler."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import closing
from typing import Any

import torch

from bench.engine.engines import Request, check_version, plain_weights
from bench.engine.row_budget import CPU_BYTES, CUDA_SHARE, row_bytes
from bench.engine.sampler import Finished, Row, Samples, check_sampling, summary
from bench.engine.uniform_rows import ROW, Call, UniformRows
from bench.plan.execution import vllm_version
from bench.types import UserError

MAX_CONTEXT = 16_384  # tokens of prompt and completion; a longer window would take memory that no row here uses
ENVIRONMENT = {  # read by vLLM when it is imported
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in this process: weights are handed over, not sent
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # the other one has another interface for logits processors
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # the threads are torch's, as many as the run was given
    "VLLM_NO_USAGE_STATS": "1",  # nothing is reported to anybody
}


class VllmEngine:
    """vLLM on the run's device; ``path`` holds the model's configuration, the weights always come from ``sync``.

    ``rows``: at most so many rows at a time.  UserError where vLLM was built for another kind of device.
    """

    name = "vllm"
    version: int | None = None

    def __init__(self, path: str, device: torch.device, rows: int) -> None:
        os.environ.update(ENVIRONMENT)
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        from vllm.platforms import current_platform

        if current_platform.device_type != device.type:
            raise UserError(
                f"--sampler vllm: the installed vLLM runs on {current_platform.device_type or 'no device here'} and "
                f"this run on {device.type}: expected --sampler torch, or the vLLM that is built for {device.type}"
            )
        self.path, self.device, self.rows = path, device, rows
        self.llm: Any = None
        self.asleep = False

    def _start(self, model: Any) -> None:
        from vllm import LLM
        from vllm.v1.sample.logits_processor import LogitsProcessor

        self.draws: Any = type("Draws", (UniformRows, LogitsProcessor), {})
        set_threads = torch.set_num_threads
        try:
            self.llm = LLM(**self._options(model, self.draws))
        except (ValueError, RuntimeError, ImportError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
            raise UserError(f"vLLM cannot run '{self.path}' here ({reason}): expected --sampler torch") from error
        finally:
            torch.set_num_threads = set_threads  # vLLM's CPU build puts a function that does nothing in its place

    def _options(self, model: Any, draws: type) -> dict[str, Any]:
        self.window = min(getattr(model.config, "max_position_embeddings", None) or MAX_CONTEXT, MAX_CONTEXT)
        options = {
            "model": self.path,
            "skip_tokenizer_init": True,
            "load_format": "dummy",
            # A tied head would keep its first values on a CPU, where vLLM packs linear weights when it loads them.
            "hf_overrides": {"tie_word_embeddings": False},
            "max_model_len": self.window,
            "max_num_seqs": self.rows,
            "logits_processors": [draws],
            "async_scheduling": False,  # a row's place in its uniforms is the number of tokens that it has
            "generation_config": "vllm",  # not the model's own temperature or top_p
            "disable_log_stats": True,
            "seed": 0,
        }
        if self.device.type == "cpu":
            # All of it is taken at once: no more than rows of full length need, and a block to spare.
            cache = min(CPU_BYTES, (self.rows + 1) * row_bytes(model, self.window))
            return options | {"dtype": "float32", "enforce_eager": True, "kv_cache_memory_bytes": cache}
        free, total = torch.cuda.mem_get_info(self.device)
        share = CUDA_SHARE * free / total
        return options | {"dtype": "bfloat16", "enable_sleep_mode": True, "gpu_memory_utilization": share}

    def sync(self, model: Any, version: int) -> None:
        if self.llm is None:
            self._start(model)
        self.version = None  # until all of them are there
        if self.asleep:
            self.llm.wake_up(tags=["weights"])
        how = {"weights_iterator": plain_weights(model), "is_checkpoint_format": True}
        with torch.no_grad():
            self.llm.collective_rpc("reload_weights", kwargs=how)
        self.llm.reset_prefix_cache()  # its keys and values are those of the old weights
        if self.asleep:
            self.llm.wake_up(tags=["kv_cache"])
            self.asleep = False
        self.version = version

    def sample(self, request: Request, version: int, finished: Finished | None = None) -> Samples:
        check_version(self, version)
        longest = max(map(len, request.prompts), default=0) + request.max_new_tokens
        if longest > self.window:
            raise UserError(
                f"--sampler vllm: a prompt and its completion may have {longest} tokens, and vLLM was started for "
                f"{self.window}: expected a lower --max-new-tokens, or --sampler torch"
            )
        uniforms, limits = request.uniforms(), [request.max_new_tokens] * request.count
        check_sampling(request.prompts, limits, request.count, uniforms, request.temperature)
        call = Call(request.count, request.max_new_tokens, uniforms, request.temperature, self.device)
        self.draws.call = call
        written: list[list[int]] = [[] for _ in limits]
        processed = 0
        with closing(self._run(request)) as steps:
            for done in steps:
                for output in done:
                    written[int(output.request_id)] = list(output.outputs[0].token_ids)
                    processed += len(output.prompt_token_ids) - (output.num_cached_tokens or 0)
                index = [int(output.request_id) for output in done]
                if finished is not None and index:
                    finished(index, [written[row] for row in index])
        # The last token of a row is not run; a prompt that was cached by an earlier call costs less than it is charged.
        processed += sum(len(tokens) - 1 for tokens in written)
        found: list[Row] = [(ids, values[: len(ids)]) for ids, values in zip(written, call.logprobs.tolist())]
        out = summary(request.prompts, request.group_size, found, processed)
        return Samples(out.token_ids, out.logprobs, max(out.wasted, 0), out.prefill_lengths, out.rows)

    def _run(self, request: Request) -> Generator[list[Any], None, None]:
        """Hand all rows to vLLM; yields the rows that end with each of its steps."""
        from vllm import SamplingParams

        engine = self.llm.llm_engine
        for row in range(request.count):
            prompt = {"prompt_token_ids": list(request.prompts[row // request.group_size])}
            params = SamplingParams(
                temperature=0.0,  # the processor has left one token to choose from
                max_tokens=request.max_new_tokens,
                stop_token_ids=sorted(request.eos_ids),
                ignore_eos=True,
                detokenize=False,
                extra_args={ROW: row},
            )
            engine.add_request(str(row), prompt, params)
        try:
            while engine.has_unfinished_requests():
                yield [output for output in engine.step() if output.finished]
        finally:
            engine.abort_request([str(row) for row in range(request.count)])  # those that an error has left

    def release(self) -> None:
        if self.llm is not None and not self.asleep and self.device.type == "cuda":
            # Level 2 drops the weights too: the optimizer is about to change them.
            self.llm.sleep(level=2)
            self.asleep, self.version = True, None

    def facts(self) -> dict[str, Any]:
        dtype = "float32" if self.device.type == "cpu" else "bfloat16"
        return {"name": self.name, "version": vllm_version(), "dtype": dtype, "draws": "uniforms"}
