"""Golden properties of ReLIFT: who enters the buffer, who leaves it, the update with them, and a killed run."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.engine import checkpoint
from bench.engine.runner import execute
from bench.engine.step import in_turn
from bench.engine.trainer import Stage
from bench.types import Example, Requests, Rows, Trajectory, Verdict
from methods.common import demonstrations
from methods.grpo import GRPO
from methods.relift import VARIANTS, ReLIFT
from methods.sft import SFT
from tests.engine.test_crash import EVERY_STEP, kill_run
from tests.helpers.engine import TASK, method, pool, run, small_policy, stage
from tests.helpers.runs import differences, make_job, outcome, write_model
from tests.methods.batches import Scripted, example, fixture, relative_error

DEMOS = [(5, 0), (2, 0), (3, 0), (1, 0)]
OWN = [(0, 3), (0, 1), (0, 4), (0, 2)]
ADVANTAGES = [0.75, -0.25, 0.5, -1.0]
SPLITS = [[[0], [1], [2], [3]], [[3, 1], [2, 0]], [[1, 0, 3, 2]]]


def solved(example: Example, prefix: tuple[int, ...], index: int) -> float:
    """The last k rollouts of the prompt named k are correct, the others get the reward for form."""
    return 1.0 if index >= 4 - int(example.id) else 0.1


# --- what is collected ---------------------------------------------------------------------------------------


def test_failed_prompts_enter_the_buffer_and_recalled_ones_are_shown() -> None:
    prompts = [example(n, name=name) for n, name in ((3, "0"), (5, "1"), (4, "0"), (2, "4"))]
    recalled = [example(6, name="0"), example(1, name="0")]
    ctx = Scripted(reward=solved, buffer=[recalled[0]])
    rows = ReLIFT(batch_size=4, group_size=4).collect([*prompts, *recalled], ctx)
    assert ctx.buffer == [recalled[0], prompts[0], prompts[2]], "behind those that wait, in order"
    assert ctx.calls == [(prompts, [()] * 4, 4)], "recalled prompts are not sampled again"
    assert [row.group for row in rows] == [i for i in range(4) for _ in range(4)] + [4, 5]
    assert rows[16:] == demonstrations(recalled, 4)
    assert not any(row.demo_ids for row in rows[:16]), "failed prompts keep their rollouts"
    assert [row.advantage for row in rows[4:8]] == pytest.approx([-0.225] * 3 + [0.675])


def test_the_reward_for_form_does_not_count_as_success() -> None:
    ctx = Scripted(reward=lambda example, prefix, index: 0.1 * (index % 2))
    ReLIFT(batch_size=1).collect([example()], ctx)
    assert ctx.buffer == [example()]
    ReLIFT(**VARIANTS["no-buffer"], batch_size=1).collect([example()], ctx)
    assert ctx.buffer == [example()]


def test_worst_case_samples_prompts_alone() -> None:
    one, two = example(3), example(12, prompt_tokens=6)  # 10 and 33 demonstration tokens
    expected = Rows([4], [(4, 9)] * 2, [(13, 9)] * 2 + [(39, 33)])
    assert ReLIFT(batch_size=1, group_size=2).worst_case([one, two], 9) == expected


# --- the two kinds of updates --------------------------------------------------------------------------------


def test_update_with_demonstrations_is_sft_minus_the_entropy_bonus() -> None:
    made = fixture(DEMOS)
    p = made.logits.detach().softmax(-1)
    entropy = -(p * p.log()).sum(-1, keepdim=True)
    bonus = p * (p.log() + entropy) * made.demo.unsqueeze(-1) / 11  # minus the gradient of H
    _, sft = made.gradient(SFT())
    _, gradient = made.gradient(ReLIFT())
    assert relative_error(gradient - sft, 0.001 * bonus) < 1e-9
    assert relative_error(made.gradient(ReLIFT(demo_entropy_coef=0.0))[1], sft) < 1e-12
    assert relative_error(gradient, sft) > 1e-5


def test_update_with_rollouts_is_closed_form() -> None:
    made = fixture(OWN, ADVANTAGES, seed=1, old_shift=0.8)
    assert made.old is not None
    ratio = (made.logprobs.detach() - made.old).exp()
    past = torch.where(made.advantages > 0, ratio > 1.2, ratio < 0.8) & made.policy
    assert (past & (made.advantages > 0)).any() and (past & (made.advantages < 0)).any(), "nothing would be clipped"
    expected = -(made.advantages * ratio * made.policy).unsqueeze(-1) * made.scores / (4 * 8)
    bare = ReLIFT(**VARIANTS["no-entropy"], max_tokens=8)
    assert relative_error(made.gradient(bare)[1], expected) < 1e-9
    assert Requests.of(ReLIFT()) == Requests(uses_entropies=True, buffer_size=128)
    assert Requests.of(bare) == Requests(buffer_size=128)


@pytest.mark.parametrize("lengths", [DEMOS, OWN])
@pytest.mark.parametrize("splits", SPLITS)
def test_any_micro_batches_give_the_same_gradient(splits: Any, lengths: Any) -> None:
    made = fixture(lengths, ADVANTAGES, old_shift=0.3)
    chosen = ReLIFT(max_tokens=8, entropy_coef=0.1, demo_entropy_coef=0.1)
    loss, gradient = made.gradient(chosen)
    split_loss, split_gradient = made.gradient(chosen, splits)
    assert split_loss.item() == pytest.approx(loss.item(), rel=1e-12)
    assert relative_error(split_gradient, gradient) < 1e-12


@pytest.mark.parametrize("wrong", [{"buffer_size": -1}, {"group_size": 0}, {"max_tokens": 0}])
def test_impossible_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ReLIFT(**wrong)


# --- with the engine -----------------------------------------------------------------------------------------


class Judged:
    """Countdown with another judge: rewards by lot of the text, and the verdict it is given."""

    def __init__(self, correct: bool) -> None:
        self.correct = correct

    def __getattr__(self, name: str) -> Any:
        return getattr(TASK, name)

    def verify(self, problem: Any, text: str) -> Verdict:
        return Verdict(self.correct, random.Random(text).random(), "by lot")


def judged(chosen: Any, correct: bool, budget: str = "100steps") -> Stage:
    current = stage(small_policy(budget=budget), chosen, pool(20), max_new_tokens=8)
    current.task = Judged(correct)
    return current


def test_the_buffer_is_emptied_in_order_by_its_size() -> None:
    chosen = method("relift", batch_size=4, num_updates=2, buffer_size=6, max_tokens=8)
    current = judged(chosen, correct=False)
    optimize, last = current._optimize, list[Any]()

    def seen(rows: list[Trajectory], step: Any) -> dict[str, float]:
        if rows[0].demo_ids:
            last.append([row.demo_ids for row in rows])
        return optimize(rows, step)

    current._optimize = seen  # type: ignore[assignment, method-assign]
    order, sizes, updates = list[Example](), list[int](), list[int]()
    for _ in range(6):
        order += in_turn("order", current.task.name, current.seed, current.step, current.pool, 4)
        before, cost = current.meter.ledger.steps, current.worst_case(current.examples())
        assert current.run_step() is not None
        updates.append(current.meter.ledger.steps - before)
        assert updates[-1] == cost
        sizes.append(len(current.buffer))
    assert sizes == [4, 8, 6, 4, 8, 6], "four more each step, six fewer in a step that finds six or more"
    assert updates == [2, 2, 3, 3, 2, 3], "a recall is an update of its own"
    assert [ids for rows in last for ids in rows] == [e.demo_ids for e in order[:18]], "first in, first out"
    assert current.meter.ledger.demonstrations == 18


def test_without_failed_prompts_a_run_is_that_of_grpo_bit_for_bit() -> None:
    fields = {"batch_size": 4, "num_updates": 2, "max_tokens": 8}
    plain = {"clip_low": float("inf"), "clip_high": float("inf"), "kl_coef": 0.0, "scale": "none"}
    ours = judged(method("relift", buffer_size=4, **fields), correct=True)
    theirs = judged(method("grpo", aggregation="dr_grpo", **plain, **fields), correct=True)
    theirs.name = ours.name  # part of the seeds
    assert isinstance(theirs.method, GRPO)
    shared = {"loss", "grad_norm", "policy_loss", "entropy", "mean_targets", "reward"}
    for mine, other in zip(run(ours, 3), run(theirs, 3), strict=True):
        assert {key: mine[key] for key in shared} == {key: other[key] for key in shared}
        assert mine["grad_norm"] > 0
    assert ours.buffer == []
    for mine, other in zip(ours.policy.model.parameters(), theirs.policy.model.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.slow
def test_a_run_killed_with_a_filled_buffer_ends_as_if_uninterrupted(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    whole, killed = (make_job(model, tmp_path / name, "relift", "16steps") for name in ("whole", "killed"))
    execute(whole)
    code = kill_run(killed, "training", 9, EVERY_STEP)
    assert code == -signal.SIGKILL, (killed.path / "log.txt").read_text()[-500:]
    saved = checkpoint.last_good(killed.path)
    assert saved is not None
    state = saved.state
    assert state["stage"]["buffer"] and state["ledger"]["steps"] > 0
    execute(killed)
    assert differences(outcome(killed.path), outcome(whole.path)) == []
    assert outcome(whole.path)["ledger"]["demonstrations"] >= 10, "no recall after the kill"
