"""SDFT: fine-tuning on the model's own rewrites of the demonstrations, where the verifier accepts them.

Source: Self-Distillation Fine-Tuning (arXiv 2402.13669), of which the abstract and a summary with its equations were
read, and the authors' repository sail-sg/sdft (code read: ``eval/gen_distilled_data.py``, the templates of ``main.py``,
``scripts/gsm8k/sdft-full.sh``).  The initial model is shown question and reference answer and writes an answer of its
own; where its final answer is the right one it replaces the reference, else the reference stays.  Then plain SFT.

Not to be confused with on-policy self-distillation, which has the same initials (arXiv 2601.19897).

Departures:
- The reference stands before the question, without words around it: a method sees tokens, and a base model would not
  follow the authors' instruction to refer to it.  The rewrite thus follows the question's end, as answers do in
  evaluation.  Both fit the model's context, since every run keeps room for question, demonstration and completion.
- The judge is the task's strict verifier, and a rewrite that does not end by itself is refused.  The authors compare
  final answers, and drop rewrites with phrases such as "reference answer", which only their instruction provokes.
- One greedy rewrite each.  The authors' scripts leave sampling to LLaMA-Factory's defaults.  With num_samples above 1
  the first accepted of as many sampled rewrites is taken.
- Rewriting is charged to the budget.
- Settings are those of the authors' full fine-tuning (their LoRA runs: rate 1e-4, batch 8); what their script leaves to
  its trainer's defaults (warm-up, weight decay, betas) is 0, 0 and (0.9, 0.999).

A model that does not use what stands before a question rewrites hardly anything rightly, and is then trained by SFT:
the embedded one, whose pretraining has one problem per row, is such a model.  ``s3ft:sdft`` continues the first half of
the demonstration instead.

S3FT (``s3ft``) first tries the model's answer without any reference.  A rewrite is made from the whole demonstration,
so wherever demonstrations are counted it counts as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.types import Batch, Context, Example, Loss, Rows
from methods import common
from methods.s3ft import accepted

EQUATION = """\
L = -(1/N) sum_x sum_t log pi(y'_t | x, y'_<t),  N = target tokens (with EOS) of the step
y' = rewrite ~ pi_0(. | y*, x) if judged right, else y*;  built once, by the initial model pi_0"""
EVIDENCE = "authors' code read; of the paper the abstract and a summary"
DATA_FLOW = """\
once: the initial model answers every prompt after its demonstration (num_samples tries); what is refused stays gold
prompt | rewrite or demonstration, with EOS;  likelihood: every target token
charged: the rewrites, then as SFT; the targets and their sources are stored with the run"""
PUBLISHED: tuple[str, ...] = (
    "S3FT's tables, Mistral-7B-Instruct-v0.2, GSM8K / MBPP / NQ: base 40.3 / 22.2 / 64.7, SFT 53.4 / 32.8 / 60.0, "
    "SDFT 54.8 / 35.8 / 67.1",
)


def shown(example: Example) -> Example:
    """The problem with its demonstration before the prompt, where the model can read it."""
    # Without EOS, after which a model has never seen anything follow.
    return replace(example, prompt_ids=(*example.demo_ids[:-1], *example.prompt_ids))


@dataclass(frozen=True)
class SDFT:
    """L = -(1/N) sum over target tokens of log pi, with targets that the initial model rewrote.

    ``num_samples`` 0 rewrites nothing, which is SFT; without ``keep_gold`` problems without a rewrite are dropped.
    """

    num_samples: int = 1
    greedy: bool = True
    keep_gold: bool = True
    divisor: str = "step"
    lr: float = 1e-5
    warmup: float = 0.0
    decay: str = "cosine"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    batch_size: int = 16
    num_updates: int = 1

    def __post_init__(self) -> None:
        common.require_choices(self, divisor=common.DIVISORS)
        common.require_at_least(self, 0, "num_samples")
        different = self.num_samples <= 1 or not self.greedy
        common.require(different, f"num_samples: {self.num_samples} greedy rewrites are all the same, set greedy=false")
        left = self.num_samples > 0 or self.keep_gold
        common.require(left, "num_samples: 0 leaves nothing to train on, set keep_gold=true")

    def prepare(self, examples: Sequence[Example], ctx: Context) -> list[Example]:
        """Every prompt at most once, with its first accepted rewrite, else with its demonstration."""
        if not self.num_samples:
            return list(examples)
        none: list[tuple[int, ...]] = [()] * len(examples)
        rewrites = ctx.sample(list(map(shown, examples)), none, self.num_samples, greedy=self.greedy)
        targets = []
        for example, tries in zip(examples, rewrites, strict=True):
            best = next(filter(accepted, tries), None)
            if best is not None:
                targets.append(replace(example, demo_ids=best.token_ids, step_ends=(), source="rewrite"))
            elif self.keep_gold:
                targets.append(example)
        return targets

    def prepare_worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        """Every rewrite at full length."""
        if not self.num_samples:
            return Rows()
        return Rows(
            [len(shown(e).prompt_ids) for e in examples],
            [(len(shown(e).prompt_ids), max_new_tokens) for e in examples for _ in range(self.num_samples)],
        )

    collect = common.collect_demonstrations
    worst_case = common.demonstrations_worst_case

    def loss(self, batch: Batch) -> Loss:
        # Plain SFT: targets that the model finds likely already give small gradients, and so move it less.
        value = common.demo_mean(batch, -batch.logprobs, self.divisor)
        nll = common.demo_mean(batch, -batch.logprobs.detach(), "step")
        return Loss(value, {"demo_nll": nll})


METHOD = SDFT
VARIANTS: dict[str, dict[str, Any]] = {
    "samples-4": {"greedy": False, "num_samples": 4},
    "rewrites-only": {"keep_gold": False},
    "authors-divisor": {"divisor": "micro-batch"},
}
IDENTITIES: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = (({"num_samples": 0}, "sft", {}),)
SYMBOLS: dict[str, str] = {
    "num_samples": "rewrites per demonstration; sdft-full.sh (one)",
    "greedy": "no symbol; this project's choice",
    "keep_gold": "y* where the rewrite is refused; gen_distilled_data.py",
    "divisor": "N; as sft",
    "lr": "learning rate; sdft-full.sh",
    "warmup": "warm-up share; not set in sdft-full.sh",
    "decay": "schedule; sdft-full.sh (cosine)",
    "weight_decay": "AdamW weight decay; not set in sdft-full.sh",
    "betas": "AdamW betas; not set in sdft-full.sh",
    "batch_size": "demonstrations per step; sdft-full.sh (2 rows, 4 accumulations, 2 devices)",
    "num_updates": "one update per batch",
}
