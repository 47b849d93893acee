"""Methods that ask for demonstrations of other examples than their prompts': the split, the order, the charges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest

from bench.engine.step import divide
from bench.plan import registry
from bench.study import probe as probe_module
from bench.types import Batch, Example, Loss, Rows, Trajectory, UserError
from methods import common
from tests.helpers.engine import pool, small_policy, stage


@dataclass(frozen=True)
class Both:
    """The first ``batch_size`` examples are prompts, the others demonstrations; trains on the latter alone."""

    num_demos: int = 2
    demo_share: float = 0.3
    lr: float = 1e-3
    warmup: float = 0.0
    decay: str = "constant"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    batch_size: int = 3
    num_updates: int = 1
    uses_reference: bool = False
    uses_entropies: bool = False

    def collect(self, examples: Sequence[Example], ctx: Any) -> list[Trajectory]:
        assert len(examples) == self.batch_size + self.num_demos
        return common.demonstrations(examples)[self.batch_size :]

    def loss(self, batch: Batch) -> Loss:
        return Loss(common.demo_mean(batch, -batch.logprobs, "step"))

    def worst_case(self, examples: Sequence[Example], max_new_tokens: int) -> Rows:
        return common.demonstration_rows(examples)


@pytest.mark.parametrize(("share", "expected"), [(0.3, 6), (0.01, 1), (0.999, 19), (0.5, 10)])
def test_the_split_is_disjoint_complete_and_by_id(share: float, expected: int) -> None:
    examples = pool(20)
    demos, prompts = divide(examples, share)
    assert len(demos) == expected and len(demos) + len(prompts) == 20
    assert not {e.id for e in demos} & {e.id for e in prompts}
    again, _ = divide(examples[::-1], share)
    assert {e.id for e in again} == {e.id for e in demos}
    assert {e.id for e in divide(examples, min(share + 0.2, 1.0))[0]} >= {e.id for e in demos}


def test_no_share_takes_nothing_and_a_single_example_cannot_be_split() -> None:
    examples = pool(3)
    assert divide(examples, 0.0) == ((), examples)
    with pytest.raises(UserError, match="1 training examples cannot be split"):
        divide(examples[:1], 0.5)


def test_each_set_has_its_own_epochs() -> None:
    examples = pool(20)
    demos, prompts = ({e.id for e in part} for part in divide(examples, 0.3))
    current = stage(small_policy(), Both(), examples)
    asked, shown = list[str](), list[str]()
    for current.step in range(28):
        ids = [e.id for e in current.examples()]
        asked, shown = asked + ids[:3], shown + ids[3:]
    assert Counter(asked) == dict.fromkeys(prompts, 6) and set(asked[:14]) == prompts  # 84 = 6 x 14
    assert Counter(shown[:54]) == dict.fromkeys(demos, 9) and set(shown[6:12]) == demos  # 56 = 9 x 6 + 2
    current.step = 4  # as after a resume
    assert [e.id for e in current.examples()] == asked[12:15] + shown[8:10]
    other = stage(small_policy(), Both(), examples, seed=1)
    assert {e.id for e in other.demos} == demos and [e.id for e in other.examples()] != asked[:3] + shown[:2]


def test_methods_without_the_field_keep_the_whole_pool() -> None:
    examples = pool(5)
    for chosen in (registry.build_method("sft", {"batch_size": 5}), Both(num_demos=0)):
        current = stage(small_policy(), chosen, examples)
        assert current.pool == examples and len(current.examples()) == chosen.batch_size


def test_demonstrations_are_charged_by_their_place_in_the_list() -> None:
    policy = small_policy(budget="1Gtokens")
    assert policy.meter is not None
    examples = pool(20)
    demos = divide(examples, 0.3)[0]
    current = stage(policy, Both(), examples)
    for _ in range(3):
        current.run_step()
    ledger = policy.meter.ledger
    assert policy.meter.seen == {e.id for e in demos}
    assert (ledger.demonstrations, ledger.distinct_demonstrations) == (6, 6)
    assert ledger.demonstration_tokens == sum(len(e.demo_ids) for e in demos)


def test_the_estimate_counts_the_demonstrations(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, chosen = small_policy(), Both()
    monkeypatch.setattr(registry, "build_method", lambda name, fields: replace(chosen, **fields))
    probe: Any = SimpleNamespace(architecture=policy.architecture, examples=pool(4))
    costs = []
    for num_demos in (0, 2, 5):
        settings = SimpleNamespace(name="both", fields={"num_demos": num_demos})
        job: Any = SimpleNamespace(plan=SimpleNamespace(stages=[settings], max_new_tokens=8))
        costs.append(probe_module.stage_costs(job, probe, 0, "tokens")[0])
    longest = max(len(e.prompt_ids) + len(e.demo_ids) for e in probe.examples)
    assert costs == [3 * longest, 5 * longest, 8 * longest]
