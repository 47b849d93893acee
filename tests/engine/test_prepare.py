"""Methods that rewrite their data once: charged, stored with the run, the same after an interruption."""

from __future__ import annotations

import pytest

from bench.engine import checkpoint
from bench.engine.runner import execute
from bench.engine.trainer import Stage
from bench.store.run_folder import read_lines
from bench.types import UserError
from methods import s3ft
from tests.helpers.runs import differences, make_job, outcome, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("prepare") / "model")


@pytest.fixture(autouse=True)
def judge(monkeypatch):
    """A random model solves nothing: accept by the first token instead."""
    monkeypatch.setattr(s3ft, "accepted", lambda completion: completion.token_ids[0] % 3 == 0)


def stop_at(monkeypatch, owner, name, call):
    """Interrupt the run before the given call of a function."""
    original, calls = getattr(owner, name), []

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)


@pytest.mark.parametrize(
    ("owner", "name", "call"), [(Stage, "prepare", 1), (Stage, "run_step", 3), (checkpoint, "save", 1)]
)
def test_an_interrupted_run_ends_as_if_uninterrupted(model, tmp_path, monkeypatch, owner, name, call):
    whole, broken = (make_job(model, tmp_path / part, "s3ft", "8steps") for part in ("whole", "broken"))
    execute(whole)
    with monkeypatch.context() as patch:
        stop_at(patch, owner, name, call)
        with pytest.raises(KeyboardInterrupt):
            execute(broken)
    execute(broken)
    assert differences(outcome(broken.path), outcome(whole.path)) == []


def test_targets_are_stored_and_charged(model, tmp_path):
    job = make_job(model, tmp_path, "s3ft", "8steps")
    execute(job)
    targets = read_lines(job.path / "targets.jsonl")
    first, *steps = read_lines(job.path / "metrics.jsonl")
    assert len({t["id"] for t in targets}) == len(targets) == 40
    sources = [t["source"] for t in targets]
    assert first["targets"] == {s: sources.count(s) for s in sorted(set(sources))} and len(set(sources)) == 3
    assert first["spent"]["rollouts"] == 40 + (40 - sources.count("self")) == first["spent"]["verifier_calls"]
    assert first["spent"]["flops"] > 0 and len(steps) == 8
    own = sources.count("self")
    shown = first["spent"]["demonstrations"]
    assert shown == first["spent"]["distinct_demonstrations"] == 40 - own, "the paraphraser saw gold prefixes"
    assert steps[-1]["spent"]["distinct_demonstrations"] == 40 - own, "own answers are no demonstrations"
    gold = {"self": lambda t: 0, "gold": lambda t: None, "paraphrase": lambda t: t["gold_tokens"]}
    assert all(t["gold_tokens"] == gold[t["source"]](t) for t in targets)
    assert all(0 < t["gold_tokens"] < len(t["token_ids"]) for t in targets if t["source"] == "paraphrase")


def test_a_budget_too_small_to_prepare_is_refused(model, tmp_path):
    with pytest.raises(UserError, match="does not allow s3ft to prepare its 40 examples"):
        execute(make_job(model, tmp_path, "s3ft", "20rollouts"))
