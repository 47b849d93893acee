"""Models of the hub, asked over HTTP by huggingface_hub's own client: names become commits, commits become folders."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from bench.models import hub as hub_module
from bench.models import locate
from bench.models.importing import add_model
from bench.study.jobs import Spec, plan_jobs
from bench.types import UserError
from tests.helpers.commands import call, runs_here
from tests.helpers.hub import Hub, hub_here, point_to
from tests.helpers.runs import SHORT_OPTIONS, make_job, write_model

OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    commits = {OLD: write_model(tmp_path / "old"), NEW: write_model(tmp_path / "new", context=300)}
    (commits[NEW] / "pytorch_model.bin").write_bytes(b"never fetched")
    monkeypatch.setenv("BENCH_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    hub_module.resolve.cache_clear()
    with hub_here(Hub("org/small", commits, OLD), tmp_path / "cache", monkeypatch) as served:
        yield served
    hub_module.resolve.cache_clear()


def test_a_name_is_a_commit_and_its_weights_come_when_they_are_needed(hub: Hub) -> None:
    model = locate("org/small")
    assert (model.name, model.commit, model.digest) == ("org/small", OLD, f"org/small@{OLD}")
    assert Path(model.path).name == OLD and not list(Path(model.path).glob("*.safetensors"))
    assert f"{OLD}/config.json" in hub.downloaded and f"{OLD}/model.safetensors" not in hub.downloaded
    assert model.fetch().path == model.path and list(Path(model.path).glob("*.safetensors"))
    pinned = locate(f"org/small@{NEW}").fetch()
    assert (pinned.name, pinned.commit) == ("org/small", NEW)
    assert not any(file.endswith(".bin") for file in hub.downloaded)


def test_another_commit_is_another_run_and_a_revision_is_only_its_commit(hub: Hub, tmp_path: Path) -> None:
    ids = {}
    for text in ("org/small", f"org/small@{OLD}", f"org/small@{NEW}"):
        job = make_job(Path(text), tmp_path / "runs", "sft")
        assert job.plan.model == "org/small" and Path(job.model_path).is_dir()
        ids[text] = job.plan.run_id
    assert ids["org/small"] == ids[f"org/small@{OLD}"] != ids[f"org/small@{NEW}"]


def test_a_wrong_option_costs_no_download(hub: Hub) -> None:
    with pytest.raises(UserError, match="unknown method"):
        plan_jobs(Spec(["sff"], ["countdown"], model="org/small", budget="3steps"))
    assert not any(file.endswith("safetensors") for file in hub.downloaded)


def test_without_the_hub_the_cache_serves_the_commit_that_it_knows(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    locate("org/small").fetch()
    for change in ("offline", "unreachable", "out of order"):
        hub_module.resolve.cache_clear()
        hub.asked, hub.main = 0, NEW  # what the hub would say now
        with monkeypatch.context() as patch:
            if change == "offline":
                patch.setattr(constants, "HF_HUB_OFFLINE", True)
            elif change == "unreachable":
                point_to("http://127.0.0.1:9", patch)
            else:
                hub.refusal = 503
            assert locate("org/small").fetch().commit == OLD
        hub.refusal = None
        assert f"is taken from the cache, {OLD[:8]}" in capsys.readouterr().err
        assert hub.asked == 0 or change == "out of order"
    hub_module.resolve.cache_clear()
    assert locate("org/small").commit == NEW


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("org/none", "model 'org/none' cannot be had from the hub: there is none of this name"),
        ("org/small@v9", "model 'org/small@v9' cannot be had from the hub: it has no such revision"),
        (f"org/small@{'c' * 40}", "cannot be had from the hub"),
    ],
)
def test_what_the_hub_does_not_have_is_one_line(
    text: str, line: str, hub: Hub, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (("run", "--methods", "sft", "--model", text), ("models", "add", text)):
        code, out, err = call(capsys, *command)
        assert code == 2 and out == "" and line in err and err.count("\n") == 1, err


def test_neither_hub_nor_cache(hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for offline, endpoint in ((True, constants.ENDPOINT), (False, "http://127.0.0.1:9")):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        point_to(endpoint, monkeypatch)
        for command in (("run", "--methods", "sft", "--model", "org/small"), ("models", "add", "org/small")):
            code, _, err = call(capsys, *command)
            assert code == 2 and err.count("\n") == 1 and "is not in the cache of the hub" in err


def test_a_run_has_its_commit_in_plan_show_and_passport(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs_here(monkeypatch)
    options = ("--set", "sft.batch_size=4", "--level", "3", "--template", "compact", "--train-size", "40")
    sizes = ("--max-new-tokens", "24", "--test-items", "8", "--val-items", "8", "--device", "cpu")
    command = (
        "run",
        "--methods",
        "sft",
        "--seeds",
        "1",
        "--model",
        "org/small",
        "--budget",
        "2steps",
        "--results",
        "r",
    )
    code, _, err = call(capsys, *command, *options, *sizes, *SHORT_OPTIONS)
    assert code == 0, err
    (run,) = (path for path in Path("r").iterdir() if (path / "plan.json").exists())
    assert json.loads((run / "plan.json").read_text())["model_digest"] == f"org/small@{OLD}"
    assert json.loads((run / "env.json").read_text())["stack"]["model"] == f"org/small@{OLD}"
    assert re.search(rf"  commit +{OLD}\n", call(capsys, "show", run)[1])
    assert "base_model: org/small" in call(capsys, "card", run)[1]


def test_an_imported_hub_model_is_its_files(hub: Hub, tmp_path: Path) -> None:
    folder = add_model(f"org/small@{NEW}")
    origin = json.loads((folder / "bench.json").read_text())["origin"]
    assert origin == {"source": f"org/small@{NEW}", "kind": "hub", "commit": NEW}
    weights = "model.safetensors"
    assert (folder / weights).read_bytes() == (tmp_path / "new" / weights).read_bytes()
    assert (locate("small").name, locate("small").commit) == ("small", "")


def test_a_gated_model_says_what_to_do(hub: Hub) -> None:
    hub.refusal, hub.reason = 403, "GatedRepo"
    with pytest.raises(UserError, match="its terms have to be accepted on its page, then 'hf auth login'"):
        locate("org/small")
