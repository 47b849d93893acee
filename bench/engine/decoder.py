"""Decoding networks: run a batch of prompts once, then one token per row and step, with a preallocated KV cache.

``make_decoder`` picks the fast one (plain torch on the weights of a Llama, Qwen2 or Qwen3) where its logits agree with
the model's own forward, and the model's forward with a transformers cache otherwise.  Every token goes through the
model's input embedding module, so that a forward hook there counts all of them, but for replays of a CUDA graph.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel, StaticCache

from bench.engine import cuda_graph
from bench.engine.fast_decoder import LlamaDecoder
from bench.engine.llama_weights import fast_supported
from bench.engine.row_budget import row_bytes


class Session(Protocol):
    """A running batch of R rows; ``prefilled`` tokens were run to start it, padding included."""

    prefilled: int

    @property
    def keeps_shape(self) -> bool:
        """Whether another number of rows costs so much that only halves pay."""
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Append one token to each row: ids [R] -> float32 logits [R, V] of the token after it."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Make old row ``rows[i]`` the new row i and drop the rest; ids [R'], distinct, R' <= R."""
        ...


class Decoder(Protocol):
    """A network that can start sessions; it sees the model's weights as they are at each ``start``."""

    @property
    def device(self) -> torch.device: ...

    def start(self, prompts: Sequence[Sequence[int]], rows: Sequence[int], capacity: int) -> tuple[Tensor, Session]:
        """Run each prompt once and give it to its rows.

        ``rows[r]`` is the prompt of row r, capacity the most steps that follow.  Returns float32 logits [P, V] of the
        first new token of each prompt, and the session of R rows.
        """
        ...

    def row_bytes(self, prompt: int, new: int) -> int:
        """Bytes that a row with so many tokens takes while it runs."""
        ...


def make_decoder(model: PreTrainedModel, autocast: Callable[[], AbstractContextManager[Any]] = nullcontext) -> Decoder:
    """The fast decoder if the model is of a supported family and a probe of a few tokens agrees, else the generic one.

    ``autocast``: under which it will run; the probe runs there too.  The probe runs tokens through the model: attach
    counting hooks after this call.
    """
    generic = GenericDecoder(model)
    if not fast_supported(model):
        return generic
    fast = LlamaDecoder(model)
    # bfloat16 keeps 8 significant bits, so that two right implementations differ by about a percent.  A wrong mask,
    # position or layout is off by far more in either type.
    rounded = 5e-2
    kind = fast.device.type
    with autocast():
        reduced = torch.is_autocast_enabled(kind)
    # In the model's own type first: the rounding of autocast would hide a small mistake.
    probes = [(nullcontext, 1e-3 if next(model.parameters()).dtype == torch.float32 else rounded)]
    for how, tolerance in [*probes, *([(autocast, rounded)] if reduced else [])]:
        for decoder in [fast, *([LlamaDecoder(model, fixed=True)] if cuda_graph.wanted(fast.device) else [])]:
            with torch.autocast(kind, enabled=False), how():
                error = probe_error(model, decoder)
            if error > tolerance:
                warnings.warn(
                    f"fast decoder disagrees with {type(model).__name__} (relative error {error:.1e}); using its own "
                    "forward",
                    stacklevel=2,
                )
                return generic
    return fast


@torch.inference_mode()
def probe_error(model: PreTrainedModel, decoder: Decoder) -> float:
    """Largest difference of the logits to the model's forward, relative to the largest logit.

    Two ragged prompts, both rows of the second one stepped once after the first row was dropped.
    """
    embed: Any = model.get_input_embeddings()
    # A prime stride spreads the ids over the vocabulary.  Unequal lengths test the padding mask, rows 0, 1, 1 a shared
    # prompt, keep(2, 1) a dropped and a moved row, and the step the cache.
    ids = (torch.arange(1, 11, device=decoder.device) * 7919 % embed.num_embeddings).view(2, 5)
    mask = left_mask(torch.tensor([5, 3], device=decoder.device), 5)
    split = 4  # the decoder prefills the first four columns and steps the last one
    with evaluating(model):
        want = model(input_ids=ids, attention_mask=mask.long(), position_ids=positions_of(mask)).logits.float()
        prompts = [ids[0, :split].tolist(), ids[1, 2:split].tolist()]
        first, session = decoder.start(prompts, [0, 1, 1], 2)
        session.keep(torch.tensor([2, 1]))
        second = session.step(ids[1:, split].expand(2))
    got = torch.cat([first, second])
    expected = torch.cat([want[:, split - 1], want[1:, split].expand(2, -1)])
    return float((got - expected).abs().max() / expected.abs().max().clamp_min(1e-6))


