"""Executors and their options: what does not go together is one line, and packages that are missing are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.schedule import placement
from bench.schedule.placement import DEFAULT_MINUTES, Placement, minutes_of, sbatch_options
from bench.store.owner import SETTING
from bench.types import UserError

PACKAGE = SimpleNamespace(origin="somewhere")
RAY, SLURM = Placement("ray", address="auto"), Placement("slurm")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "find_spec", lambda name: PACKAGE)
    monkeypatch.setattr(placement.shutil, "which", lambda name: f"/usr/bin/{name}")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (Placement("lacal"), "unknown executor 'lacal': did you mean local?"),
        (Placement(address="auto"), "--address is about --executor ray"),
        (replace(SLURM, address="auto"), "--address is about --executor ray"),
        (Placement(partition="gpu"), "--partition is about --executor slurm"),
        (replace(RAY, time="1:00"), "--time is about --executor slurm"),
        (replace(RAY, slurm=("a=b",)), "--slurm is about --executor slurm"),
        (replace(RAY, devices="0"), "--devices chooses devices of this machine"),
        (replace(SLURM, devices="0"), "--devices chooses devices of this machine"),
        (replace(SLURM, per_device=2), "--per-device shares a device"),
        (Placement("ray"), "--executor ray needs a running cluster: give --address auto"),
        (Placement(address=""), "--address is about --executor ray"),
        (replace(RAY, address=""), "--executor ray needs a running cluster"),
        (replace(SLURM, partition="a b"), "--partition 'a b': expected the name"),
        (replace(SLURM, time="12"), "--time '12': expected hours and minutes such as 12:00"),
        (replace(SLURM, time="0:00"), "--time '0:00': expected"),
        (replace(SLURM, slurm=("account",)), "--slurm 'account': expected an option of sbatch"),
        (replace(SLURM, slurm=("a b=c",)), "--slurm 'a b=c': expected an option of sbatch"),
        (replace(SLURM, slurm=("account=a", "account=b")), "--slurm 'account=b': account is given twice"),
        (replace(SLURM, slurm=("partition=gpu",)), "--slurm 'partition=gpu': partition is set by --partition"),
    ],
)
def test_what_does_not_go_together_is_refused(installed: None, asked: Placement, expected: str) -> None:
    with pytest.raises(UserError) as fault:
        asked.check()
    assert str(fault.value).startswith(expected)


def test_what_goes_together_is_taken(installed: None) -> None:
    for asked in (Placement(), Placement(devices="0-1", per_device=2), RAY, replace(RAY, per_device=2), SLURM):
        asked.check()
    replace(SLURM, partition="gpu", time="2-00:00", slurm=("account=physics", "mem-per-cpu=4G")).check()


@pytest.mark.parametrize(("asked", "package"), [(RAY, "ray"), (SLURM, "submitit")])
def test_a_missing_package_or_program_is_named(monkeypatch: Any, asked: Placement, package: str) -> None:
    monkeypatch.setattr(placement, "find_spec", lambda name: None if name == package else PACKAGE)
    with pytest.raises(UserError, match=rf"needs the package {package}, .*posttrain-bench\[{asked.executor}\]"):
        asked.check()
    monkeypatch.setattr(placement, "find_spec", lambda name: PACKAGE)
    monkeypatch.setattr(placement.shutil, "which", lambda name: None)
    if asked is SLURM:
        with pytest.raises(UserError, match="needs Slurm's program sbatch"):
            asked.check()
    else:
        asked.check()


def test_a_folder_named_like_a_package_is_none(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "bench_no_package").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(placement.PACKAGES, "ray", "bench_no_package")
    with pytest.raises(UserError, match="needs the package bench_no_package"):
        RAY.check()


def test_seconds_of_leases_are_checked_before_anything_starts(monkeypatch: Any) -> None:
    monkeypatch.setenv(SETTING, "soon")
    with pytest.raises(UserError, match=f"{SETTING}='soon': expected seconds"):
        Placement().check()


def test_times_and_options_of_slurm_are_read() -> None:
    assert minutes_of(None) == DEFAULT_MINUTES and minutes_of("12:30") == 750 and minutes_of("2-01:00:00") == 2940
    assert sbatch_options(["account=physics", "mem-per-cpu=4G"]) == {"account": "physics", "mem_per_cpu": "4G"}
