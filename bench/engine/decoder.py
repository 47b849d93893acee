"""Decoding networks: run a batch of prompts once, then one token per row and step, with a preallocated KV cache.

``make_decoder`` picks the fast one (plain torch on the weights of a Llama, Qwen2 or Qwen3) where its logits agree with
the model's own forward, and the model's forward with a transformers cache otherwise.  Every token goes through the
model's input embedding module, so that a forward hook there counts all of them.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel, StaticCache

from bench.engine.fast_decoder import LlamaDecoder, fast_supported, left_mask, positions_of


class Session(Protocol):
    """A running batch of R rows."""

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

    def start(self, ids: Tensor, lengths: Tensor, rows: Tensor, capacity: int) -> tuple[Tensor, Session]:
        """Run each prompt once and give it to its rows.

        ids [P, T] left-padded, lengths [P], rows [R] the prompt of each row, capacity the most steps that follow.
        Returns float32 logits [P, V] of the first new token of each prompt, and the session of R rows.
        """
        ...


def make_decoder(model: PreTrainedModel) -> Decoder:
    """The fast decoder if the model is of a supported family and a probe of a few tokens agrees, else the generic one.

    The probe runs tokens through the model: attach counting hooks after this call.
    """
    generic = GenericDecoder(model)
    if not fast_supported(model):
        return generic
    fast = LlamaDecoder(model)
    error = probe_error(model, fast)
    # bfloat16 keeps 8 significant bits, so that two right implementations differ by about a percent.  A wrong mask,
    # position or layout is off by far more in either type.
    tolerance = 1e-3 if next(model.parameters()).dtype == torch.float32 else 5e-2
    if error <= tolerance:
        return fast
    warnings.warn(
        f"fast decoder disagrees with {type(model).__name__} (relative error {error:.1e}); using its own forward",
        stacklevel=2,
    )
    return generic


@torch.inference_mode()
def probe_error(model: PreTrainedModel, decoder: Decoder) -> float:
    """Largest difference of the logits to the model's forward, relative to the largest logit.

    Two ragged prompts, both rows of the second one stepped once after the first row was dropped.
    """
    embed: Any = model.get_input_embeddings()
    # A prime stride spreads the ids over the vocabulary.  Unequal lengths test the padding mask, rows 0, 1, 1 a shared
    # prompt, keep(2, 1) a dropped and a moved row, and the step the cache.
    ids = (torch.arange(1, 11, device=decoder.device) * 7919 % embed.num_embeddings).view(2, 5)
    lengths = torch.tensor([5, 3], device=decoder.device)
    mask = left_mask(lengths, 5)
    split = 4  # the decoder prefills the first four columns and steps the last one
    # In the model's own type: the rounding of autocast would hide a small mistake.
    with evaluating(model), torch.autocast(decoder.device.type, enabled=False):
        want = model(input_ids=ids, attention_mask=mask.long(), position_ids=positions_of(mask)).logits.float()
        first, session = decoder.start(ids[:, :split], lengths - 1, torch.tensor([0, 1, 1], device=ids.device), 2)
        session.keep(torch.tensor([2, 1], device=ids.device))
        second = session.step(ids[1:, split].expand(2))
    got = torch.cat([first, second])
    expected = torch.cat([want[:, split - 1], want[1:, split].expand(2, -1)])
    return float((got - expected).abs().max() / expected.abs().max().clamp_min(1e-6))


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

    @torch.inference_mode()
    def start(self, ids: Tensor, lengths: Tensor, rows: Tensor, capacity: int) -> tuple[Tensor, Session]:
        session = GenericSession(self, ids.shape[1] + capacity)
        logits = session.run(ids, left_mask(lengths, ids.shape[1]).long())
        # Only now do the rows of one prompt part: until here each distinct prompt was run once.
        session.keep(rows)
        return logits, session


class GenericSession:
    """State of a batch in the generic path: the cache and its attention mask [R, used]."""

    mask: Tensor

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
        self.cache.reorder_cache(rows)
        self.mask = self.mask[rows]