def left_mask(lengths: Tensor, width: int) -> Tensor:
    """True at the tokens of left-padded rows: lengths [P] -> bool [P, width]."""
    return torch.arange(width, device=lengths.device) >= (width - lengths)[:, None]


def positions_of(mask: Tensor) -> Tensor:
    """Position of each token in its row, 0 at padding: bool [P, T] -> int64 [P, T]."""
    return (mask.cumsum(-1) - 1).clamp_min(0)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run without dropout, then restore the mode."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


# --- any other model -----------------------------------------------------------------------------------------


class GenericDecoder:
    """Decoding of any Hugging Face causal language model through its forward and a transformers cache."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model: Any = model
        names = inspect.signature(model.forward).parameters
        self.takes_positions = "position_ids" in names
        # Only the last column is sampled from; the others would cost prompts x length x vocabulary floats.
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in names else {}

    @property
    def device(self) -> torch.device:
        return self.model.get_input_embeddings().weight.device

    def row_bytes(self, prompt: int, new: int) -> int:
        # All prompts run in one pass here, so that its intermediate values count per row: about four inner layers of
        # four times the hidden size, and a mask or scores for every pair of tokens.
        return row_bytes(self.model, prompt + new) + 64 * prompt * self.model.config.hidden_size + 4 * prompt**2

    @torch.inference_mode()
    def start(self, prompts: Sequence[Sequence[int]], rows: Sequence[int], capacity: int) -> tuple[Tensor, Session]:
        width = max(map(len, prompts))
        # Left padding puts the last token of every prompt into the last column, so that one column starts all rows.
        ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=self.device)
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=self.device)
        session = GenericSession(self, width + capacity)
        logits = session.run(ids, left_mask(lengths, width).long())
        session.prefilled = ids.numel()
        # Only now do the rows of one prompt part: until here each distinct prompt was run once.
        session.keep(torch.tensor(rows))
        return logits, session


class GenericSession:
    """State of a batch in the generic path: the cache and its attention mask [R, used]."""

    mask: Tensor
    prefilled = 0
    keeps_shape = False

    def __init__(self, decoder: GenericDecoder, capacity: int) -> None:
        self.decoder = decoder
        config = decoder.model.config
        # transformers' own sign that a static cache works; under autocast its keys and values differ in type.
        static = decoder.model._can_compile_fullgraph and not torch.is_autocast_enabled(decoder.device.type)
        self.cache: Any = StaticCache(config, max_cache_len=capacity) if static else DynamicCache(config=config)

    def run(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Run ids [R, T] under the mask [R, used + T] of the whole context; logits [R, V] of the last column."""
        self.mask = mask
        extra: dict[str, Any] = dict(self.decoder.last_only)
        if self.decoder.takes_positions:
            extra["position_ids"] = positions_of(mask)[:, -ids.shape[1] :]
        with evaluating(self.decoder.model):
            output = self.decoder.model(
                input_ids=ids, attention_mask=mask, past_key_values=self.cache, use_cache=True, **extra
            )
        return output.logits[:, -1].float()

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        return self.run(tokens[:, None], F.pad(self.mask, (0, 1), value=1))

    @torch.inference_mode()
    def keep(self, rows: Tensor) -> None:
        rows = rows.to(self.mask.device)
        self.cache.reorder_cache(rows)
        self.mask = self.mask[rows]
