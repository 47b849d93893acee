"""What a checkpoint writes: files that the library reads, the reference once, no more often than it may cost."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file

from bench.engine import checkpoint
from bench.engine.keeping import kept_numbers, write_policy
from bench.engine.policy import Policy, load_model
from bench.engine.runner import Run, execute
from bench.engine.tensor_files import KINDS, write_tensors
from bench.store.run_store import RunStore
from bench.study.estimate import Probe
from bench.study.footprint import footprint
from tests.helpers.runs import make_job, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


def test_the_library_reads_what_was_written(tmp_path: Path) -> None:
    bits = torch.Generator().manual_seed(0)
    tensors = {str(kind): torch.randint(0, 2, (3, 5), generator=bits).to(kind) for kind in KINDS}
    tensors |= {"scalar": torch.tensor(7.5), "none": torch.zeros(0, 2), "turned": torch.randn(4, 6, generator=bits).T}
    digest = write_tensors(tensors, tmp_path / "x")
    assert digest == hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest()
    found = load_file(tmp_path / "x")
    assert found.keys() == tensors.keys()
    assert all(found[n].dtype == t.dtype and torch.equal(found[n], t) for n, t in tensors.items())


def test_a_reference_is_written_once_and_again_when_it_changes(tmp_path: Path) -> None:
    layer, reference = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1).requires_grad_(False)
    saved, places = None, []
    for step in range(6):
        if step == 3:
            with torch.no_grad():
                reference.weight.lerp_(layer.weight, 0.5)
        if step == 5:
            reference = torch.nn.Linear(2, 1).requires_grad_(False)
        saved = checkpoint.save(tmp_path, layer, None, reference, {"step": step}, saved)
        file = saved.path / checkpoint.REFERENCE
        places.append(file.stat().st_ino)
        assert torch.equal(load_file(file)["weight"], reference.weight) and checkpoint.last_good(tmp_path) == saved
    assert [a == b for a, b in pairwise(places)] == [True, True, False, True, False]


def test_a_resumed_run_hands_the_reference_on(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job(model, tmp_path, "grpo")
    monkeypatch.setenv(checkpoint.INTERVAL, "-1")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Run, "evaluate", Mock(side_effect=[{"accuracy": 0.5}, KeyboardInterrupt]))
        execute(job)
    before = checkpoint.last_good(job.path)
    assert before is not None
    place = (before.path / checkpoint.REFERENCE).stat().st_ino
    run = Run(job, RunStore(job.path))
    run.resume(before)
    run.save()
    assert run.saved is not None and (run.saved.path / checkpoint.REFERENCE).stat().st_ino == place


def test_saving_takes_at_most_a_twentieth_of_the_time(model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    run = Run(make_job(model, tmp_path, "sft"), RunStore(tmp_path / "run"))
    now = [0.0]
    monkeypatch.setattr("bench.engine.runner.monotonic", lambda: now[0])

    def slow(*_: Any, **__: Any) -> None:
        now[0] += 12.0

    monkeypatch.setattr(checkpoint, "save", slow)
    assert run.checkpoint_seconds == checkpoint.SECONDS == 30
    run.save()
    assert run.checkpoint_seconds == 240
    monkeypatch.setenv(checkpoint.INTERVAL, "7")
    run.save()
    assert run.checkpoint_seconds == 7


# --- the policy that stays ---


def test_the_kept_policy_is_none_the_selected_or_the_last(model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    accuracies = {0.25: 0.3, 0.5: 0.2, 1.0: 0.1}
    evaluate, weights = Run.evaluate, {}

    def judge(run: Run, split: Any, fraction: float) -> dict[str, Any]:
        weights[fraction] = {n: p.detach().clone() for n, p in run.policy.model.named_parameters()}
        done = evaluate(run, split, fraction)
        return {**done, "accuracy": accuracies[fraction]} if split.name == "val" else done

    monkeypatch.setattr(Run, "evaluate", judge)
    for keep, fraction in (("none", None), ("selected", 0.25), ("last", 1.0)):
        job = make_job(model, tmp_path / keep, "sft")
        execute(job, keep)
        assert (job.path / "policy").exists() == (fraction is not None)
        if fraction is not None:
            found = load_file(job.path / "policy" / "model.safetensors")
            assert all(torch.equal(value, weights[fraction][name]) for name, value in found.items()) and found


def test_a_policy_of_cuda_is_kept_in_bfloat16(model: Path, tmp_path: Path) -> None:
    assert (kept_numbers("cuda"), kept_numbers("cpu")) == (torch.bfloat16, torch.float32)
    policy = Policy(*load_model(str(model)))
    exact = {name: p.detach().clone() for name, p in policy.model.named_parameters()}
    write_policy(policy, tmp_path / "policy", torch.bfloat16)
    found = load_file(tmp_path / "policy" / "model.safetensors")
    assert all(value.dtype == torch.bfloat16 for value in found.values())
    assert all(torch.equal(value, exact[name].to(torch.bfloat16)) for name, value in found.items())
    assert load_model(str(tmp_path / "policy"))[0].dtype == torch.float32  # as every model is trained and judged


# --- the disk ---


@pytest.mark.parametrize("method", ["base", "sft", "grpo", "sft@0.5+grpo"])
def test_the_estimated_disk_holds_the_checkpoints_and_little_more(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Measured whenever a name comes to the disk, which is what a save does last."""
    job = make_job(model, tmp_path, method, "12steps")
    monkeypatch.setenv(checkpoint.INTERVAL, "-1")
    sizes, sync = [0], checkpoint.sync

    def measure(path: Path) -> None:
        sync(path)
        files = [p.stat() for p in job.path.glob("*/*.safetensors")]
        sizes.append(sum({s.st_ino: s.st_size for s in files}.values()))

    monkeypatch.setattr(checkpoint, "sync", measure)
    execute(job, "none")
    probe = Probe(job)
    _, checkpoints, _ = footprint(job, probe, 12, "none")
    headers = 9 * 4000  # bytes, of a model of few weights not negligible
    assert 0.7 * checkpoints < max(sizes) <= checkpoints + headers
