"""Golden properties of UFT: hint schedules, what a hint is, which tokens get which loss."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from statistics import fmean

import pytest
import torch
from scipy.stats import binom, chisquare

from bench.types import Rows
from methods.uft import UFT, VARIANTS, borders, hint_probability, staged_pieces
from tests.methods.batches import Scripted, collect, example, fixture, relative_error

BARE = UFT(kl_coef=0.0, entropy_coef=0.0)
MIXED = [(3, 2), (0, 4), (5, 1), (2, 3)]
P_TABLE = {1: 0.94998, 50: 0.88971, 75: 0.8182, 100: 0.725, 150: 0.5, 200: 0.275, 225: 0.1818, 250: 0.11029, 300: 0.05}


def p(step: int) -> float:
    """The probability at a step of the authors' 500."""
    return hint_probability(step / 500, 0.05, 0.95, 0.6)


def variant(name: str) -> UFT:
    return UFT(**VARIANTS[name])


# --- schedules ---


@pytest.mark.parametrize(("step", "figure"), P_TABLE.items())
def test_probability_table(step: int, figure: float) -> None:  # property 3.10.1
    assert p(step) == pytest.approx(figure, abs=1e-5)


def test_probability_means_and_end() -> None:  # property 3.10.1
    assert fmean(p(t) for t in range(1, 301)) == pytest.approx(0.4985, abs=5e-5)
    assert fmean(p(t) for t in range(1, 501)) == pytest.approx(0.2991, abs=5e-5)
    assert p(0) == 0.95 and p(301) == 0.0
    assert hint_probability(0.0, 0.05, 0.95, 0.0) == 0.0
    assert hint_probability(1.0, 0.05, 0.95, 1.0) == pytest.approx(0.05)


@pytest.mark.parametrize("step", [1, 150, 250])
def test_pieces_are_binomial(step: int) -> None:  # property 3.10.1
    num, draws, rng = 5, 100_000, random.Random(step)
    counts = Counter(UFT().pieces(num, step / 500, rng) for _ in range(draws))
    expected = [binom.pmf(k, num, p(step)) * draws for k in range(num + 1)]
    common = [k for k in range(num + 1) if expected[k] >= 5]  # the test's own condition; the rest forms one cell
    observed = [counts[k] for k in common]
    if len(common) <= num:
        observed.append(draws - sum(observed))
        expected = [expected[k] for k in common] + [draws - sum(expected[k] for k in common)]
    assert chisquare(observed, expected).pvalue > 1e-3
    mean = sum(k * n for k, n in counts.items()) / draws
    variance = sum((k - mean) ** 2 * n for k, n in counts.items()) / draws
    assert mean == pytest.approx(num * p(step), abs=0.015)
    assert variance == pytest.approx(num * p(step) * (1 - p(step)), abs=0.025)


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_uniform_pieces_at_all_times(progress: float) -> None:
    rng = random.Random(0)
    counts = Counter(variant("r3").pieces(5, progress, rng) for _ in range(100_000))
    assert set(counts) == set(range(6))
    assert chisquare(list(counts.values())).pvalue > 1e-3


@pytest.mark.parametrize(
    ("num", "changes"), [(3, [75, 150, 225]), (4, [60, 120, 180, 240]), (5, [50, 100, 150, 200, 250])]
)
def test_staged_hints_change_at_the_authors_steps(num: int, changes: list[int]) -> None:
    pieces = [staged_pieces(num, t / 500, 0.6) for t in range(501)]
    assert pieces[0] == num
    assert [t for t in range(1, 501) if pieces[t] != pieces[t - 1]] == changes
    assert all(pieces[t] == pieces[t - 1] - 1 for t in changes)
    assert [variant("stage").pieces(num, t / 500, random.Random(0)) for t in range(501)] == pieces


def test_staged_borders_survive_rounding() -> None:
    pieces = [staged_pieces(4, t / 500, 0.2) for t in range(501)]
    assert [t for t in range(1, 501) if pieces[t] != pieces[t - 1]] == [20, 40, 60, 80]


