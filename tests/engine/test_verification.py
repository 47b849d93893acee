"""Verdicts in threads: they come in order, beside the sampling, and a fault of a verifier is not lost."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from bench.engine import evaluate
from bench.engine.step_context import StepContext
from bench.engine.verification import Verification, num_threads
from bench.types import Verdict
from tests.helpers.engine import TASK, pool, small_policy


class Judge:
    """Countdown's verdicts; later rows are judged faster, and some problems raise."""

    name = TASK.name

    def __init__(self, broken: tuple[str, ...] = (), delay: float = 0.0) -> None:
        self.broken, self.delay = broken, delay
        self.judged = threading.Event()

    def chance(self, problem: Mapping[str, Any]) -> float:
        return TASK.chance(problem)

    def verify(self, problem: Mapping[str, Any], text: str) -> Verdict:
        key = TASK.key(problem)
        self.judged.set()
        time.sleep(self.delay)
        if key in self.broken:
            raise ArithmeticError(key)
        return TASK.verify(problem, text)


def context(policy: Any, judge: Any, rows: int) -> StepContext:
    return StepContext(policy, judge, 0.0, random.Random(0), 0, 8, 1.0, rows)


def test_verdicts_come_in_the_order_of_rows() -> None:
    class Slow:
        def verify(self, problem: Mapping[str, Any], text: str) -> Verdict:
            time.sleep(problem["wait"])
            return Verdict(False, float(text), "")

    with Verification(Slow(), 4) as verification:
        for row in (3, 0, 2, 1):
            verification.ask(row, {"wait": 0.02 * (4 - row)}, str(row))
        assert [v.reward for v in verification.wait()] == [0.0, 1.0, 2.0, 3.0]


def test_the_first_row_that_fails_is_the_one_that_is_raised() -> None:
    class Broken:
        def verify(self, problem: Mapping[str, Any], text: str) -> Verdict:
            raise ArithmeticError(text)

    with pytest.raises(ArithmeticError, match=r"^0$"), Verification(Broken(), 2) as verification:
        for row in (2, 1, 0):
            verification.ask(row, {}, str(row))
        verification.wait()


@pytest.mark.parametrize("rows", [1, 4, 64])
def test_a_step_has_the_verdicts_of_its_texts(rows: int) -> None:
    policy, examples = small_policy(budget="1Gtokens"), pool(3)
    groups = context(policy, TASK, rows).sample(examples, [(), (5, 6), ()], 4)
    assert [len(group) for group in groups] == [4, 4, 4]
    for example, prefix, group in zip(examples, [(), (5, 6), ()], groups):
        for completion in group:
            assert completion.text == policy.decode([(*prefix, *completion.token_ids)])[0]
            assert completion.verdict == TASK.verify(example.problem, completion.text)
    assert policy.meter is not None and policy.meter.ledger.verifier_calls == 12


def test_an_evaluation_has_the_verdicts_of_its_texts() -> None:
    policy, examples = small_policy(), pool(5)
    found = []
    for rows in (1, 3, 64):
        settings = evaluate.Settings(num_samples=2, max_new_tokens=8, temperature=1.0, sample_rows=rows, seed=0)
        found.append(evaluate.evaluate_split(policy, TASK, examples, "val", settings)[1])
    assert found[0] == found[1] == found[2]
    for example, item in zip(examples, found[0]):
        assert item["id"] == example.id
        for record in (item["greedy"], *item["samples"]):
            verdict = TASK.verify(example.problem, record["text"])
            assert (record["correct"], record["reward"], record["reason"]) == (
                *(verdict.correct, verdict.reward),
                verdict.reason,
            )


def test_a_fault_of_a_verifier_surfaces() -> None:
    examples = pool(3)
    keys = [TASK.key(e.problem) for e in examples]
    judge = Judge(broken=(keys[1], keys[2]))
    policy = small_policy(budget="1Gtokens")
    with pytest.raises(ArithmeticError, match=f"^{keys[1]}$"):
        context(policy, judge, 2).sample(examples, [()] * 3, 2)
    settings = evaluate.Settings(num_samples=2, max_new_tokens=8, temperature=1.0, sample_rows=2, seed=0)
    with pytest.raises(ArithmeticError):
        evaluate.evaluate_split(policy, judge, examples, "val", settings)
    assert policy.meter is not None, "the clock runs again"


def test_verdicts_are_found_while_the_next_rows_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second chunk starts only once a verdict of the first was asked of the task: in one thread it never would."""
    policy, judge, examples = small_policy(budget="1Gtokens"), Judge(), pool(2)
    start, starts = policy.engine.decoder.start, []

    def waiting(*args: Any) -> Any:
        starts.append(1)
        assert len(starts) == 1 or judge.judged.wait(20)
        return start(*args)

    monkeypatch.setattr(policy.engine.decoder, "start", waiting)
    context(policy, judge, 2).sample(examples, [(), ()], 2)
    assert len(starts) == 2


def test_verification_is_charged_for_the_wait_alone() -> None:
    """Each verdict takes .1 s; those of the first chunk are found while the second one is held up for longer."""
    policy, judge, examples = small_policy(budget="1Gtokens"), Judge(delay=0.1), pool(2)
    start, starts = policy.engine.decoder.start, []

    def slow(*args: Any) -> Any:
        starts.append(1)
        time.sleep(0.5 * (len(starts) - 1))
        return start(*args)

    policy.engine.decoder.start = slow  # type: ignore[method-assign]
    context(policy, judge, 2).sample(examples, [(), ()], 2)
    assert policy.meter is not None
    ledger = policy.meter.ledger
    assert ledger.seconds_sample > 0.45
    assert 0.1 < ledger.seconds_verify < 0.39, "the two verdicts of the last chunk, not all four"


def test_threads_are_those_of_the_run_on_a_cpu() -> None:
    assert num_threads(torch.device("cpu")) == torch.get_num_threads()
    assert 1 <= num_threads(torch.device("cuda")) <= 8
