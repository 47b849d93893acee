"""Sensitivity to hyper-parameters: panels, sentences, tables and figures of trials."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.report.sensitivity import load_trials, panel_sentence, panels, plot_panels, render_trials
from bench.types import UserError
from tests.helpers.commands import call

TINY = Path(__file__).resolve().parents[2] / "results" / "published" / "tuning" / "tiny.json"
RATES = {"low": 1e-4, "high": 1e-1, "scale": "log"}


def record(accuracies, best, space=None, values=(1e-4, 1e-3, 1e-2, 1e-1)):
    """A record of one method with trials of these accuracies."""
    trials = [
        {"settings": {"uft.lr": v}, "accuracy": a, "low": a and a - 0.05, "high": a and a + 0.05}
        for v, a in zip(values, accuracies)
    ]
    return {"methods": {"uft": {"space": {"uft.lr": space or RATES}, "trials": trials, "best": best}}}


def test_panels_are_in_order_of_the_values_and_mark_the_best():
    (panel,) = panels(record((0.2, 0.4, None), 1, values=(1e-2, 1e-4, 1e-3)))
    assert [(p.value, p.accuracy, p.best) for p in panel.points] == [
        (1e-4, 0.4, True),
        (1e-3, None, False),
        (1e-2, 0.2, False),
    ]
    assert panel.log and panel.space == (1e-4, 1e-1)


def test_sentences_say_how_much_it_matters():
    def said(accuracies, best, **more):
        return panel_sentence(panels(record(accuracies, best, **more))[0])

    assert said((0.1, 0.4, 0.39, 0.0), 1) == (
        "uft: best 40.0 % at uft.lr 0.001; 2 of 4 trials within 2 points of it, from 0.001 to 0.01; the worst 0.0 %."
    )
    assert "The best is the highest value tried: a better one may lie beyond." in said((0.1, 0.2, 0.3, 0.4), 3)
    assert "The best is the lowest value tried" in said((0.4, 0.2, 0.3, 0.1), 0)
    assert "value tried" not in said((0.4, 0.39, 0.4, 0.4), 0), "nothing differs"
    assert "value tried" not in said((0.4, 0.2), 0, space=["a", "b"], values=("a", "b")), "choices have no edge"
    assert "; 1 failed" in said((0.4, 0.2, None, 0.1), 0)
    assert said((None, None, None, None), None) == "uft: every trial failed."


def test_the_published_trials_can_be_shown(capsys, tmp_path):
    code, out, _ = call(capsys, "tune", "--show", TINY, "--plot", tmp_path / "tiny.svg")
    text = " ".join(out.split())
    assert code == 0 and "sft: best 42.0 % at sft.lr 0.0032" in text and "uft.lr 5e-05 30.2" in text
    assert "Trials on countdown, level 3" in text and "budget 3e+12 flops each, seeds 1000" in text
    first = (tmp_path / "tiny.svg").read_bytes()
    plot_panels(panels(load_trials(TINY)), tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == first, "the same trials give the same figure"
    (found,) = json.loads(call(capsys, "tune", "--show", TINY, "--json")[1])
    assert {p["method"] for p in found["panels"]} == set(json.loads(TINY.read_text())["best"])
    best = {p["method"]: q["value"] for p in found["panels"] for q in p["points"] if q["best"]}
    assert best == json.loads(TINY.read_text())["best"]


def test_tables_and_figures_show_intervals_failures_and_choices(tmp_path):
    found = panels(record((0.2, None, 0.4), 2)) + panels(
        record((0.1, 0.3), 1, space=["cosine", "staged"], values=("staged", "cosine"))
    )
    text = render_trials(found, "title", ["a note"])
    assert "20.0 [15.0, 25.0]" in text and "failed" in text and "a note" in text
    for name in ("a.svg", "a.pdf", "a.png"):
        plot_panels(found, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000
    with pytest.raises(UserError, match=r"cannot plot to a\.jpg: use \.svg, \.pdf or \.png"):
        plot_panels(found, tmp_path / "a.jpg")
