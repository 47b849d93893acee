"""`bench card`: what the card says, that the Hub's library reads it, hostile names in it, and where it is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from huggingface_hub.repocard_data import model_index_to_eval_results

from bench.export.card import code, fenced
from bench.export.card_scores import one_line
from bench.plan.spec import RunPlan, Stage
from tests.helpers.commands import call
from tests.helpers.runs import files
from tests.helpers.stored import plan, write_run

HOSTILE = "x`</td><script>alert(1)</script>\n---\nlicense: mit | ``` !!python/object:os.system [a](b)"
EVAL = ".eval_results/bench_countdown_3.yaml"


def card(capsys: pytest.CaptureFixture[str], tmp_path: Path, *options: str, made: RunPlan | None = None) -> Path:
    """A folder with the card of one run."""
    run = write_run(tmp_path / "results", made)
    code, _, err = call(capsys, "card", run, "--out", tmp_path / "card", *options)
    assert (code, err) == (0, "")
    return tmp_path / "card"


def metadata(text: str) -> dict[str, Any]:
    """The front matter, found as the Hub's library finds it."""
    match = REGEX_YAML_BLOCK.search(text)
    assert match is not None and match.start() == 0
    found: dict[str, Any] = yaml.safe_load(match[2])
    return found


def test_the_hub_library_reads_the_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (card(capsys, tmp_path) / "README.md").read_text()
    data = ModelCard(text).data
    assert data.library_name == "transformers" and data.license is None and data.base_model is None
    assert {"posttrain-bench", "sft", "countdown"} == set(data.tags)
    _, results = model_index_to_eval_results(metadata(text)["model-index"])
    found = {(r.dataset_type, r.metric_name): r.metric_value for r in results}
    assert found["bench_countdown_3", "accuracy, greedy"] == 0.5
    assert found["bench_countdown_3", "accuracy, sampled at temperature 1"] == pytest.approx(1 / 6, abs=1e-6)
    assert found["bench_logic_3", "accuracy, greedy"] == 0.5 and len(found) == 10


def test_what_the_card_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (card(capsys, tmp_path) / "README.md").read_text()
    assert "| `test` | 6 x 2 | 16.7 [0.0, 47.2] | 50.0 [" in text and "| `val` | 4 x 2 |" in text
    assert text.index("`test` | 6") < text.index("`ood` | 3") < text.index("`val` | 4")
    assert "over items only" in text and "One run is one seed" in text
    assert "| `lr` | `0.001` |" in text and "| `betas` | `[0.9, 0.95]` |" in text
    assert "L = -(1/N)" in text and "docs/methods.md#sft" in text and "The cap was 1e+06 flops" in text
    assert "| FLOPs | 400000 |" in text and "| of these, trained on | 400 |" in text
    assert "Passport none: the stack of this run was not checked" in text
    assert "bench run --methods sft --set 'sft.lr=1e-3; echo `id`'" in text and "/somewhere" not in text
    assert "50%: 25.0, 100%: 25.0" in text and "## Licence" in text and "torch 2.13.0" in text


def test_a_base_model_of_the_hub_is_named_and_others_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = plan(model="org/base", model_digest="org/base")
    found = metadata((card(capsys, tmp_path, made=hub) / "README.md").read_text())
    assert found["base_model"] == "org/base"
    local = plan(model="org/base", model_digest="00ff")
    found = metadata((card(capsys, tmp_path / "local", made=local) / "README.md").read_text())
    assert "base_model" not in found


