"""Losses and gradient norms of a few updates per method against stored ones: numbers must not move unnoticed.

Completions and candidates are scripted, so that no sampled token depends on rounding.  A change that should move the
numbers writes them anew with ``python -m tests.engine.test_golden`` and says so in CHANGELOG.md.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor

import bench.engine.token_values
from bench.types import Completion, Example, Verdict
from tasks.common import derive_seed
from tests.helpers.engine import TASK, TOKENIZER, method, pool, small_policy, stage
from tests.methods.batches import scripted_scores

FILE = Path(__file__).parent / "golden" / "losses.json"
METHODS = {
    "sft": {},
    "grpo": {"num_updates": 1},
    "grpo 2 updates": {"num_updates": 2},
    "uft": {"num_updates": 1, "demo_coef": 0.1},
    "uft uniform": {"num_updates": 1, "schedule": "uniform"},
    "dft": {},
    "iw_sft": {},
    "curio_sft": {"sync_every": 2},
    "eaft": {},
    "ift": {},
    "asft": {"kl_coef": 1.0},
    "otr": {"num_candidates": 16},
    "masked_sft": {},
    "poft": {},
    "q_tuning": {"sample_share": 0.75},
    "uds": {"keep": 2, "alpha": 10.0},
    "lfu": {},
    "raft": {},
    "dpo": {"gold": True},
    "hpt": {"num_updates": 1, "max_tokens": 64, "gamma": 0.25},
    "random_reward": {"num_updates": 1},
    "chord": {"num_demos": 4},
    "prefix_rft": {"num_updates": 1, "max_tokens": 64},
    "luffy": {"num_updates": 1, "max_tokens": 64},
    "srft": {"num_updates": 1},
    "relift": {"num_updates": 1, "max_tokens": 64, "buffer_size": 2},
}
STEPS = 6
candidates = bench.engine.token_values.candidates


@dataclass
class Scripted:
    """Completions that ignore the policy: demonstrations and goal-blind answers, truly judged.

    Where there is a buffer, every other prompt gets goal-blind answers alone.
    """

    progress: float
    rng: random.Random
    buffer: list[Example]
    buffered: bool = False
    mask_id: int = TOKENIZER.unk_token_id
    memory: dict[str, torch.Tensor] = field(default_factory=dict)

    def score(self, rows, *, features=None, under="policy"):
        return [scripted_scores(row, features) for row in rows]

    def sample(self, examples, prefixes, group_size):
        found = []
        for e in examples:
            rng = random.Random(derive_seed("golden", e.id))
            texts = [e.demonstration.text] + [TASK.practice(rng, e.problem) for _ in range(group_size - 1)]
            if self.buffered and derive_seed("fails", e.id) % 2:
                texts[0] = TASK.practice(rng, e.problem)
            found.append([self.completion(e, text) for text in texts])
        return found

    def completion(self, example, text):
        ids = (*TOKENIZER(text, add_special_tokens=False).input_ids, TOKENIZER.eos_token_id)
        verdict: Verdict = TASK.verify(example.problem, text)
        return Completion(ids, (0.0,) * len(ids), text, "stop", verdict)


def scripted_candidates(logits: Tensor, targets: Tensor, uniforms: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The real draw from the middle of chosen tokens' shares: of the target in one half, of any token in the other."""
    chances = torch.softmax(logits.detach().double() / temperature, dim=-1)
    anything = ((2 * uniforms - 1).clamp(min=0) * logits.shape[-1]).long()
    tokens = torch.where(uniforms < 0.5, targets.unsqueeze(1), anything)
    middles = (chances.cumsum(-1) - chances / 2).gather(1, tokens)
    logprobs, hits = candidates(logits, targets, middles, temperature)
    assert torch.equal(logprobs, torch.log_softmax(logits.float(), dim=-1).gather(1, tokens))
    return logprobs, hits


def losses(name: str) -> list[list[float]]:
    """[loss, gradient norm] of each update."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.engine.token_values, "candidates", scripted_candidates)
        return trained(name)


def trained(name: str) -> list[list[float]]:
    chosen = method(name.split()[0], **METHODS[name])
    current = stage(small_policy(3, "1000steps"), chosen, pool(16))
    found = []
    for step in range(STEPS):
        examples = current.examples()
        del current.buffer[: len(current.recalled())]
        ctx = Scripted(step / STEPS, random.Random(step), current.buffer, current.asks.buffer_size > 0)
        rows = chosen.collect(examples, ctx)
        record = current.update(rows, chosen.lr, ctx.progress)
        current.step += 1
        found.append([record["loss"], record["grad_norm"]])
    return found


@pytest.mark.parametrize("name", METHODS)
def test_losses_and_gradient_norms_are_the_stored_ones(name: str) -> None:
    stored = json.loads(FILE.read_text())[name]
    assert len(stored) == STEPS
    for now, then in zip(losses(name), stored):
        assert now == pytest.approx(then, rel=2e-4, abs=1e-6)


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps({name: losses(name) for name in METHODS}, indent=1) + "\n")
