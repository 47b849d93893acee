"""Finished runs with any file damaged: a command names the run, or prints what it prints on the sound one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.seeds import derive_seed
from bench.store.packed_verdicts import write_verdicts
from bench.store.run_store import RunStore
from tests.helpers.commands import call
from tests.helpers.stored import plan, spent, write_run

Damage = Callable[[Path], object]
FLIPS = 6


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    for method in ("sft", "uft"):
        for seed in (7, 8):
            run = write_run(folder, plan(method=method, seed=seed))
            write_verdicts(run, {"test": ("a", "a", "b", "c", "d", "e")})
            RunStore(run).finish(spent(4))
    return folder


def commands(results: Path, run: Path) -> dict[str, tuple[object, ...]]:
    where = ("--results", results)
    return {
        "leaderboard": ("leaderboard", *where, "--format", "json"),
        "verify": ("leaderboard", *where, "--verify", "--format", "json"),
        "curves": ("leaderboard", *where, "--curves", "--format", "json"),
        "equal": ("leaderboard", *where, "--equal", "steps", "--format", "json"),
        "show": ("show", run.name, *where),
        "claim": ("claim", "sft > uft", *where),
        "diff": ("diff", "sft", "uft", *where),
    }


def flip(place: int) -> Damage:
    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[place] ^= 1 << place % 8
        path.write_bytes(content)

    return change


def more_accurate(path: Path) -> None:
    """A digit of the final ledger, which makes no field missing and leaves the size."""
    content = path.read_text()
    assert '"flops": 400000.0' in content
    path.write_text(content.replace('"flops": 400000.0', '"flops": 100000.0'))


def damages(run: Path) -> Iterator[tuple[str, str, Damage]]:
    for path in sorted(p for p in run.iterdir() if p.is_file() and p.name != "lock"):
        size = path.stat().st_size
        if path.name != "done.json":
            yield path.name, "deleted", Path.unlink  # without the marker it is an unfinished run
        yield path.name, "emptied", lambda p: os.truncate(p, 0)
        yield path.name, "a byte more", lambda p: p.write_bytes(p.read_bytes() + b"x")
        for number in range(FLIPS):
            place = derive_seed("finished damage", path.name, number) % max(size, 1)
            if size:
                yield path.name, f"byte {place} changed", flip(place)
                yield path.name, f"cut at {place}", lambda p, n=place: os.truncate(p, n)
    yield "done.json", "another ledger", more_accurate


def unnoticed(results: Path, tmp_path: Path, capsys: Any, every: int) -> list[str]:
    """Commands that print something else on a damaged run without naming it."""
    run = next(results.glob("sft-*-s7-*"))
    copied = tmp_path / "results"
    shutil.copytree(results, copied)
    target, found = copied / run.name, []
    expected = {name: call(capsys, *words) for name, words in commands(copied, target).items()}
    assert all(out and not err for _, out, err in expected.values()), expected
    for number, (file, damage, act) in enumerate(damages(run)):
        if number % every:
            continue
        act(target / file)
        for name, words in commands(copied, target).items():
            code, out, err = call(capsys, *words)
            refused = code == 2 and not out and err.startswith("error: ") and err.count("\n") == 1
            named = target.name in err and (refused or "corrupted" in err)
            if not named and (code, out, err) != expected[name]:
                found.append(f"{file}, {damage}: {name}: exit code {code}, {err}")
            if name == "verify" and not named:
                # What means the same may pass: a blank of the marker, which holds no digest of its own bytes.
                assert file == "done.json" and json.loads((target / file).read_text()) == json.loads(
                    (run / file).read_text()
                ), (file, damage)
        shutil.rmtree(target)
        shutil.copytree(run, target)
    return found


def test_a_sample_of_damages_to_finished_runs_is_noticed(results, tmp_path, capsys):
    assert unnoticed(results, tmp_path, capsys, every=13) == []


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_every_damage_to_finished_runs_is_noticed(results, tmp_path, capsys):
    assert unnoticed(results, tmp_path, capsys, every=1) == []
