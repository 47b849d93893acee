"""Commands on the published runs: they agree with each other, and damaged copies are refused in one line."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from bench.plan.execution import Execution
from bench.store.files import write_atomic
from bench.store.run_folder import read_json
from bench.study.jobs import Spec, plan_jobs
from tests.helpers.commands import call

PUBLISHED = Path(__file__).resolve().parents[2] / "results" / "published"
EXAMPLE = PUBLISHED / "example"
NINE_RUNS = PUBLISHED / "nine"
NINE = ("base", "sft", "grpo", "uft", "s3ft", "dft", "chord", "prefix_rft", "sft+grpo")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The runs of two methods on one task, to be damaged."""
    for run in [*EXAMPLE.glob("uft-countdown-*"), *EXAMPLE.glob("sft-countdown-*"), *EXAMPLE.glob("base-countdown-*")]:
        shutil.copytree(run, tmp_path / "runs" / run.name)
    return tmp_path / "runs"


def folders_of_protocol_1(methods: tuple[str, ...], tasks: tuple[str, ...]) -> list[str]:
    """The directories that today's plans would have had under protocol 1, which counted how a run is computed."""
    here = Execution(device="cpu", threads=1, micro_batch_tokens=2048, sample_rows=256)
    jobs = plan_jobs(Spec(methods=methods, tasks=tasks, seeds=(0, 1, 2)))
    return sorted(job.plan.model_copy(update={"protocol": 1, "execution": here}).directory for job in jobs)


def test_published_runs_are_those_of_todays_plans_under_their_protocol() -> None:
    """Their ids have not moved: what was compared then is what the same command compares today."""
    assert folders_of_protocol_1(NINE, ("countdown",)) == sorted(p.parent.name for p in NINE_RUNS.glob("*/done.json"))
    sides = ("base", "sft", "grpo", "uft"), ("countdown", "logic")
    assert folders_of_protocol_1(*sides) == sorted(path.parent.name for path in EXAMPLE.glob("*/done.json"))


def adjusted(capsys: pytest.CaptureFixture[str], *options: str) -> dict[tuple[str, ...], float]:
    out = call(capsys, "leaderboard", "--results", EXAMPLE, "--pairs", "--json", *options)[1]
    return {(row["task"], row["first"], row["second"]): row["p_holm"] for row in json.loads(out)}


def test_choosing_a_task_changes_no_p_value_and_a_corrected_claim_has_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    every, chosen = adjusted(capsys), adjusted(capsys, "--task", "logic")
    assert chosen and chosen == {pair: p for pair, p in every.items() if pair[0] == "logic"}
    for (task, first, second), p in chosen.items():
        out = call(capsys, "claim", f"{first} > {second} on {task} corrected", "--results", EXAMPLE, "--json")[1]
        assert json.loads(out)["difference"]["p_value"] == p


def test_damaged_validations_are_one_line(copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = next(copy.glob("uft-*")) / "evals.jsonl.gz"
    content = bytearray(file.read_bytes())
    content[800] ^= 255
    file.write_bytes(bytes(content))
    for arguments in (
        ("leaderboard", "--equal", "tokens"),
        ("leaderboard", "--curves"),
        ("plot", tmp_path / "curves.svg"),
        ("report", "--out", tmp_path / "report.html"),
        ("claim", "uft > sft on countdown at equal tokens"),
    ):
        code, out, err = call(capsys, *arguments, "--results", copy)
        assert (code, out, err.count("\n")) == (2, "", 1) and "is corrupted (evals.jsonl" in err, arguments


def test_a_report_shows_no_completion_that_was_changed_later(
    copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = next(copy.glob("uft-*-s0-*"))
    content = gzip.decompress((run / "items.jsonl.gz").read_bytes()).replace(b'"text":"', b'"text":"FORGED ', 1)
    (run / "items.jsonl.gz").write_bytes(gzip.compress(content))
    done = read_json(run / "done.json")
    done["sizes"]["items.jsonl"] = len(content)
    write_atomic(run / "done.json", done)
    assert call(capsys, "report", "--results", copy, "--out", tmp_path / "report.html")[0] == 0
    page = (tmp_path / "report.html").read_text()
    assert "FORGED" not in page and "cannot be read: items.jsonl was changed after the run ended" in page


def test_a_claim_at_another_currency_says_what_its_curves_lack(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "claim", "uft > sft on countdown at equal rollouts", "--results", EXAMPLE)
    assert code == 1 and "sft: uses none of it" in out and "16,512 rollouts" in out  # what uft ended with


def test_what_is_behind_the_selected_policies_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for run in ("uft-countdown-tiny-s0", "grpo-countdown-tiny-s0"):  # the last policy was the best, and was not
        code, out, err = call(capsys, "show", run, "--split", "selected", "--item", "3", "--results", EXAMPLE, "--json")
        assert (code, err) == (0, "") and json.loads(out)["id"] == "countdown/3/test/3"