def test_mean_revealed_fractions() -> None:  # property 3.10.7
    staged = fmean(staged_pieces(3, t / 500, 0.6) / 3 for t in range(1, 501))
    assert staged == pytest.approx(0.298, abs=5e-4)
    rng, uft, r3 = random.Random(0), UFT(), variant("r3")
    steps = [t for t in range(1, 501) for _ in range(40)]
    assert fmean(uft.pieces(5, t / 500, rng) / 5 for t in steps) == pytest.approx(0.299, abs=0.005)
    assert fmean(r3.pieces(5, t / 500, rng) / 5 for t in steps) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("num_steps", "expected"),
    [
        (0, [0]),
        (1, [0, 1]),
        (3, [0, 1, 2, 3]),
        (5, [0, 1, 2, 3, 4, 5]),
        (12, [0, 2, 5, 7, 10, 12]),
        (10, [0, 2, 4, 6, 8, 10]),
    ],
)
def test_borders(num_steps: int, expected: list[int]) -> None:
    assert borders(num_steps, 5) == expected


def test_mean_border_is_p_times_the_steps_but_for_rounding() -> None:
    for num_steps, exact in ((1, True), (3, True), (5, True), (10, True), (12, False)):
        cuts = borders(num_steps, 5)
        for p_now in (0.05, 0.3, 0.95):
            mean = sum(cut * binom.pmf(k, len(cuts) - 1, p_now) for k, cut in enumerate(cuts))
            assert (abs(mean - p_now * num_steps) < 1e-12) == exact


def test_variants_span_the_grids_of_the_ablations() -> None:
    methods = [UFT(), *map(variant, VARIANTS)]
    assert {method.demo_coef for method in methods} >= {0.0, 1e-4, 1e-3, 1e-2}
    assert {method.hint_until for method in methods} == {0.2, 0.6, 1.0}
    assert {(method.schedule, method.demo_coef > 0) for method in methods} == {
        *((schedule, on) for schedule in ("cosine", "uniform", "staged") for on in (True, False)),
        ("none", False),
    }


# --- hints ---


def test_prefixes_are_whole_steps_without_the_ending() -> None:
    for num_steps in (1, 3, 5, 12):
        one = example(num_steps)
        allowed = {one.demo_ids[: one.step_ends[b - 1]] if b else () for b in borders(num_steps, 5)}
        rng = random.Random(0)
        drawn = {variant("r3").prefix(one, 0.0, rng) for _ in range(300)}
        assert drawn == allowed
        assert max(map(len, drawn)) == one.step_ends[-1] == len(one.demo_ids) - 3


def test_a_demonstration_without_steps_gives_no_hint() -> None:
    bare = replace(example(), demo_ids=(1, 0), step_ends=())
    for schedule in ("cosine", "uniform", "staged", "none"):
        assert UFT(schedule=schedule).prefix(bare, 0.0, random.Random(0)) == ()
        assert UFT(schedule=schedule).worst_case([bare], 10).prefill == [4]


def test_a_group_shares_its_hint_and_prompt() -> None:  # property 3.10.5
    ctx = Scripted(progress=0.3, rng=random.Random(3))
    examples = [example(5, name=str(i)) for i in range(12)]
    rows = UFT(group_size=4).collect(examples, ctx)
    [(asked, prefixes, group_size)] = ctx.calls
    assert asked == examples and group_size == 4 and len(prefixes) == 12
    assert len(set(prefixes)) > 3  # drawn for each prompt apart
    for i in range(12):
        group = [row for row in rows if row.group == i]
        assert {(row.prompt_ids, row.demo_ids) for row in group} == {(examples[i].prompt_ids, prefixes[i])}
        assert sum(row.advantage for row in group) == pytest.approx(0, abs=1e-9)


def test_full_probability_reveals_all_steps_and_leaves_the_ending_to_the_model() -> None:
    one = example(5)
    [row, *_] = collect(UFT(p_low=1.0, p_high=1.0), [one])
    assert row.demo_ids == one.demo_ids[: one.step_ends[-1]] and row.completion_ids


