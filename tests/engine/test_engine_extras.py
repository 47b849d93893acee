"""What methods may ask of the engine besides log-probabilities: distributions, drawn tokens, weights, a buffer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.engine.batching import collate
from bench.engine.head import LOGITS_BYTES
from bench.engine.step import in_turn, optimizer_batches
from bench.engine.token_values import Wanted, candidates
from bench.types import Batch, Context, Example, Loss, Rows, Trajectory
from methods import common, sft
from tests.helpers.engine import TOKENIZER, method, pool, run, small_model, small_policy, stage

REFERENCE = small_model(seed=7)


def rows_of(count: int) -> list[Trajectory]:
    return [Trajectory(e.prompt_ids, e.demo_ids[: 5 + i], e.demo_ids[5 + i :]) for i, e in enumerate(pool(count))]


@dataclass(frozen=True)
class Asking:
    """A method that asks for everything and trains on demonstrations."""

    lr: float = 1e-3
    warmup: float = 0.0
    decay: str = "constant"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    batch_size: int = 4
    num_updates: int = 1
    buffer_size: int = 0
    num_candidates: int = 0
    candidate_temperature: float = 1.0
    uses_reference_kl: bool = False
    uses_reference: bool = False
    uses_entropies: bool = False

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        ctx.buffer.extend(examples[: min(3, self.buffer_size)])
        return common.demonstrations(examples)

    def loss(self, batch: Batch) -> Loss:
        value = common.demo_mean(batch, -batch.logprobs, "step")
        for extra in (batch.reference_kl, batch.candidate_logprobs):
            if extra is not None:
                value = value + extra.sum() / max(batch.num_demo, 1)
        return Loss(value, {"tokens": batch.demo.sum().float()})

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        return common.demonstration_rows(examples)


# --- distributions and drawn tokens ----------------------------------------------------------------------------


def wanted(rows: Sequence[Trajectory], num: int = 3) -> Wanted:
    targets = sum(len(row.demo_ids) + len(row.completion_ids) for row in rows)
    uniforms = torch.rand(targets, num, generator=torch.Generator().manual_seed(1))
    return Wanted(True, REFERENCE, uniforms, 0.7)


@pytest.mark.parametrize("chunk", [None, 7])
def test_extras_equal_a_plain_computation(chunk: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, rows = small_policy(), rows_of(5)
    if chunk:
        monkeypatch.setitem(LOGITS_BYTES, "cpu", chunk * 4 * len(TOKENIZER))
    ask, micro = wanted(rows), collate(rows, policy.device)
    found = policy.outputs(micro, ask)
    assert found.reference_kl is not None and found.candidate_logprobs is not None and found.candidate_hits is not None
    assert ask.uniforms is not None
    place = 0
    for i, row in enumerate(rows):
        ids = torch.tensor([(*row.prompt_ids, *row.demo_ids, *row.completion_ids)])
        ours, theirs = (m(ids).logits[0, :-1].double().log_softmax(-1) for m in (policy.model, REFERENCE))
        for t in range(len(row.prompt_ids) - 1, len(row) - 1):
            kl = (theirs[t].exp() * (theirs[t] - ours[t])).sum()
            assert float(found.reference_kl[i, t].detach()) == pytest.approx(float(kl.detach()), abs=1e-5)
            cumulative = (ours[t] / 0.7).softmax(-1).cumsum(-1)
            drawn = [int((cumulative <= u).sum()) for u in ask.uniforms[place].double()]
            assert found.candidate_logprobs[i, t].tolist() == pytest.approx(ours[t][drawn].tolist(), abs=1e-5)
            assert found.candidate_hits[i, t].tolist() == [token == int(ids[0, t + 1]) for token in drawn]
            place += 1
        assert not found.reference_kl[i][~micro.targets[i]].any()
        assert not found.candidate_logprobs[i][~micro.targets[i]].any()


def test_chunks_do_not_change_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(4)

    def gradients() -> list[Tensor]:
        policy = small_policy()
        found = policy.outputs(collate(rows, policy.device), wanted(rows))
        assert found.reference_kl is not None and found.candidate_logprobs is not None
        (found.reference_kl.sum() + found.candidate_logprobs.square().sum() + found.entropies.sum()).backward()
        return [p.grad for p in policy.model.parameters() if p.grad is not None]

    whole = gradients()
    monkeypatch.setitem(LOGITS_BYTES, "cpu", 5 * 4 * len(TOKENIZER))
    for ours, want in zip(gradients(), whole, strict=True):
        torch.testing.assert_close(ours, want, atol=1e-4, rtol=1e-4)


def test_drawn_tokens_follow_the_tempered_distribution() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0, 0.5]])
    uniforms = torch.rand(1, 100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logp, hits = candidates(logits, torch.tensor([3]), uniforms, 2.0)
    expected = (logits[0] / 2.0).softmax(-1)
    assert float(hits.double().mean()) == pytest.approx(float(expected[3]), abs=0.006)
    mean = (expected * logits[0].log_softmax(-1)).sum()
    assert float(logp.double().mean()) == pytest.approx(float(mean), abs=0.02)


def test_extras_are_charged_as_one_more_scoring_pass() -> None:
    examples = pool(8)
    plain, asking = Asking(), Asking(uses_reference_kl=True, num_candidates=2)
    stages = [stage(small_policy(budget="100steps"), chosen, examples) for chosen in (plain, asking)]
    for current in stages:
        current.run_step()
    ledgers = [current.meter.ledger for current in stages]
    assert ledgers[0].scored_tokens == 0 and ledgers[1].scored_tokens == ledgers[1].trained_tokens
    assert ledgers[1].flops == pytest.approx(ledgers[0].flops * 4 / 3)
    flops = stage(small_policy(budget="1Tflops"), asking, examples)
    assert flops.worst_case(flops.examples()) == pytest.approx(ledgers[1].flops)


def test_candidates_do_not_depend_on_micro_batches() -> None:
    examples = pool(8)
    norms = []
    for tokens in (10_000, 100):
        current = stage(
            small_policy(budget="100steps"), Asking(num_candidates=2), examples, seed=2, micro_batch_tokens=tokens
        )
        norms.append([record["grad_norm"] for record in run(current, 3)])
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)
    other = stage(small_policy(budget="100steps"), Asking(num_candidates=2), examples, seed=1)
    assert run(other, 1)[0]["grad_norm"] != pytest.approx(norms[0][0], rel=1e-3)


def test_demonstration_weights_reach_their_tokens() -> None:
    row = rows_of(1)[0]
    weights = tuple(float(i) for i in range(len(row.demo_ids)))
    micro = collate([row, replace(row, demo_weights=weights)], torch.device("cpu"))
    assert micro.demo_weights[0][micro.demo[0]].tolist() == [1.0] * len(row.demo_ids)
    assert micro.demo_weights[1][micro.demo[1]].tolist() == list(weights)
    assert not micro.demo_weights[~micro.demo].any()


# --- a reference that follows the policy -------------------------------------------------------------------------


@dataclass(frozen=True)
class Following(Asking):
    """Logs the reference's mean log-probability, taken at temperature 2 where the maximal logit is positive."""

    reference_sync: int = 2
    reference_mix: float = 0.5
    uses_reference: bool = True

    def reference_temperatures(self, logits: Tensor) -> Tensor:
        return torch.where(logits.amax(-1) > 0, 2.0, 1.0)

    def loss(self, batch: Batch) -> Loss:
        value = common.demo_mean(batch, -batch.logprobs, "step")
        return Loss(value, {"reference": common.demo_mean(batch, batch.ref_logprobs, "step")})


