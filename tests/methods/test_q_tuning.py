"""Q-Tuning: quadrants against a search for the quantile, pruned tokens by hand, and SFT where nothing is pruned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bench.types import Requests, Rows, Scores
from methods.q_tuning import QTuning, levels, ranks, token_scores
from methods.sft import SFT
from tests.methods.batches import Scripted, collect, example, fixture, relative_error, scripted_scores

METHOD = QTuning()
EXAMPLES = [example(1 + i % 7, 3 + i % 4, name=str(i)) for i in range(24)]


def random_scores(count: int, seed: int = 0) -> list[Scores]:
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(3, 9, (count,), generator=generator).tolist()
    return [Scores(-3 * torch.rand(n, generator=generator), torch.rand(n, generator=generator)) for n in sizes]


@pytest.mark.parametrize("seed", range(4))
def test_quadrants_are_those_of_a_search_for_the_quantile(seed: int) -> None:
    """For every q up to 1/2: thresholds from numpy's quantiles of perplexity and entropy, and two comparisons each."""
    scores = random_scores(21, seed)
    misconception, calibration = (level.numpy() for level in levels(scores))
    ppl = np.array([float(np.exp(-s.logprobs.double().mean())) for s in scores])
    entropy = np.array([float(s.entropies.double().mean()) for s in scores])
    kept = []
    for q in np.arange(0.0, 0.5001, 1 / 20):
        low, high = (np.quantile(ppl, x, method="nearest") for x in (q, 1 - q))
        calm, doubtful = (np.quantile(entropy, x, method="nearest") for x in (q, 1 - q))
        wrong, unsure = (ppl >= high) & (entropy <= calm), (ppl <= low) & (entropy >= doubtful)
        assert (wrong == (misconception <= q + 1e-9)).all() and (unsure == (calibration <= q + 1e-9)).all()
        kept.append(int((wrong | unsure).sum()))
    assert kept == sorted(kept) and kept[-1] > 5


def test_ranks_by_hand() -> None:
    assert ranks(torch.tensor([3.0, 1.0, 2.0])).tolist() == [1.0, 0.0, 0.5]
    assert ranks(torch.tensor([1.0, 1.0, 5.0, 7.0, 5.0])).tolist() == pytest.approx([0.125, 0.125, 0.625, 1.0, 0.625])
    assert ranks(torch.tensor([4.0])).tolist() == [0.5]


def test_smoothed_perplexities_by_hand() -> None:
    logprobs = torch.tensor([2.0, 10.0, 4.0, 1.0]).log().neg()
    assert token_scores(logprobs, 0.0).tolist() == pytest.approx([2.0, 10.0, 4.0, 1.0], rel=1e-6)
    # (own + before + after) / 2; the first has itself before it, the last itself after it
    assert token_scores(logprobs, 0.5).tolist() == pytest.approx([7.0, 8.0, 7.5, 3.0], rel=1e-6)
    kept = QTuning(token_share=0.5).mask(logprobs)
    assert kept.tolist() == [1.0, 0.0, 0.0, 1.0], "the token before the spike is not lost, that on it is"
    assert QTuning(token_share=0.5, neighbour_share=0.0).mask(logprobs).tolist() == [1.0, 0.0, 0.0, 1.0]
    assert QTuning(token_share=0.3).mask(logprobs).sum() == 2  # rounded up
    assert QTuning(token_share=0.1).mask(torch.zeros(5)).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


def test_rows_are_the_demonstrations_of_the_two_quadrants() -> None:
    method, ctx = QTuning(sample_share=0.5, token_share=0.5), Scripted()
    rows = method.collect(EXAMPLES, ctx)
    every = collect(SFT(), EXAMPLES)
    misconception, calibration = levels([scripted_scores(row) for row in every])
    entry = torch.minimum(misconception, calibration)
    assert len(rows) == 12 and [row.group for row in rows] == sorted(row.group for row in rows)
    taken = {row.group for row in rows}
    assert max(entry[i] for i in taken) <= min(entry[i] for i in range(24) if i not in taken)
    pruned = {row.group for row in rows if min(row.demo_weights) == 0}
    assert pruned == {i for i in taken if misconception[i] < calibration[i]} and 0 < len(pruned) < 12
    weights = [w for row in rows for w in row.demo_weights]
    assert len(weights) == sum(len(row.demo_ids) for row in rows)
    assert sum(weights) == pytest.approx(len(weights), rel=1e-12), "the loss is a mean over kept tokens"
    assert [replace(row, demo_weights=()) for row in rows] == [every[row.group] for row in rows]


def test_loss_is_the_mean_over_kept_tokens() -> None:
    made = fixture([(3, 0), (5, 0)])
    mask = torch.tensor([[1.0, 0.0, 1.0, 0, 0, 0], [1.0, 1.0, 0.0, 1.0, 1.0, 0]], dtype=torch.float64)
    made.weights = mask * 8 / 6
    loss, gradient = made.gradient(METHOD)
    logp = made.logprobs.detach().numpy()
    assert loss.item() == pytest.approx(-float((logp * mask.numpy()).sum()) / 6, rel=1e-12)
    assert relative_error(gradient, -mask.unsqueeze(-1) * made.scores / 6) < 1e-12
    assert relative_error(made.gradient(METHOD, [[1], [0]])[1], gradient) < 1e-12


def test_where_nothing_is_pruned_it_is_sft_and_costs_as_much() -> None:
    method, ctx = QTuning(sample_share=1.0, token_share=1.0), Scripted()
    assert method.collect(EXAMPLES, ctx) == collect(SFT(), EXAMPLES)
    assert method.worst_case(EXAMPLES, 9) == SFT().worst_case(EXAMPLES, 9)
    made = fixture([(3, 0), (5, 0)])
    assert all(map(torch.equal, made.gradient(method), made.gradient(SFT())))
    assert Requests.of(METHOD) == Requests()


def test_one_demonstration_is_kept_at_least_and_the_worst_case_covers_any_choice() -> None:
    assert len(METHOD.collect(EXAMPLES[:1], Scripted())) == 1 == METHOD.count(3) and METHOD.count(24) == 3
    bound = METHOD.worst_case(EXAMPLES, 9)
    sizes = SFT().worst_case(EXAMPLES, 9).train
    assert bound == Rows(train=bound.train, score=sizes) and len(bound.train) == 3
    assert [n for n, _ in bound.train] == sorted((n for n, _ in sizes), reverse=True)[:3]


@pytest.mark.parametrize("wrong", [{"sample_share": 0.0}, {"token_share": 1.5}, {"num_updates": 2}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(METHOD, **wrong)
