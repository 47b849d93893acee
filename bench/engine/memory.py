"""What does not fit: a pass is redone with fewer tokens; and whether activations have to be recomputed at all."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from bench.engine.batching import split_among, units
from bench.engine.out_of_memory import ADVICE, OutOfMemory, is_out_of_memory, reason
from bench.engine.ranks import ALONE, Ranks
from bench.engine.recompute import decoder_layers
from bench.foreign import say
from bench.plan import memory as formula
from bench.plan import registry
from bench.plan.budget import Meter
from bench.plan.execution import Execution
from bench.store.job import Job
from bench.types import Requests, Trajectory

if TYPE_CHECKING:
    from bench.engine.policy import Policy

T = TypeVar("T")
PROBED = (16, 48)  # tokens of the rows that are measured
SHARE = 0.9  # of the free memory that may be planned with; the rest is lost between blocks


def free_unused(device: torch.device) -> None:
    """Hand memory that nothing uses back to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


@dataclass
class Limit:
    """Most padded tokens of one pass; whenever memory runs out it is halved for the rest of the run.

    ``fixed``: why rows may not be cut otherwise than they were, if so; ``retries``: how often a pass was redone.
    """

    tokens: int
    fixed: str = ""
    retries: int = 0
    packed: bool = False  # rows have no padding, which counts otherwise
    ranks: Ranks = ALONE  # who share a pass, and redo it together
    whole_groups: bool = False  # rows of a group stay together

    def fit(
        self, rows: Sequence[Trajectory], meter: Meter, release: Callable[[], None], attempt: Callable[[int], T]
    ) -> T:
        """The value of ``attempt(tokens)`` over all rows, made anew from its start when memory runs out.

        ``release`` lets go of what an attempt left; what it was charged is taken back.  OutOfMemory at one row a pass.
        """
        before = self.tokens
        while True:
            try:
                with meter.whole_or_nothing(), self.ranks.failing_together(), self.ranks.charged_together(meter):
                    value = attempt(self.tokens)
                    self.ranks.all_have_memory()
                break
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                why = reason(error)
            # After the handler: the error's frames held on to all activations.
            release()
            self.halve(rows, why)
        if self.tokens < before and self.ranks.first:
            say(f"note: out of memory: passes of {self.tokens} tokens instead of {before} from here on", error=True)
        return value

    def taken(self) -> int:
        """The retries since this was last asked."""
        retries, self.retries = self.retries, 0
        return retries

    def shares(self, rows: Sequence[Trajectory], max_tokens: int) -> list[list[list[Trajectory]]]:
        """The micro-batches of each rank."""
        return split_among(rows, self.ranks.count, max_tokens, self.packed, bool(self.fixed), self.whole_groups)

    def halve(self, rows: Sequence[Trajectory], why: str) -> None:
        """Half of the largest pass over these rows; OutOfMemory if each has one row already."""
        shares = self.shares(rows, self.tokens)
        parts = [part for share in shares for part in share if part]
        sizes = [sum(map(len, part)) if self.packed else len(part) * max(map(len, part)) for part in parts]
        if len(parts) == len(units(rows, self.whole_groups)):
            what = "group" if self.whole_groups else "row"
            raise OutOfMemory(f"one {what} of {max(sizes)} tokens does not fit into memory ({why}): {ADVICE}")
        if self.fixed:
            raise OutOfMemory(
                f"a pass of {max(sizes)} tokens does not fit into memory ({why}), and by {self.fixed} the loss depends "
                f"on where rows are cut: expected a lower --micro-batch-tokens from the start, or {ADVICE[9:]}"
            )
        self.tokens = max(1, min(self.tokens, max(sizes)) // 2)
        self.retries += 1


# --- whether to recompute ----------------------------------------------------------------------------------------


def kept_bytes(forward: Callable[[Tensor], Any], model: Any, tokens: int) -> int:
    """Bytes that a forward pass of one row of ``tokens`` tokens keeps for its backward pass, weights apart."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def note(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    ids = torch.zeros((1, tokens), dtype=torch.long, device=next(model.parameters()).device)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
        output = forward(ids)  # alive until all is counted: what is freed may be handed out again
    del output
    return sum(kept.values())


def needed_bytes(policy: Policy, references: int, tokens: int, ranks: int = 1, passes: int = 1) -> float:
    """Most memory of a training pass of ``tokens`` tokens beyond the weights: about, and without recomputation.

    Gradients and moments are divided among ``ranks``; one layer's casts are much less than all, which still count.
    ``passes``: how many are kept for one backward pass.
    """
    model = policy.model
    parameters = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    states = formula.kept_bytes(parameters, trained, references)
    elsewhere = (states["gradients"] + states["moments"]) * (1 - 1 / ranks)
    besides = sum(states.values()) - states["weights"] - elsewhere + formula.casts_bytes(parameters, half=True)
    head = formula.head_bytes(model.config.hidden_size, model.config.vocab_size, True, tokens)

    def forward(ids: Tensor) -> Any:
        with policy._autocast():
            return model.base_model(input_ids=ids, use_cache=False).last_hidden_state

    # The difference of two rows: what does not grow with tokens, such as casts of weights, is counted above.
    short, long = PROBED
    per_token = (kept_bytes(forward, model, long) - kept_bytes(forward, model, short)) / (long - short)
    return besides + head + passes * per_token * tokens


def free_bytes(device: torch.device) -> int:
    """Memory that a CUDA device has left."""
    return torch.cuda.mem_get_info(device)[0]


def settled(job: Job, policy: Policy, ranks: Ranks = ALONE) -> Execution:
    """How a job is computed on this machine: ``auto`` recomputation is decided.

    It is full on CUDA where a pass would hardly fit otherwise.  UserError where the model's layers cannot be told.
    """
    execution = job.execution
    if execution.recompute == "full":
        decoder_layers(policy.model)
    if execution.recompute != "auto":
        return execution
    methods = [registry.build_method(stage.name, stage.fields) for stage in job.plan.stages]
    asks = [Requests.of(method) for method in methods]
    references = max(ask.frozen_models for ask in asks)
    keeps = policy.device.type != "cuda" or not any(method.batch_size for method in methods)
    if not keeps:
        passes = 1 + any(ask.ascent_step for ask in asks)
        needed = needed_bytes(policy, references, execution.micro_batch_tokens, ranks.count, passes)
        keeps = needed <= SHARE * free_bytes(policy.device)
        keeps = not ranks.any(not keeps)[0]
    return execution.model_copy(update={"recompute": "none" if keeps else "full"})
