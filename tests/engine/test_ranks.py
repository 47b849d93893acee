"""A run over several processes: what it leaves is what one process leaves, by the rule and to 1e-6."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.engine import checkpoint, runner, signals
from bench.engine.batching import split_among
from bench.engine.ranks import ALONE, Ranks, dealt
from bench.engine.runner import execute
from bench.engine.signals import Preempted
from bench.engine.trainer import Stage
from bench.store.run_folder import CorruptRun
from benchmarks.several_devices import apart, trained
from methods.common import demonstrations
from tests.helpers.engine import TASK, pool, small_model
from tests.helpers.forked import forked
from tests.helpers.runs import make_job, outcome, write_model

CASES = ("sft", "uft", "asft", "otr", "relift", "grpo bnpo", "uds")


def test_rows_are_dealt_by_tokens_in_equally_many_micro_batches() -> None:
    # By hand: 5 | 0, 5 | 3, 5 | 3 + 2, 5 + 2 | 3 + 2, 5 + 2 | 3 + 2 + 1.
    assert dealt([1, 2, 5, 2, 3], 2) == [[2, 3], [0, 1, 4]]
    rows = demonstrations(pool(11))
    for count, fixed in ((1, False), (2, False), (3, False), (3, True), (16, False)):
        shares = split_among(rows, count, 40, fixed=fixed)
        assert len(shares) == count and len({len(share) for share in shares}) == 1
        given = sorted(id(row) for share in shares for part in share for row in part)
        assert given == sorted(map(id, rows))
        parts = [part for share in shares for part in share if part]
        assert all(len(part) * max(map(len, part)) <= 40 or len(part) == 1 for part in parts)
        loads = [sum(len(row) for part in share for row in part) for share in shares]
        # A known bound of this rule (Graham 1969): nobody has more than the least loaded and the largest piece.
        largest = max(sum(map(len, part)) for part in parts) if fixed else max(map(len, rows))
        assert max(loads) <= min(loads) + largest


def test_losses_gradients_records_and_ledger_are_those_of_one_process(tmp_path: Path) -> None:
    """Each row is judged once, by one of them."""
    judged: list[int] = []
    verify = type(TASK).verify

    def noted(task: Any, problem: Any, text: str) -> Any:
        judged.append(1)
        return verify(task, problem, text)

    def work(ranks: Ranks) -> dict[str, Any]:
        type(TASK).verify = noted  # type: ignore[method-assign]
        found = {case: trained(case, ranks) for case in CASES}
        return {**found, "judged": sum(judged)}

    found = forked(tmp_path / "two", 2, work)
    calls = sum(found[0][case]["ledger"]["verifier_calls"] for case in CASES)
    assert sum(rank["judged"] for rank in found) == calls and all(0 < rank["judged"] < calls for rank in found)
    for case in CASES:
        one = trained(case, ALONE)
        assert float(one["gradients"].abs().max()) > 1e-6, case
        for rank in found:
            figures = apart(one, rank[case])
            assert max(figures.values()) < 1e-6, (case, figures)


def failing_once(current: Stage, when: str) -> None:
    """Memory runs out in the last layer, the second time that it is used."""
    sharded = current.policy.sharded
    assert sharded is not None
    layer = (sharded.plain if when == "scoring" else sharded.model).model.layers[-1]
    calls: list[int] = []

    def fail(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    if when == "backward":
        layer.register_full_backward_hook(fail)
    else:
        layer.register_forward_pre_hook(fail)


@pytest.mark.parametrize("when", ["scoring", "forward", "backward"])
def test_memory_that_runs_out_on_one_rank_makes_all_redo_the_pass(tmp_path: Path, when: str) -> None:
    def work(ranks: Ranks) -> dict[str, Any]:
        def prepare(current: Stage) -> None:
            if ranks.number == 1:
                failing_once(current, when)

        return trained("uft", ranks, prepare)

    one = trained("uft", ALONE)
    for rank in forked(tmp_path / "two", 2, work):
        retries = [record.pop("oom_retries", 0) for record in rank["records"]]
        assert retries == [1, 0] and rank["records"][0].pop("micro_tokens") < 128
        assert max(apart(one, rank).values()) < 1e-6


# --- whole runs ---


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def planned(model: Path, results: Path, count: int) -> Any:
    gentle = ["uft.batch_size=4", "uft.group_size=2", "uft.lr=0.0001", "uft.num_updates=2", "uft.kl_coef=0.1"]
    return make_job(model, results, "uft", settings=gentle, devices_per_run=count)


def made(folder: Path, job: Any, count: int, ended_at: int | None = None) -> list[dict[str, Any]]:
    """Make a run in ``count`` processes, of which the last one gets SIGTERM in an update; what they say of its end."""

    def work(ranks: Ranks) -> dict[str, Any]:
        runner.join = lambda *_: ranks
        signals.asked.end = False
        signals.listen()
        optimize: Callable[..., Any] = Stage._optimize

        def interrupted(current: Stage, *args: Any) -> Any:
            if ranks.number == ranks.count - 1 and current.meter.ledger.steps == ended_at:
                os.kill(os.getpid(), signal.SIGTERM)
            return optimize(current, *args)

        Stage._optimize = interrupted  # type: ignore[method-assign]
        try:
            execute(job)
        except Preempted:
            return {"ended": True}
        return {"ended": False}

    return forked(folder, count, work)


def close(left: Any, right: Any, where: str = "") -> list[str]:
    """Places where two records differ by more than 1e-4; padding depends on how rows were dealt.

    Here weights are float32, and AdamW moves a weight whose gradient is hardly more than its rounding as far as others.
    """
    if isinstance(left, dict):
        assert left.keys() == right.keys(), where
        return [place for k in left if k != "padding_tokens" for place in close(left[k], right[k], f"{where}.{k}")]
    if isinstance(left, list):
        assert len(left) == len(right), where
        return [place for i, (a, b) in enumerate(zip(left, right)) for place in close(a, b, f"{where}.{i}")]
    if isinstance(left, float):
        return [] if left == pytest.approx(right, rel=1e-4, abs=1e-6) else [f"{where}: {left} {right}"]
    return [] if left == right else [f"{where}: {left} {right}"]


def test_all_go_on_from_the_checkpoint_that_the_first_finds_good(tmp_path: Path, capfd: Any) -> None:
    """What the others would find good does not matter, and only the first one says which was passed over."""
    path, previous = tmp_path / "run", None
    path.mkdir()
    for steps in (1, 2):
        previous = checkpoint.save(path, small_model(), None, None, {"steps": steps}, previous)

    def work(ranks: Ranks) -> int:
        looked: list[int] = []

        def check(records: object) -> None:
            looked.append(1)
            if ranks.first and len(looked) == 1:
                raise CorruptRun("metrics.jsonl was changed")

        saved = checkpoint.last_good_for_all(path, check, ranks)
        assert saved is not None
        return int(saved.state["steps"])

    assert forked(tmp_path / "three", 3, work) == [1, 1, 1]
    assert capfd.readouterr().err.count("resumed from checkpoint-1") == 1


def test_a_run_is_ended_and_goes_on_with_another_number_of_processes(model: Path, tmp_path: Path) -> None:
    """Two processes, of which one gets SIGTERM; then one, which gets it too; then three, to the end."""
    for count, ended_at in ((2, 3), (1, 7), (3, None)):
        job = planned(model, tmp_path, count)
        ends = made(tmp_path / f"{count}", job, count, ended_at)
        assert ends == [{"ended": ended_at is not None}] * count
        if ended_at is not None:
            saved = checkpoint.last_good(job.path)
            assert saved is not None and saved.state["ledger"]["steps"] == ended_at + 1 and not job.done
    alone = planned(model, tmp_path / "alone", 1)
    execute(alone)
    found, expected = outcome(job.path), outcome(alone.path)
    for name, value in found.pop("weights").items():
        pair = [torch.frombuffer(bytearray(part), dtype=torch.float32) for part in (value, expected["weights"][name])]
        torch.testing.assert_close(*pair, rtol=1e-5, atol=1e-6)
    del expected["weights"]
    assert (places := close(found, expected)) == [], places[:5]
