"""`bench speed`: every side finishes its turns, sides did the same work, figures follow from what they said."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.models import TINY
from bench.speed import measure as measuring
from bench.speed import sides as catalogue
from bench.speed.measure import measure
from bench.speed.sides import OURS, PARTS, RIVALS, Side, chosen_parts, pairs
from bench.speed.summary import Told, summarise
from bench.speed.table import lines
from bench.speed.turns import GO, PROFILE, Turns, run_side
from bench.speed.work import GROUP, Sizes, Work, model_folder, model_work, task_work
from bench.types import UserError
from tests.helpers.commands import call

SIZES = Sizes(rows=8, tokens=6, seconds=0.0, threads=1, device="cpu")
ALL = [(name, side) for name, part in PARTS.items() for side in part.sides]


class Orders:
    """A channel to a side in this process: so many orders, and all that it says."""

    def __init__(self, *orders: str) -> None:
        self.orders, self.said = list(orders), list[dict[str, Any]]()

    def read(self) -> str:
        return self.orders.pop(0) if self.orders else ""

    def write(self, record: dict[str, Any]) -> None:
        self.said.append(json.loads(json.dumps(record)))


def said(side: Side, work: Work, *orders: str) -> list[dict[str, Any]]:
    """What a side says: that it is ready, then of each turn."""
    channel = Orders(*orders)
    run_side(side.place, work, Turns(channel, work.device))
    return channel.said


@pytest.fixture(scope="module")
def works() -> dict[bool, Work]:
    return {True: replace(model_work("tiny", str(TINY), SIZES), repeats=1), False: task_work(SIZES)}


@pytest.fixture(scope="module")
def turn(works: dict[bool, Work]) -> Callable[[str, Side], dict[str, Any]]:
    """The second turn of a side, taken once."""
    found: dict[tuple[str, str], dict[str, Any]] = {}

    def taken(name: str, side: Side) -> dict[str, Any]:
        if (name, side.name) not in found:
            ready, first, second = said(side, works[PARTS[name].model], GO, GO)
            assert set(ready) == {"ready"} and first["cases"].keys() == second["cases"].keys()
            found[name, side.name] = second
        return found[name, side.name]

    return taken


@pytest.mark.parametrize(("name", "side"), [pytest.param(n, s, id=f"{n}-{s.name}") for n, s in ALL])
def test_a_side_does_its_turns(name: str, side: Side, turn: Callable[[str, Side], dict[str, Any]], works: Any) -> None:
    if side.missing:
        pytest.skip(f"not installed: {', '.join(side.missing)}")
    work, ours = works[PARTS[name].model], turn(name, PARTS[name].sides[0])
    theirs = turn(name, side)
    assert theirs["cases"] and theirs["cases"].keys() <= ours["cases"].keys()
    for case, record in theirs["cases"].items():
        assert record["seconds"] > 0 and record["cpu_seconds"] > 0 and record["units"] > 0
        assert record["counts"] == ours["cases"][case]["counts"]  # the same work
    if PARTS[name].model:
        assert (ours["matrix_rate"] > 0) and all(r["flops"] > 0 for r in ours["cases"].values())
    rows = [len(e.prompt_ids) for e in work.demonstrations]
    if name == "sft":  # counted by hand
        total = sum(rows) + sum(len(e.demo_ids) for e in work.demonstrations)
        assert theirs["cases"]["sft"]["counts"] == {"trained tokens": total, "generated tokens": 0}
    if name in ("grpo", "grpo-update"):
        generated = 8 * 6 if name == "grpo" else 0
        counts = {"trained tokens": GROUP * rows[0] + 8 * 6, "generated tokens": generated}
        assert theirs["cases"][name]["counts"] == counts and theirs["cases"][name]["units"] == 1
    if name == "sample":
        assert theirs["cases"]["equal lengths"]["units"] == 8 * 6
        assert theirs["cases"]["spread lengths"]["units"] == sum(work.limits)


def test_the_profile_of_a_turn_is_of_its_work_alone(works: dict[bool, Work], monkeypatch: pytest.MonkeyPatch) -> None:
    """The large products whose rate other turns measure are not in it."""
    measured: list[str] = []
    monkeypatch.setattr("bench.speed.turns.matrix_rate", lambda device: measured.append(device) or 1.0)
    *_, last = said(PARTS["sample"].sides[0], works[True], GO, PROFILE)
    assert last["operators"]["aten::mm"] > 0 and measured == ["cpu"]


def test_lengths_are_spread_and_rewards_differ(works: dict[bool, Work]) -> None:
    work = works[True]
    assert sorted(work.limits) == [1, 1, 2, 3, 3, 4, 5, 6] and list(work.limits) != sorted(work.limits)
    assert set(work.rewards) == {0.0, 1.0} and {len(ids) for ids in work.completions} == {6}
    assert min(map(min, work.completions)) >= 76  # half of a small vocabulary


def test_work_is_read_as_it_was_written(works: dict[bool, Work], tmp_path: Path) -> None:
    work = works[True]
    work.write(tmp_path / "work.json")
    again = Work.read(tmp_path / "work.json")
    assert again.digest == work.digest != replace(work, tokens=7).digest
    assert [e.prompt_ids for e in again.demonstrations] == [e.prompt_ids for e in work.demonstrations]


def test_random_weights_of_a_shape(tmp_path: Path) -> None:
    path = model_folder("shape:test", tmp_path)
    work = model_work("shape:test", path, SIZES)
    assert {len(e.demo_ids) for e in work.demonstrations} == {6}
    done = said(PARTS["sample"].sides[0], replace(work, repeats=1), GO)[1]
    assert done["cases"]["equal lengths"]["units"] == 48
    with pytest.raises(
        UserError, match=r"^--tokens 5000: rows of 50\d\d tokens do not fit the model's context of 4096$"
    ):
        model_work("shape:test", path, replace(SIZES, tokens=5000))


# --- from turns to figures ---------------------------------------------------------------------------------------


def told(side: Side, turns: list[tuple[float, float, float]], flops: float = 0.0, right: int = 5) -> Told:
    """A side that said this: units, CPU seconds and seconds of each turn."""
    said = [
        {
            "cases": {
                "work": {"units": u, "cpu_seconds": c, "seconds": s, "flops": flops, "counts": {"right answers": right}}
            },
            "matrix_rate": 100.0 if flops else 0.0,
        }
        for u, c, s in turns
    ]
    peak = {"end": {"held_bytes": 1, "peak_bytes": 5_000_000}, "digest": ""}
    return Told(side, {"held_bytes": 1}, said, peak)


def test_figures_by_hand() -> None:
    ours, trl, _ = PARTS["sft"].sides
    mine = told(ours, [(100, 1.0, 2.0), (100, 2.0, 2.0), (100, 4.0, 8.0)], flops=40.0)
    theirs = told(trl, [(100, 2.0, 4.0), (100, 2.0, 6.0), (100, 12.0, 8.0)], right=6)
    found = summarise([mine, theirs])
    [case] = found["cases"]
    assert case["sides"]["trl"]["ratio"]["cpu_seconds"] == {"median": 2.0, "least": 1.0, "most": 3.0}
    assert case["sides"]["trl"]["ratio"]["seconds"] == {"median": 2.0, "least": 1.0, "most": 3.0}
    assert case["sides"][OURS]["per_cpu_second"] == {"median": 50.0, "least": 25.0, "most": 100.0}
    assert case["sides"][OURS]["share_of_matrix_rate"] == {"median": 0.2, "least": 0.1, "most": 0.4}
    assert case["sides"]["trl"]["share_of_matrix_rate"]["median"] == 0.2  # 40 / 2 / 100
    assert case["counts_differ"] == {"right answers": {"bench": 5, "trl": 6}}


# --- the command -------------------------------------------------------------------------------------------------


def test_sides_that_are_missing_or_fail_are_named() -> None:
    """With processes of their own; a side that ends before its time does not end the others."""
    ours, gym = PARTS["problems"].sides
    absent = Side("rival", "tasks:problems", "rival", ("no_such_package",), "pip install rival", "a note")
    broken = replace(gym, name="broken", place="tasks:no_such_side", packages=())
    same = replace(ours, name="twin")
    part = {"problems": (ours, same, broken, absent)}
    record = measure("tiny", part, SIZES, False, lambda text: None)
    [found] = record["parts"]
    assert found["missing"] == {"rival": {"packages": ["no_such_package"], "install": "pip install rival"}}
    assert list(found["faults"]) == ["broken"] and "no_such_side" in found["faults"]["broken"]
    assert [list(case["sides"]) for case in found["cases"]] == [["bench", "twin"]] * len(found["cases"])
    assert {case["turns"] for case in found["cases"]} == {measuring.LEAST_TURNS}
    assert all(0.1 < case["sides"]["twin"]["ratio"]["cpu_seconds"]["median"] < 10 for case in found["cases"])
    text = lines(record)
    assert "rival is not installed (no_such_package): pip install rival" in text
    assert "broken failed: AttributeError" in text and "twin" in text and max(map(len, text.splitlines())) <= 100


def test_a_part_whose_rivals_are_missing_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(measuring, "alternate", lambda sides, *_: [] if [s.name for s in sides] == [OURS] else None)
    code, out, _ = call(capsys, "speed", "--parts", "sft,evaluate,sample", "--against", "trl,lm-eval,vllm")
    assert code == 0
    flat = " ".join(out.split())
    for package, extra in (("trl, accelerate, datasets", "trl"), ("lm_eval, accelerate", "eval"), ("vllm", "vllm")):
        assert f"not installed ({package}): pip install 'posttrain-bench[{extra}]'" in flat


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--rows", "12"), "--rows 12 is not valid: expected a multiple of 8"),
        (("--parts", "sfd"), "unknown part 'sfd': did you mean sft?"),
        (("--against", "tlr"), "unknown other program 'tlr': did you mean trl?"),
        (("--parts", "sft", "--against", "vllm"), "sft: compared with hf, trl alone, not with vllm"),
        (("--model", "shape:qwen2.5-0.6b"), "unknown shape 'qwen2.5-0.6b': did you mean qwen2.5-0.5b or qwen2.5-1.5b?"),
        (("--model", "tny"), "model 'tny' does not exist: did you mean tiny?"),
    ],
)
def test_bad_input_is_one_line(words: tuple[str, ...], told: str, capsys: Any) -> None:
    code, out, err = call(capsys, "speed", *words)
    assert (code, out) == (2, "") and told in err and err.count("\n") == 1


def test_names_of_the_help_are_those_of_the_catalogue(capsys: Any) -> None:
    text = " ".join(call(capsys, "speed", "--help")[1].replace("│", " ").split())
    assert ", ".join(PARTS) in text and ", ".join(RIVALS) in text
    assert chosen_parts(None) == list(PARTS) and list(pairs(list(PARTS), RIVALS)) == list(PARTS)
    assert all(side.note and (side.install or not side.packages) for _, side in ALL)
    assert PARTS["sft"].sides[0].name == catalogue.OURS
