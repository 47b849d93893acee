"""docs/scaling.md: its memory table is what the formulas say; the simulation agrees with cases worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cluster, memory_table
from benchmarks.cluster import Cluster, Simulation, simulate

ROOT = Path(__file__).resolve().parents[1]
PLAIN = Cluster(runs=7, devices=3, spread=0.0, median=1000.0, between=300.0, saving=10.0, start=50.0)


def between_markers(name: str) -> str:
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    return page.split(f"<!-- {name} -->\n")[1].split(f"\n<!-- end of {name} -->")[0]


def test_the_table_of_memory_is_what_the_formulas_say() -> None:
    assert between_markers("memory") == memory_table.models()


def test_the_table_of_growth_is_measured_on_the_published_runs() -> None:
    assert between_markers("growth") == cluster.growth(1)


@pytest.mark.parametrize("name", memory_table.SHAPES)
def test_parameters_follow_from_the_sizes(name: str) -> None:
    s = memory_table.SHAPES[name]
    queries, keys, biases = s.heads * s.width, s.kv_heads * s.width, name.startswith("Qwen")
    attention = 2 * s.hidden * queries + 2 * s.hidden * keys + biases * (queries + 2 * keys)
    layer = attention + 3 * s.hidden * s.intermediate + 2 * s.hidden
    tables = 2 if name.endswith("7B") else 1  # the others tie the head to the embedding
    assert s.parameters == s.layers * layer + s.hidden + tables * s.vocabulary * s.hidden


def test_equal_runs_without_failures_take_as_many_rounds_as_it_takes() -> None:
    one = 50 + 1000 + 3 * 10
    found = simulate(PLAIN, 0)
    assert found.makespan == pytest.approx(3 * one) and found.bound == pytest.approx(7 * one / 3)
    assert (found.lost, found.taken_over, found.again, found.given_up) == (0, 0, 0, 0)


class Scripted:
    """A generator whose exponential times are these, then never."""

    def __init__(self, *times: float) -> None:
        self.times = list(times)

    def exponential(self, _: float) -> float:
        return self.times.pop(0) if self.times else math.inf


def one_run(changes: dict[str, float], *times: float) -> cluster.Outcome:
    setting = replace(PLAIN, runs=1, devices=2, **changes)
    return Simulation(setting, np.array([1000.0]), np.array([0]), Scripted(*times)).run()  # type: ignore[arg-type]


def test_a_run_is_taken_over_from_its_checkpoint_when_the_lease_is_stale() -> None:
    """The device fails after 700 s: two checkpoints hold 600 s of work, 30 s since then and the start are lost."""
    found = one_run({"failures": 1.0}, 700.0)
    rest = 50 + 400 + 10
    assert found.makespan == pytest.approx(700 + 120 + rest) and found.taken_over == 1
    assert found.lost == pytest.approx(700 - 600 - 2 * 10)


def test_a_process_is_tried_again_and_in_the_end_given_up() -> None:
    found = one_run({"crashes": 1.0}, 10.0, 20.0)
    assert (found.again, found.given_up) == (2, 0)
    assert found.makespan == pytest.approx(10 + 5 + 20 + 10 + 1080)
    found = one_run({"crashes": 1.0}, 10.0, 10.0, 10.0, 10.0)
    assert (found.again, found.given_up) == (3, 1) and found.lost == pytest.approx(40)


def test_the_longest_first_end_first() -> None:
    wide = Cluster(runs=300, devices=16)
    orders = {order: simulate(replace(wide, order=order), 0) for order in cluster.ORDERS}
    assert len({found.bound for found in orders.values()}) == 1
    assert min(orders, key=lambda order: orders[order].makespan) == "longest first"
    assert all(found.makespan >= found.bound for found in orders.values())
    assert simulate(replace(wide, failures=0.05), 0).makespan > orders["longest first"].makespan
