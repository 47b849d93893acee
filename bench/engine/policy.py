"""The policy: a causal LM, its tokenizer and the meter that every forward and every generated token passes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from bench.engine import reference
from bench.engine.batching import MicroBatch, collate, num_targets, scatter, split_among
from bench.engine.decoder import make_decoder
from bench.engine.encoding import encode
from bench.engine.engines import Engine, Request, TorchEngine, weights_version
from bench.engine.head import CastCache, head_is_linear, through_head
from bench.engine.model_facts import architecture, eos_ids, mask_id
from bench.engine.model_faults import check_complete, check_finite, check_vocabulary
from bench.engine.packing import packable, packed_states
from bench.engine.ranks import ALONE, Ranks
from bench.engine.recompute import recomputed
from bench.engine.residual import mixed_inputs
from bench.engine.sampler import Finished, Samples
from bench.engine.sampler_gap import SamplerGap
from bench.engine.sampling_together import sample_together
from bench.engine.scoring import by_row
from bench.engine.sharding import Sharded
from bench.engine.token_values import Outputs, Wanted, evaluate
from bench.plan.budget import Meter
from bench.types import Example, Trajectory, UserError

# Left out, transformers asks on standard input whether to run a folder's own Python code, and "y" would run it.
NO_CODE = {"trust_remote_code": False}


def load_tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a directory or hub model; UserError when there is none or it has no EOS."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, **NO_CODE)
    except Exception as error:  # transformers and its parsers raise anything for files that make no sense
        raise unloadable(path, error) from None
    if tokenizer.eos_token_id is None:
        raise UserError(f"the tokenizer of model '{path}' has no end-of-sequence token: set eos_token")
    return tokenizer


def load_config(path: str) -> Any:
    """The configuration of a directory or hub model; UserError when there is none."""
    try:
        return AutoConfig.from_pretrained(path, **NO_CODE)
    except Exception as error:  # transformers and its parsers raise anything for files that make no sense
        raise unloadable(path, error) from None


def unloadable(path: str, error: Exception) -> UserError:
    if "trust_remote_code" in str(error):
        return UserError(
            f"model '{path}' comes with Python code of its own (auto_map), which bench does not run: "
            "expected a model and a tokenizer of a class that transformers has"
        )
    offline = os.environ.get("HF_HUB_OFFLINE") and not os.path.isdir(path)
    note = " (HF_HUB_OFFLINE is set)" if offline else ""
    lines = str(error).splitlines() or [type(error).__name__]
    reason = " ".join(" ".join(lines).split()) if lines[0].endswith(":") else lines[0]  # a list follows
    return UserError(f"cannot load model '{path}'{note}: {reason}")


def load_model(path: str, device: str = "cpu") -> tuple[Any, PreTrainedTokenizerBase]:
    """Model in float32 and tokenizer from a directory or the hub; UserError when there is none."""
    tokenizer = load_tokenizer(path)
    try:
        how: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True, "output_loading_info": True}
        loaded: Any = AutoModelForCausalLM.from_pretrained(path, **how, **NO_CODE)
    except Exception as error:  # the same
        raise unloadable(path, error) from None
    model, report = loaded
    check_complete(path, report)
    check_vocabulary(path, model, tokenizer)
    check_finite(path, model.named_parameters())
    return model.to(device).eval(), tokenizer  # eval: dropout would make sampler and trainer disagree


class Policy:
    """A model with its tokenizer; ``meter`` is charged by ``sample``, ``forward`` and ``score``."""

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        meter: Meter | None = None,
        packing: bool = False,
        reference_place: str = "auto",
        engine: Engine | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.device = next(model.parameters()).device
        self.architecture = architecture(model)
        self.meter = meter
        self.reference_place = reference_place
        self.eos_ids = eos_ids(model, tokenizer)
        self.mask_id = mask_id(tokenizer)
        self.engine = engine or TorchEngine(make_decoder(model, self._autocast), self._autocast)
        self.gap = SamplerGap(self.engine.name, self.device)
        self.split_head = head_is_linear(model)
        self.packed = packing and packable(model)
        self.casts = CastCache()  # of heads, under autocast; emptied after every update
        self.ranks = ALONE  # who train it together
        self.sharded: Sharded | None = None  # where they do
        self.recompute = False  # whether training computes the layers' activations again in the backward pass

    # --- over several devices ---

    def spread(self, ranks: Ranks) -> None:
        """Divide weights, gradients and moments among ranks from now on."""
        if ranks.count > 1:
            self.ranks, self.sharded = ranks, Sharded(self.model, self.device, ranks)
            assert isinstance(self.engine, TorchEngine)
            self.engine.decoder = type(self.engine.decoder)(self.sharded.plain)  # type: ignore[call-arg]

    def whole(self) -> Any:
        """The model with all its weights, for everything but training passes; all ranks have to ask for it."""
        return self.model if self.sharded is None else self.sharded.whole()

    def reset(self) -> None:
        """Be ready for another pass after one that did not fit."""
        self.casts.clear()
        if self.sharded is not None:
            self.sharded.reset()

    def changed(self) -> None:
        """Forget what was made of the weights: they change now."""
        self.casts.clear()
        if self.sharded is not None:
            self.sharded.drop()

    # --- text ---

    def encode(self, example: Example, template: str = "plain") -> Example:
        return encode(self.tokenizer, example, template)

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Texts; one final EOS is dropped, any other special token stays visible to the verifier."""
        bare = [row[:-1] if row and row[-1] in self.eos_ids else row for row in ids]
        return self.tokenizer.batch_decode(
            [list(row) for row in bare], skip_special_tokens=False, clean_up_tokenization_spaces=False
        )

    # --- the metered network ---

    @contextmanager
    def off_the_clock(self) -> Iterator[None]:
        """Suspend the meter: for evaluation only."""
        meter, self.meter = self.meter, None
        try:
            yield
        finally:
            self.meter = meter

    def _autocast(self) -> Any:
        return torch.autocast("cuda", torch.bfloat16) if self.device.type == "cuda" else nullcontext()

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        group_size: int,
        max_new_tokens: int,
        seeds: Sequence[int] | None,
        temperature: float = 1.0,
        max_rows: int = 256,
        finished: Finished | None = None,
    ) -> Samples:
        """``group_size`` completions of each prompt; greedy without seeds, else one per row decides all its draws.

        ``finished`` gets rows and their tokens as soon as they are known.
        """
        self.whole()  # which the engine reads
        version = weights_version(self.model)
        if self.engine.version != version:
            self.engine.sync(self.model, version)
        self.gap.version = version if temperature == 1.0 else None
        request = Request(prompts, group_size, max_new_tokens, self.eos_ids, seeds, temperature, max_rows)
        out = sample_together(self.ranks, request, lambda own, known: self.engine.sample(own, version, known), finished)
        if self.meter is not None:
            self.meter.charge_sample(out.prefill_lengths, out.rows, out.wasted)
        return out

    def _padding(self, batch: MicroBatch) -> int:
        return 0 if self.packed else batch.padding

    def hidden(self, model: Any, batch: MicroBatch) -> Tensor:
        """What the head gets at the targets [M, D]; the logits themselves [M, V] where the head is not linear."""
        if self.packed:
            return packed_states(model if not self.split_head else model.base_model, batch)
        if not self.split_head:
            logits: Tensor = model(input_ids=batch.token_ids, use_cache=False).logits
            return logits[:, :-1][batch.targets]
        # The head runs at the targets alone: prompts and padding would be most of the logits.
        states: Tensor = model.base_model(input_ids=batch.token_ids, use_cache=False).last_hidden_state
        return states[:, :-1][batch.targets]

    def _outputs(self, model: Any, batch: MicroBatch, wanted: Wanted) -> Outputs:
        with self._autocast():
            with recomputed(model) if self.recompute and torch.is_grad_enabled() else nullcontext():
                hidden, reference = self.hidden(model, batch), None
            if wanted.reference is not None:
                with torch.no_grad():
                    reference = self.hidden(wanted.reference, batch)
            return self.values(model, hidden, batch, wanted, reference)

    def values(
        self, model: Any, hidden: Tensor, batch: MicroBatch, wanted: Wanted, reference: Tensor | None = None
    ) -> Outputs:
        """All wanted values per target [M] from what the head gets there, and what the reference's head gets."""
        targets = batch.token_ids[:, 1:][batch.targets]
        if not self.split_head:
            return evaluate(hidden, targets, wanted, reference, wanted.uniforms)
        head = None if wanted.reference is None else wanted.reference.get_output_embeddings()
        return through_head(hidden, targets, model.get_output_embeddings(), wanted, reference, head, self.casts)

    def outputs(self, batch: MicroBatch, wanted: Wanted) -> Outputs:
        """All wanted values [B, T] (candidates [B, T, K]) of the current policy, zero outside the targets.

        Charged as training; a reference, and the likeliest tokens for mixed inputs, as one more scoring pass each.
        """
        if self.meter is not None:
            self.meter.charge_train(batch.lengths, batch.num_targets, self._padding(batch))
        for _ in range((wanted.reference is not None) + (wanted.residual != 0)):
            self.charge_score(batch)
        return self.run(batch, wanted)

    def charge_score(self, batch: MicroBatch) -> None:
        """Charge one forward pass over a micro-batch."""
        if self.meter is not None:
            self.meter.charge_score(batch.lengths, batch.num_targets, self._padding(batch))

    def run(self, batch: MicroBatch, wanted: Wanted) -> Outputs:
        """The same as ``outputs``, charged by the caller."""

        def run() -> Outputs:
            with mixed_inputs(self, batch, wanted.residual) if wanted.residual else nullcontext():
                values = self._outputs(self.model, batch, wanted)
            return Outputs._make(None if value is None else scatter(value, batch.targets) for value in values)

        return run() if self.sharded is None else self.sharded.training_pass(run)

    def idle_pass(self) -> None:
        """What an empty micro-batch does: take part in the exchanges of the others' passes, with a gradient of 0."""
        batch = collate([Trajectory(prompt_ids=(0,), demo_ids=(0,))], self.device)
        if self.meter is not None:
            self.meter.ledger.padding_tokens += batch.token_ids.numel()
        (0.0 * self.run(batch, Wanted()).logprobs.sum()).backward()

    def forward(self, batch: MicroBatch, entropies: bool) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropies [B, T] with gradient, zero outside the targets; charged as training."""
        values = self.outputs(batch, Wanted(entropies))
        return values.logprobs, values.entropies

    @torch.no_grad()
    def score(
        self,
        rows: Sequence[Trajectory],
        model: Any,
        max_tokens: int,
        temper: Callable[[Tensor], Tensor] | None = None,
    ) -> dict[int, Tensor]:
        """Log-probabilities of each row's targets under ``model`` (old policy or reference), keyed by id(row)."""
        shares = split_among(rows, self.ranks.count, max_tokens, self.packed)
        found = []
        for part in filter(None, shares[self.ranks.number]):
            batch = collate(part, self.device)
            self.charge_score(batch)
            found.append(self._outputs(model, batch, Wanted(temper=temper)).logprobs)
        none = torch.zeros(0, dtype=torch.promote_types(model.dtype, torch.float32), device=self.device)
        joined = torch.cat([none, *found])
        self.ranks.all_have_memory()
        return by_row(self.ranks, shares, joined, num_targets)

    def save(self, folder: Path) -> None:
        """Write model and tokenizer, with settings of generation that sample from the model as it is.

        A base model's own (top_p, a penalty of repetition) would be applied by every program that reads them there.
        """
        model = self.whole()
        ends, kept = sorted(self.eos_ids), model.generation_config
        ids = {name: getattr(kept, name, None) for name in ("bos_token_id", "pad_token_id")}
        plain = GenerationConfig(**ids, eos_token_id=ends[0] if len(ends) == 1 else ends)
        model.generation_config = plain
        model.save_pretrained(folder)
        model.generation_config = kept
        self.tokenizer.save_pretrained(folder)

    def frozen_copy(self, method: object = None) -> Any:
        """The current policy as a reference model without gradients, as this method will use it."""
        return reference.frozen_copy(self.whole(), self.device, self.reference_place, reference.mixed_by(method))
