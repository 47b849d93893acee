"""Masked SFT: before each prompt stands a copy of the demonstration with some of its tokens hidden.

Source: Diffusion-inspired masked fine-tuning (arXiv 2510.09885), of which the abstract and notes were read.  From
them: the model sees the text with a share U(.05, .95) of its tokens masked and is trained to give the whole text; the
abstract says that this objective also helps fine-tuning on mathematics.

Choices where the sources were silent:
- The copy stands before the prompt, so that the answer still follows the prompt's end, as in evaluation.  It has no
  words around it; a BOS that opens the prompt is what separates the two, and then no longer opens the row.
- The copy is the demonstration without EOS.  Each example of each step draws a share, and each token is hidden with
  that probability, independently: the share is met on average.  The mask is the tokenizer's mask token or its
  substitute (``ctx.mask_id``).
- All rows have a copy; ``plain_share`` leaves it out of that share of the rows, which is this project's addition.
- Loss and optimizer settings are those of ``sft``; the authors' were not verified.

The copy lengthens the row by the demonstration's tokens but EOS.  The room that every run keeps for a completion
holds it: a demonstration with more than max_new_tokens tokens besides EOS is refused.  At evaluation there is no
copy, so what is learnt must carry over from rows with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.types import Batch, Context, Example, Loss, Rows, Trajectory, UserError
from methods import common

EQUATION = """\
L = -(1/N) sum_{(x, y*)} sum_t log pi(y*_t | m(y*), x, y*_<t),  N = demonstration tokens (with EOS) of the step
m(y*) = y* without EOS, each token hidden with probability u;  u ~ U(mask_low, mask_high) per example and step"""

EVIDENCE = "abstract and notes only"

DATA_FLOW = """\
sampled:       nothing; the hidden tokens are drawn anew for each example of each step
row:           masked copy of y*, prompt x | demonstration y* with EOS | no policy part
prompt:        copy and prompt: no loss
demonstration: every token -log pi
charged:       one training pass per row, the copy's tokens included"""

PUBLISHED: tuple[str, ...] = ()


@dataclass(frozen=True)
class MaskedSFT:
    """L = -(1/N) sum_{(x, y*)} sum_t log pi(y*_t | m(y*), x, y*_<t).

    m(y*) is a copy of the demonstration with some tokens hidden; it stands before the prompt x and has no loss.
    """

    mask_low: float = 0.05
    mask_high: float = 0.95
    plain_share: float = 0.0
    lr: float = 1e-5
    warmup: float = 0.1
    decay: str = "cosine"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    batch_size: int = 256
    num_updates: int = 1

    def __post_init__(self) -> None:
        common.require_shares(self, "mask_low", "mask_high", "plain_share")
        common.require(
            self.mask_low <= self.mask_high, f"mask_low: {self.mask_low} is above mask_high ({self.mask_high})"
        )

    def copy(self, example: Example, ctx: Context) -> tuple[int, ...]:
        """The demonstration without EOS, some tokens hidden; empty for a plain row."""
        if ctx.rng.random() < self.plain_share:
            return ()
        # First a share for the row, then a coin per token, as in masked diffusion.
        ratio = ctx.rng.uniform(self.mask_low, self.mask_high)
        return tuple(ctx.mask_id if ctx.rng.random() < ratio else token for token in example.demo_ids[:-1])

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        return [
            Trajectory((*self.copy(example, ctx), *example.prompt_ids), example.demo_ids, group=group)
            for group, example in enumerate(examples)
        ]

    def loss(self, batch: Batch) -> Loss:
        # SFT; a token that the copy shows can be copied, one that it hides must follow from all else that is shown.
        value = common.demo_mean(batch, -batch.logprobs, "step")
        return Loss(value, {"demo_nll": value.detach()})

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        """Every row with its copy; UserError where a copy may not fit the model's context."""
        longest = max((len(example.demo_ids) - 1 for example in examples), default=0)
        if longest > max_new_tokens:
            raise UserError(
                f"masked_sft: a demonstration has {longest} tokens, and its masked copy must fit in the room of a "
                f"completion, {max_new_tokens} tokens: set --max-new-tokens {longest} or more"
            )
        sizes = [(len(e.prompt_ids), len(e.demo_ids)) for e in examples]
        return Rows(train=[(prompt + 2 * demo - 1, demo) for prompt, demo in sizes])


METHOD = MaskedSFT
VARIANTS: dict[str, dict[str, Any]] = {
    "copying": {"mask_low": 0.0, "mask_high": 0.0},
    "hidden": {"mask_low": 1.0, "mask_high": 1.0},
    "half": {"mask_low": 0.5, "mask_high": 0.5},
    "half-plain": {"plain_share": 0.5},
}
SYMBOLS: dict[str, str] = {
    "mask_low": "lower end of the mask ratio; notes",
    "mask_high": "upper end of the mask ratio; notes",
    "plain_share": "no symbol; this project's addition",
    "lr": "learning rate; not verified, as sft",
    "warmup": "warm-up share; not verified, as sft",
    "decay": "schedule; not verified, as sft (cosine)",
    "weight_decay": "AdamW weight decay; not verified, as sft",
    "betas": "AdamW betas; not verified, as sft",
    "batch_size": "demonstrations per step; not verified, as sft",
    "num_updates": "one update per batch",
}
