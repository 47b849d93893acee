"""The baselines of UFT that have a name of their own: the same method as UFT with those fields, bit for bit."""

from __future__ import annotations

import random
from collections import Counter
from types import ModuleType

import pytest
import torch
from scipy.stats import chisquare

from bench.models import TINY, model_settings
from bench.plan.spec import parse_method, resolve
from bench.report.catalogue import method_sheet
from bench.report.method_pages import method_page
from bench.types import UserError
from methods import r3, rft_cosine, stage, uft
from tests.methods.batches import Scripted, collect, example, fixture

PAIRS = [(r3, "r3"), (rft_cosine, "rft-cosine"), (stage, "stage")]
MIXED = [(3, 2), (0, 4), (5, 1), (2, 3)]
SPLITS = [[[0, 1, 2, 3]], [[0], [1, 2], [3]]]


@pytest.mark.parametrize(("module", "variant"), PAIRS)
def test_trajectories_and_gradients_are_those_of_the_variant(module: ModuleType, variant: str) -> None:
    ours, theirs = module.METHOD(), uft.UFT(**uft.VARIANTS[variant])
    examples = [example(n, name=str(n)) for n in (1, 3, 5, 12)]
    for progress in (0.0, 0.14, 0.3, 0.6, 0.61, 1.0):
        for seed in range(5):
            assert collect(ours, examples, progress, seed) == collect(theirs, examples, progress, seed)
    made = fixture(MIXED, [1.5, -1.0, 2.0, -0.5], old_shift=0.5, ref_shift=0.5)
    for splits in SPLITS:
        assert all(map(torch.equal, made.gradient(ours, splits), made.gradient(theirs, splits)))
    assert ours.worst_case(examples, 10) == theirs.worst_case(examples, 10)


@pytest.mark.parametrize(("module", "variant"), PAIRS)
def test_they_differ_from_uft_and_from_each_other(module: ModuleType, variant: str) -> None:
    made = fixture(MIXED, [1.5, -1.0, 2.0, -0.5])
    examples = [example(5, name=str(n)) for n in range(8)]
    gradients = [made.gradient(m.METHOD())[1] for m in (module, uft)]
    rows = [collect(m.METHOD(), examples, 0.3) for m in (module, uft)]
    assert torch.equal(*gradients) == (module is stage), "only the staged baseline keeps the likelihood"
    assert (rows[0] == rows[1]) == (module is rft_cosine), "only RFT(cosine) keeps the schedule"


@pytest.mark.parametrize(("module", "variant"), PAIRS)
def test_they_run_with_the_hyper_parameters_of_uft(module: ModuleType, variant: str) -> None:
    presets = model_settings(str(TINY))["methods"]
    name = module.__name__.partition(".")[2]
    (ours,), (theirs,) = (parse_method(text, presets, {})[1] for text in (name, f"uft:{variant}"))
    assert (ours.name, theirs.name) == (name, "uft") and ours.fields == theirs.fields
    assert presets[name]["lr"] == ours.fields["lr"] != uft.UFT().lr


@pytest.mark.parametrize("progress", [0.0, 0.3, 0.61, 1.0])
@pytest.mark.parametrize(("num_steps", "lengths"), [(3, [0, 2, 5, 7]), (12, [0, 5, 12, 17, 25, 30])])
def test_r3_draws_every_border_equally_often_throughout(num_steps: int, lengths: list[int], progress: float) -> None:
    method, rng, task = r3.METHOD(), random.Random(7), example(num_steps)
    counts = Counter(len(method.prefix(task, progress, rng)) for _ in range(20_000))
    assert sorted(counts) == lengths
    assert chisquare(list(counts.values())).pvalue > 1e-3


@pytest.mark.parametrize(
    ("num", "changes"), [(3, [75, 150, 225]), (4, [60, 120, 180, 240]), (5, [50, 100, 150, 200, 250])]
)
def test_stage_removes_a_piece_at_the_authors_steps(num: int, changes: list[int]) -> None:
    method, task = stage.METHOD(), example(num)
    assert method.hint_until == 0.6
    hints = [len(collect(method, [task], t / 500, seed=t)[0].demo_ids) for t in range(501)]
    assert [t for t in range(1, 501) if hints[t] != hints[t - 1]] == changes
    assert [hints[t] for t in (0, *changes)] == [*reversed(task.step_ends), 0]


def test_the_hints_of_r3_get_no_likelihood_and_those_of_stage_do() -> None:
    made = fixture(MIXED)
    for module, moves in ((r3, False), (rft_cosine, False), (stage, True)):
        _, gradient = made.gradient(module.METHOD(kl_coef=0.0, entropy_coef=0.0))
        assert bool(gradient[made.demo].any()) == moves and not gradient[~made.demo].any()


def test_a_group_of_r3_shares_its_hint() -> None:
    ctx = Scripted(rng=random.Random(3))
    rows = r3.METHOD(group_size=3).collect([example(5, name=str(n)) for n in range(6)], ctx)
    by_group = [{row.demo_ids for row in rows if row.group == group} for group in range(6)]
    assert all(len(hints) == 1 for hints in by_group) and len(set.union(*by_group)) > 1


@pytest.mark.parametrize("name", ["r3", "rft_cosine", "stage"])
def test_fields_that_make_the_method_cannot_be_set(name: str) -> None:
    with pytest.raises(UserError, match=f"{name}.schedule is fixed, it is part of what {name} is"):
        resolve(name, None, {}, {"schedule": "none"})
    sheet = method_sheet(name)
    assert not {f["name"] for f in sheet["fields"]} & set(sheet["fixed"]) and "schedule" in sheet["fixed"]
    assert f"Fixed: `schedule` {sheet['fixed']['schedule']}" in method_page(sheet)