def test_worst_case_is_the_full_hint() -> None:
    one, two = example(3), example(12, prompt_tokens=6)
    rows = UFT(group_size=2).worst_case([one, two], 10)
    assert rows == Rows([11, 36], [(11, 10)] * 2 + [(36, 10)] * 2, [(21, 17)] * 2 + [(46, 40)] * 2)
    assert variant("rft").worst_case([one], 10).prefill == [4]
    assert UFT(hint_until=0.0).worst_case([one], 10).prefill == [4]
    for name in ("r3", "stage"):
        assert variant(name).worst_case([one], 10).prefill == [11]


# --- loss ---


def test_without_advantage_only_hint_tokens_move() -> None:  # property 3.10.3
    made = fixture(MIXED)
    _, gradient = made.gradient(BARE)
    expected = 0.001 * -made.scores * made.demo.unsqueeze(-1) / 10
    assert relative_error(gradient, expected) < 1e-9
    assert not gradient[~made.demo].any()


def test_policy_tokens_get_no_likelihood_and_hints_no_policy_gradient() -> None:
    made = fixture(MIXED, [1.0, -0.5, 0.5, -1.0], old_shift=0.3, ref_shift=0.5)
    _, gradient = made.gradient(UFT())
    _, without = made.gradient(UFT(demo_coef=0.0))
    assert torch.equal(gradient[made.policy], without[made.policy])
    assert not without[made.demo].any()
    assert relative_error(gradient[made.demo], (0.001 * -made.scores / 10)[made.demo]) < 1e-9


def test_three_token_means_make_up_the_loss() -> None:
    made = fixture(MIXED, [1.0, -0.5, 0.5, -1.0], old_shift=0.3, ref_shift=0.5)
    loss = UFT(kl_coef=0.02, entropy_coef=0.03, demo_coef=0.04).loss(made.batch())
    metrics = {name: value.item() for name, value in loss.metrics.items()}
    expected = metrics["policy_loss"] + 0.02 * metrics["kl"] - 0.03 * metrics["entropy"] + 0.04 * metrics["demo_nll"]
    assert loss.value.item() == pytest.approx(expected, rel=1e-12)


def test_replicating_a_group_doubles_only_the_sum() -> None:  # property 3.10.5
    made = fixture([(3, 2), (3, 4)])
    mean, total = replace(BARE, group_size=2), replace(BARE, group_size=2, demo_reduce="sum")
    assert made.repeated(2).gradient(replace(mean, group_size=4))[0].item() == pytest.approx(
        made.gradient(mean)[0].item(), rel=1e-12
    )
    assert made.repeated(2).gradient(replace(total, group_size=4))[0].item() == pytest.approx(
        2 * made.gradient(total)[0].item(), rel=1e-12
    )


def test_sum_is_per_prompt_and_weighted_as_on_paper() -> None:  # property 3.10.4, sum
    made = fixture([(3, 2)])
    nll = -made.logprobs[made.demo].sum().item()
    single = replace(BARE, demo_reduce="sum", group_size=1)
    assert made.gradient(single)[0].item() == pytest.approx(0.001 * nll, rel=1e-12)
    assert made.repeated(5).gradient(single)[0].item() == pytest.approx(0.001 * nll, rel=1e-12)  # five prompts
    paper = replace(variant("paper-sum"), kl_coef=0.0, entropy_coef=0.0)
    assert made.repeated(4).gradient(paper)[0].item() == pytest.approx(0.001 * nll, rel=1e-12)  # one prompt, n = 4


def test_no_hint_tokens_cost_exactly_nothing() -> None:  # property 3.10.2, the likelihood alone
    made = fixture([(0, 2), (0, 4)])
    for method in (BARE, replace(BARE, demo_reduce="sum"), replace(BARE, divisor="micro-batch")):
        loss, gradient = made.gradient(replace(method, demo_coef=1e6))
        assert loss.item() == 0.0 and not gradient.any()


@pytest.mark.parametrize(
    "wrong",
    [{"schedule": "linear"}, {"demo_reduce": "max"}, {"divisor": "all"}, {"num_chunks": 0}, {"hint_until": 2.0}],
)
def test_impossible_fields_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        UFT(**wrong)  # type: ignore[arg-type]