def test_the_reference_is_mixed_with_the_policy_every_so_many_steps() -> None:
    current = stage(small_policy(budget="100steps"), Following(lr=0.01), pool(20))
    for step in range(5):
        assert current.reference is not None
        before = [p.clone() for p in current.reference.parameters()]
        policy = [p.detach().clone() for p in current.policy.model.parameters()]
        current.run_step()
        moved = step in (2, 4)
        expected = [0.5 * b + 0.5 * p for b, p in zip(before, policy)] if moved else before
        for found, want in zip(current.reference.parameters(), expected):
            torch.testing.assert_close(found, want)
        assert moved == any(not torch.equal(f, b) for f, b in zip(current.reference.parameters(), before))


def test_reference_scores_are_taken_at_the_asked_temperatures() -> None:
    current = stage(small_policy(budget="100steps"), Following(lr=0.0), pool(4))
    record = current.run_step()
    assert record is not None
    values = []
    for e in current.pool:
        ids = torch.tensor([(*e.prompt_ids, *e.demo_ids)])
        logits = current.policy.model(ids).logits[0, len(e.prompt_ids) - 1 : -1].double()
        logits = logits / torch.where(logits.amax(-1) > 0, 2.0, 1.0).unsqueeze(1)
        values.append(logits.log_softmax(-1)[range(len(e.demo_ids)), list(e.demo_ids)])
    assert record["reference"] == pytest.approx(float(torch.cat(values).mean().detach()), abs=1e-5)


