"""Whether runs have room: fewer at a time where they have not, refused where even one has not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.study import footprint
from bench.study.footprint import check_space, left_in, peak_disk
from bench.study.slots import Slot
from bench.types import UserError
from tests.helpers.runs import make_job, write_model

SLOTS = [Slot(n) for n in range(4)]


@dataclass(frozen=True)
class Space:
    disk_bytes: float = 1e9
    checkpoint_bytes: float = 2e9
    memory_bytes: float = 3e9


@pytest.fixture
def jobs(tmp_path: Path) -> list[Any]:
    model = write_model(tmp_path / "model")
    return [make_job(model, tmp_path / "runs", "sft", seeds=[seed]) for seed in range(6)]


def with_free(monkeypatch: pytest.MonkeyPatch, memory: float, disk: float) -> None:
    monkeypatch.setattr(footprint, "free_memory", lambda: memory)
    monkeypatch.setattr(footprint, "free_disk", lambda folder: disk)


def test_the_peak_is_all_that_stays_and_the_checkpoints_of_those_that_go_on() -> None:
    needs = [Space(), Space(checkpoint_bytes=7e9), Space()]
    assert [peak_disk(needs, k) for k in (1, 2, 9)] == [10e9, 12e9, 14e9]


@pytest.mark.parametrize(
    ("memory", "disk", "fits"), [(12e9, 14e9, 4), (11.9e9, 14e9, 3), (12e9, 13.9e9, 3), (5e9, 10e9, 1)]
)
def test_as_many_start_as_have_room(
    jobs: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, memory: float, disk: float, fits: int
) -> None:
    with_free(monkeypatch, memory, disk)
    needs = [Space()] * 6
    assert check_space(jobs, needs, SLOTS, tmp_path, asked=False) == SLOTS[:fits]
    warned = capsys.readouterr().err
    assert (fits == 4) == (warned == "") and (fits == 4 or (f"(--workers {fits})" in warned and "4 runs" in warned))
    if fits < 4:
        with pytest.raises(UserError, match=f"expected --workers {fits} or fewer"):
            check_space(jobs, needs, SLOTS, tmp_path, asked=True)


def test_what_does_not_fit_at_all_is_refused(jobs: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, 2e9, 1e12)
    with pytest.raises(UserError, match=r"12.0 GB of memory where 2.0 are free.*--workers 1 .*a smaller model"):
        check_space(jobs, [Space()] * 6, SLOTS, tmp_path, asked=False)
    with_free(monkeypatch, 1e12, 7e9)
    with pytest.raises(UserError, match=f"14.0 GB in '{tmp_path}' where 7.0 are free.*--results, or --keep none"):
        check_space(jobs, [Space()] * 6, SLOTS, tmp_path, asked=False)
    folder = jobs[0].path / "checkpoint-3"  # of an interrupted run: its room is taken already
    folder.mkdir(parents=True)
    with (folder / "policy.safetensors").open("wb") as file:
        file.truncate(int(7e9))
    (folder / "selected.safetensors").hardlink_to(folder / "policy.safetensors")
    assert check_space(jobs, [Space()] * 6, SLOTS, tmp_path, asked=False) == SLOTS


def test_limits_of_control_groups_count_with_what_the_cache_of_files_takes(tmp_path: Path) -> None:
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 300\nfile 400\ninactive_file 150\nactive_file 50\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert list(left_in(tmp_path)) == []
    (tmp_path / "memory.max").write_text("1000\n")
    assert list(left_in(tmp_path)) == [500.0]
    assert list(left_in(tmp_path / "nowhere")) == []
    assert 0 < footprint.free_memory() < float("inf") and footprint.free_disk(tmp_path / "new" / "folder") > 0