def test_evaluation_results_of_the_hub(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (card(capsys, tmp_path, "--dataset", "org/bench-countdown") / EVAL).read_text()
    entries = parse_eval_result_entries(yaml.safe_load(text))
    found = {entry.task_id: entry.value for entry in entries}
    assert "bench_countdown_3_val" not in found and len(found) == 4
    assert found["bench_countdown_3"] == pytest.approx(1 / 6, abs=1e-6)
    assert {entry.dataset_id for entry in entries} == {"org/bench-countdown"}
    assert "2 samples of each of 6 items" in (entries[0].notes or "") and "seed 7" in (entries[0].notes or "")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", entries[0].date or "")
    assert "https://huggingface.co/docs/hub/eval-results" in text and "Replace" not in text
    text = (card(capsys, tmp_path / "unnamed") / EVAL).read_text()
    assert "# Replace OWNER/NAME" in text and yaml.safe_load(text)[0]["dataset"]["id"] == "OWNER/NAME"


def test_hostile_names_stay_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage(name=f"no|method{HOSTILE}", share=1.0, fields={"lr": HOSTILE, f"f{HOSTILE}": 1, "batch_size": 4})
    changes = {"method": HOSTILE, "data": HOSTILE, "model": HOSTILE, "stages": (stage,), "template": HOSTILE}
    folder = card(capsys, tmp_path, made=plan(**changes))
    text = (folder / "README.md").read_text()
    found = metadata(text)
    assert "license" not in found and found["tags"][1] == one_line(stage.name)
    body = text[text.index("\n# ") :]
    assert "\n---\n" not in body and "\nlicense:" not in body
    outside = re.sub(r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)", "", body, flags=re.DOTALL)  # all but code spans and blocks
    assert "<script>" in body and "<" not in outside and "alert" not in outside and "](b)" not in outside
    bars = {len(re.findall(r"(?<!\\)\|", line)) for line in body.splitlines() if line.startswith(("| `lr", "| `` f"))}
    assert bars == {4}, "three cells in every row of hyper-parameters"
    [entry, *_] = yaml.safe_load((folder / EVAL).read_text())
    assert one_line(HOSTILE) in entry["notes"]


@pytest.mark.parametrize(
    ("text", "span"),
    [("a", "`a`"), ("a`b", "`` a`b ``"), ("``", "``` `` ```"), ("a\n\nb\x00\x1bc", "`a b c`"), ("", "` `")],
)
def test_code_spans(text: str, span: str) -> None:
    assert code(text) == span


def test_fences_are_longer_than_those_within() -> None:
    assert fenced("a\n```\nb").startswith("````text\n") and fenced("a") == "```text\na\n```"


def test_without_a_folder_it_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "results")
    before = files(tmp_path)
    code, out, err = call(capsys, "card", plan().run_id, "--results", run.parent)
    assert (code, err) == (0, "") and files(tmp_path) == before
    assert out.startswith("---\n") and f"# --- {EVAL} ---" in out


def test_nothing_is_overwritten_without_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = card(capsys, tmp_path)
    (folder / "README.md").write_text("mine")
    words = ("card", plan().run_id, "--results", tmp_path / "results", "--out", folder)
    code, _, err = call(capsys, *words)
    assert code == 2 and err.count("\n") == 1 and f"'{folder / 'README.md'}' exists" in err and "--force" in err
    assert (folder / "README.md").read_text() == "mine"
    code, _, err = call(capsys, *words, "--force")
    assert (code, err) == (0, "") and (folder / "README.md").read_text().startswith("---\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("sft-countdwn",), "did you mean sft-countdown-tiny-s7-"),
        (("RESULTS",), "is not a run but a folder: expected a run, one of sft-countdown"),
        (("RUN", "--dataset", "mine"), "dataset 'mine' is not valid: expected OWNER/NAME"),
        (("RUN", "--out", "FILE/below"), "is a file, expected a folder"),
        (("BROKEN",), "is corrupted (evals.jsonl has 0 bytes, "),
        (("EMPTIED",), "is corrupted (items.jsonl has 0 items of the val split, expected 4)"),
    ],
)
def test_refusals(tmp_path: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    from bench.store.run_store import RunStore
    from tests.helpers.stored import spent

    run, broken, emptied = (write_run(tmp_path / name) for name in ("results", "broken", "emptied"))
    (broken / "evals.jsonl").write_text("")
    (emptied / "items.jsonl").write_text("")
    (emptied / "done.json").unlink()
    RunStore(emptied).finish(spent(4))
    (tmp_path / "FILE").write_text("")
    places = {"RUN": run, "RESULTS": run.parent, "BROKEN": broken, "EMPTIED": emptied, "FILE": tmp_path / "FILE"}
    before = files(tmp_path)
    given = [str(places.get(word, word)).replace("FILE/", f"{tmp_path / 'FILE'}/") for word in words]
    code, out, err = call(capsys, "card", *given, "--results", tmp_path / "results")
    assert (code, out, err.count("\n")) == (2, "", 1) and message in err, err
    assert files(tmp_path) == before
