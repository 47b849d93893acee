"""UDS: features against numpy, the choice by hand with its queue, and SFT where all are kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bench.types import Requests, Rows
from methods.sft import SFT
from methods.uds import SKETCHES, UDS, signed_buckets, sketch
from tests.methods.batches import Scripted, collect, example, fixture, scripted_logits, scripted_scores

METHOD = UDS()
EXAMPLES = [example(1 + i % 5, 3 + i % 4, name=str(i)) for i in range(10)]


def logits(tokens: int, vocabulary: int, seed: int = 0) -> torch.Tensor:
    return 3.0 * torch.randn(tokens, vocabulary, generator=torch.Generator().manual_seed(seed))


def test_the_nuclear_norm_is_the_sum_of_singular_values() -> None:
    for z in (logits(5, 40), logits(40, 7), torch.ones(3, 4)):
        roots = np.linalg.eigvalsh((z.double().T @ z.double()).numpy())
        assert float(METHOD.features(z)[0]) == pytest.approx(float(np.sqrt(roots.clip(0)).sum()), rel=1e-4)
    z = logits(5, 40)
    ours, plain = METHOD.features(z), UDS(unit="preserved").features(z)
    assert plain.tolist()[1:] == sketch(z, 8, 128).tolist() and ours[0] == plain[0]
    torch.testing.assert_close(ours[1:], plain[1:] * (512 * 40) ** 0.5 / 2)


def test_the_sketch_by_hand() -> None:
    """A product with two sparse matrices, one sign per row: element by element."""
    z, (tokens, vocabulary) = logits(6, 11), (3, 4)
    expected = np.zeros((tokens, vocabulary))
    rows, row_signs = signed_buckets(6, tokens, "tokens")
    columns, column_signs = signed_buckets(11, vocabulary, "vocabulary")
    for i in range(6):
        for j in range(11):
            expected[rows[i], columns[j]] += float(row_signs[i] * column_signs[j] * z[i, j])
    np.testing.assert_allclose(sketch(z, tokens, vocabulary).numpy(), expected.flatten(), rtol=1e-5, atol=1e-5)


def test_sketches_keep_distances_on_average() -> None:
    ratios = []
    for seed in range(60):
        a, b = logits(12, 500, 2 * seed), logits(12, 500, 2 * seed + 1)
        apart = (sketch(a, 8, 128) - sketch(b, 8, 128)).square().sum() / (a - b).square().sum()
        ratios.append(float(apart))
    assert np.mean(ratios) == pytest.approx(1.0, abs=4 * np.std(ratios) / np.sqrt(len(ratios)) + 1e-3)
    assert np.std(ratios) < 0.2
    longer = torch.cat([logits(12, 500), torch.zeros(5, 500)])
    assert torch.equal(sketch(longer, 8, 128), sketch(logits(12, 500), 8, 128)), "padding of zeros changes nothing"
    buckets, signs = signed_buckets(4000, 8, "tokens")
    assert len(set(buckets.tolist())) == 8 and abs(float(signs.mean())) < 0.1
    assert not torch.equal(buckets, signed_buckets(4000, 8, "vocabulary")[0])


@pytest.mark.parametrize(
    "fields", [{}, {"keep": 2, "candidates": 3}, {"alpha": 50.0}, {"alpha": 50.0, "queue_size": 2}]
)
def test_the_choice_by_hand(fields: dict[str, Any]) -> None:
    """Three steps with one memory; norms and distances in numpy, one by one."""
    method, ctx = UDS(**fields, sketch_tokens=2, sketch_vocab=3), Scripted()
    queue: list[np.ndarray] = []
    by_diversity = 0
    for step in range(3):
        examples = EXAMPLES[step:] + EXAMPLES[:step]
        rows = collect(SFT(), examples)
        features = [scripted_scores(row, method.features).features for row in rows]
        wanted = []
        for first in range(0, len(rows), method.candidates):
            part = range(first, min(first + method.candidates, len(rows)))
            norms = {i: float(features[i][0]) for i in part}  # type: ignore[index]
            points = {i: features[i][1:].numpy() for i in part}  # type: ignore[index]
            far = {i: float(np.mean([np.linalg.norm(points[i] - q) for q in queue])) if queue else 0.0 for i in part}
            best = sorted(part, key=lambda i: -(norms[i] + method.alpha * far[i]))[: method.keep]
            by_diversity += best != sorted(part, key=lambda i: -norms[i])[: method.keep]
            wanted += sorted(best)
            queue = [*queue, *(points[i] for i in sorted(best))][-method.queue_size :]
        assert method.collect(examples, ctx) == [rows[i] for i in wanted]
        np.testing.assert_allclose(ctx.memory[SKETCHES].numpy(), np.array(queue), rtol=1e-6)
    assert by_diversity > 0 or method.alpha < 1


def test_without_diversity_the_largest_norms_are_chosen_and_nothing_is_remembered() -> None:
    method, ctx = UDS(alpha=0.0, keep=2), Scripted()
    rows = collect(SFT(), EXAMPLES)
    norms = [np.linalg.svd(scripted_logits(row).numpy(), compute_uv=False).sum() for row in rows]
    wanted = [
        i for first in (0, 4, 8) for i in sorted(sorted(range(first, min(first + 4, 10)), key=lambda i: -norms[i])[:2])
    ]
    assert method.collect(EXAMPLES, ctx) == [rows[i] for i in wanted] and not ctx.memory


def test_where_all_are_kept_it_is_sft_and_costs_as_much() -> None:
    method, ctx = UDS(keep=4), Scripted()
    assert method.collect(EXAMPLES, ctx) == collect(SFT(), EXAMPLES) and not ctx.memory
    assert method.worst_case(EXAMPLES, 9) == SFT().worst_case(EXAMPLES, 9)
    made = fixture([(3, 0), (5, 0)])
    assert all(map(torch.equal, made.gradient(METHOD), made.gradient(SFT())))
    assert Requests.of(METHOD) == Requests()


def test_worst_case_covers_any_choice() -> None:
    sizes = SFT().worst_case(EXAMPLES, 9).train
    bound = UDS(keep=3).worst_case(EXAMPLES, 9)  # of 4, 4 and 2
    assert bound == Rows(train=bound.train, score=sizes) and len(bound.train) == 8
    assert len(UDS(keep=3).collect(EXAMPLES, Scripted())) == 8
    assert [t for _, t in bound.train] == sorted((t for _, t in sizes), reverse=True)[:8]


@pytest.mark.parametrize("wrong", [{"keep": 5}, {"unit": "mean"}, {"candidates": 0}, {"queue_size": 0}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(METHOD, **wrong)