# --- what counts as a demonstration ------------------------------------------------------------------------------


@pytest.mark.parametrize("in_row", [True, False])
def test_prefixes_count_whether_or_not_they_are_in_the_rows(in_row: bool) -> None:
    chosen = method("prefix_rft", prefix_in_row=in_row, max_tokens=24, num_updates=1)
    current = stage(small_policy(budget="100steps"), chosen, pool(8))
    run(current, 3)
    ledger = current.meter.ledger
    assert (ledger.demonstrations, ledger.distinct_demonstrations) == (6, 6)  # one hybrid for each of two prompts
    assert ledger.demonstration_tokens > 6


# --- the buffer ------------------------------------------------------------------------------------------------


def grouped_rows(*groups: int) -> list[Trajectory]:
    return [Trajectory((1,), (2,), group=group) for group in groups]


@pytest.mark.parametrize(
    ("groups", "num", "apart", "expected"),
    [
        ([0, 0, 1, 2, 3], 2, None, [[0, 0, 1], [2, 3]]),
        ([0, 1, 5, 6], 1, 5, [[0, 1], [5, 6]]),
        ([0, 1, 5, 6], 2, 5, [[0], [1], [5, 6]]),
        ([5, 6], 4, 5, [[5, 6]]),
        ([0], 4, None, [[0]]),
        ([], 4, 2, []),
    ],
)
def test_optimizer_batches(groups: list[int], num: int, apart: int | None, expected: list[list[int]]) -> None:
    found = optimizer_batches(grouped_rows(*groups), num, apart)
    assert [[row.group for row in part] for part in found] == expected


def buffered(budget: str = "100steps", **fields: Any) -> Any:
    return stage(small_policy(budget=budget), Asking(buffer_size=5, **fields), pool(20))


def test_a_full_buffer_joins_the_next_step_in_order_and_is_emptied() -> None:
    current = buffered()
    turn = in_turn("order", current.task.name, current.seed, 0, current.pool, 16)
    firsts = [e.id for step in range(4) for e in turn[4 * step :][:3]]
    sizes, updates, seen = [], [], []
    for _ in range(4):
        examples = current.examples()
        seen += [e.id for e in examples[4:]]
        before = current.meter.ledger.steps
        assert current.run_step() is not None
        updates.append(current.meter.ledger.steps - before)
        sizes.append(len(current.buffer))
    assert sizes == [3, 6, 4, 7]  # three more each step, five fewer in the third
    assert updates == [1, 1, 2, 1]  # the recalled ones make an update of their own
    assert seen == firsts[:5]


def test_the_worst_case_counts_recalled_examples_and_their_update() -> None:
    current = buffered()
    costs = []
    for _ in range(3):
        costs.append(current.worst_case(current.examples()))
        current.run_step()
    assert costs == [1, 1, 2]
    flops = buffered("1Tflops")
    for _ in range(3):
        before, cost = flops.meter.spent, flops.worst_case(flops.examples())
        flops.run_step()
        assert flops.meter.spent - before == pytest.approx(cost)


def test_sft_knows_nothing_of_the_buffer() -> None:
    current = stage(small_policy(budget="3steps"), sft.SFT(batch_size=4), pool(8))
    run(current)
    assert current.buffer == [] and current.recalled() == []
