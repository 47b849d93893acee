"""GRAPE: of several right answers to a prompt, fine-tuning on the one that fits the base model best.

Source: "The Best Instruction-Tuning Data are Those That Fit" (arXiv 2502.04194 v3, abstract and the authors' project
page read, settings from notes; no authors' code was found).  For each prompt answers are gathered from several models,
and the one with the highest probability under the model to be tuned, normalised by its length, becomes the
demonstration.  Then plain SFT.  Selection is done once, before training.

Departures:
- Candidates are the demonstration and what the model as the stage begins writes itself, from the prompt alone and from
  the first half of the demonstration's steps.  The authors have answers of other models, which are not at hand here,
  and which are not likely under the base for being its own: here its own answers mostly win where there are any.
- Only candidates that the verifier accepts, and that end by themselves, compete; the authors' data were filtered
  before.
- ``normalise="none"`` compares log-probabilities of whole answers, which favours short ones: the page says normalised.
- Sampling, judging and scoring are charged to the budget.
- Optimizer settings but the learning rate are those of ``sft``; the authors' were not verified.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.types import Batch, Context, Example, Loss, Rows, Scores, Trajectory
from methods import common
from methods.s3ft import accepted

NORMALISATIONS = ("length", "none")

EQUATION = """\
L = -(1/N) sum_x sum_t log pi(y'_t | x, y'_<t),  N = target tokens (with EOS) of the step
y' = argmax over candidates y of (1/|y|) log pi_0(y | x),  pi_0: the model at the start (normalise="none": no 1/|y|)
candidates: y*, and the right ones of num_samples answers from x and from x with each of prefix_shares of y*'s steps"""
EVIDENCE = "abstract and project page read, settings from notes; no authors' code found"
DATA_FLOW = """\
once: the initial model answers every prompt, alone and after half of the demonstration; it scores the right answers
prompt | likeliest candidate with EOS;  likelihood: every target token
charged: sampling and scoring once, then as SFT; the targets and their sources are stored with the run"""
PUBLISHED: tuple[str, ...] = (
    "Abstract: up to +13.8 over answers of the strongest model, up to +17.3 over 3 times the data",
    "Abstract: with 1/3 of the data and half of the epochs Llama-3.1-8B is 3.5 above Tulu3-SFT",
)


def fit(scores: Scores, normalise: str) -> float:
    """How well an answer fits the model that scored it."""
    logprobs = scores.logprobs.double()
    return float(logprobs.mean() if normalise == "length" else logprobs.sum())


@dataclass(frozen=True)
class GRAPE:
    """L = -(1/N) sum over target tokens of log pi, each target the likeliest of its prompt's candidates."""

    num_samples: int = 1  # for each of prefix_shares
    prefix_shares: tuple[float, ...] = (0.0, 0.5)
    normalise: str = "length"
    divisor: str = "step"
    lr: float = 1e-5
    warmup: float = 0.1
    decay: str = "cosine"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.95)
    batch_size: int = 256
    num_updates: int = 1

    def __post_init__(self) -> None:
        common.require_choices(self, normalise=NORMALISATIONS, divisor=common.DIVISORS)
        common.require_at_least(self, 0, "num_samples")
        shares = all(0 <= share < 1 for share in self.prefix_shares)
        common.require(shares, f"prefix_shares: {self.prefix_shares} are not all in [0, 1)")

    def prefix(self, example: Example, share: float) -> tuple[int, ...]:
        """The first steps of the demonstration, which an answer continues."""
        steps = round(share * len(example.step_ends))
        return example.demo_ids[: example.step_ends[steps - 1]] if steps else ()

    def prepare(self, examples: Sequence[Example], ctx: Context) -> list[Example]:
        """Every example with the likeliest of its candidates, which are different ones."""
        candidates = {e.id: {e.demo_ids: e} for e in examples}
        for share in self.prefix_shares if self.num_samples else ():
            prefixes = [self.prefix(e, share) for e in examples]
            for e, prefix, answers in zip(examples, prefixes, ctx.sample(examples, prefixes, self.num_samples)):
                for answer in filter(accepted, answers):
                    ids = (*prefix, *answer.token_ids)
                    # Only the prefix comes from the data; the rest is not charged as a demonstration.
                    made: dict[str, Any] = {"source": "continued" if prefix else "own", "gold_tokens": len(prefix)}
                    candidates[e.id].setdefault(ids, replace(e, demo_ids=ids, step_ends=(), **made))
        contested = [c for own in candidates.values() if len(own) > 1 for c in own.values()]
        rows = [Trajectory(prompt_ids=c.prompt_ids, demo_ids=c.demo_ids) for c in contested]
        fits = {id(c): fit(scores, self.normalise) for c, scores in zip(contested, ctx.score(rows))}
        # The first of equal ones, which is the demonstration if it is among them.
        return [max(candidates[e.id].values(), key=lambda c: fits.get(id(c), 0.0)) for e in examples]

    def prepare_worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        """Every answer right and different."""
        shares = self.prefix_shares if self.num_samples else ()
        contexts = [(len(e.prompt_ids), len(self.prefix(e, share))) for share in shares for e in examples]
        rows = common.rollout_rows(contexts, self.num_samples, max_new_tokens)
        gold = common.demonstration_rows(examples).train if contexts else ()
        return Rows(rows.prefill, rows.decode, score=(*rows.train, *gold))

    collect = common.collect_demonstrations
    worst_case = common.demonstrations_worst_case

    def loss(self, batch: Batch) -> Loss:
        # Plain SFT: what the method changes is the targets, not the loss.
        value = common.demo_mean(batch, -batch.logprobs, self.divisor)
        return Loss(value, {"demo_nll": common.demo_mean(batch, -batch.logprobs.detach(), "step")})


METHOD = GRAPE
VARIANTS: dict[str, dict[str, Any]] = {
    "own-answers": {"prefix_shares": (0.0,)},
    "continued": {"prefix_shares": (0.25, 0.5, 0.75)},
    "samples-4": {"num_samples": 4},
    "whole-answers": {"normalise": "none"},
    "one-candidate": {"num_samples": 0},
}
IDENTITIES: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = (({"num_samples": 0}, "sft", {}),)
SYMBOLS: dict[str, str] = {
    "num_samples": "no symbol; this project's choice",
    "prefix_shares": "no symbol; this project's sources of candidates",
    "normalise": "normalised probability; abstract of v3, project page",
    "divisor": "N; this project's choice, as sft",
    "lr": "learning rate; notes",
    "warmup": "warm-up share; not verified, as sft",
    "decay": "schedule; not verified, as sft",
    "weight_decay": "AdamW weight decay; not verified, as sft",
    "betas": "AdamW betas; not verified, as sft",
    "batch_size": "demonstrations per step; not verified, as sft",
    "num_updates": "one update per batch",
}
