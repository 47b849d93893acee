"""`bench export` into trackers: their own readers give back the numbers that were stored, and nothing comes twice."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.export.points import Point, final_scores, run_points
from bench.store.run_store import RunStore
from bench.store.stored_run import load_stored
from tests.helpers.commands import COMMAND, ENV
from tests.helpers.stored import plan, spent, write_run

HOSTILE = "`</script><script>alert(1)</script>\n---\n${x}: [|"


def needs(*modules: str) -> Any:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)} (the extra trackers)")


def export(source: Path, out: Path, kind: str, home: Path) -> str:
    """In a process of its own, as trackers read their folders from the environment; its home must stay empty."""
    home.mkdir(exist_ok=True)
    env = {**ENV, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "XDG_CONFIG_HOME": str(home / "config")}
    env = {name: value for name, value in env.items() if not name.startswith(("WANDB", "TRACKIO", "MLFLOW"))}
    command = [*COMMAND, "export", str(source), str(out), "--to", kind]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, cwd=home)
    assert done.returncode == 0, done.stderr
    assert [p for p in home.rglob("*") if p.is_file()] == [], "files outside the folder that was named"
    return done.stdout


def python(script: str, *arguments: object, **env: str) -> Any:
    """What a script prints as JSON, in a process of its own."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "results", plan(model=HOSTILE), text=HOSTILE)


def again(run: Path) -> None:
    """The same plan with other records."""
    line = {"stage": "0:sft", "step": 5, "loss": 7.5, "spent": spent(5)}
    RunStore(run).append("metrics.jsonl", [line])
    (run / "done.json").unlink()
    RunStore(run).finish(spent(5))


def series(found: list[Point], name: str) -> list[tuple[int, float]]:
    return [(p.step, p.values[name]) for p in found if name in p.values]


READ_TENSORBOARD = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
reader = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0}).Reload()
found = {tag: [(e.step, e.value, e.wall_time) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}
print(json.dumps({"scalars": found, "texts": reader.Tags()["tensors"]}))
"""


@needs("tensorboardX", "tensorboard")
def test_tensorboard(run: Path, tmp_path: Path) -> None:
    for words in ("exported", "exported earlier"):
        assert f"{run.name}: {words}" in export(run, tmp_path / "out", "tensorboard", tmp_path / "home")
    stored, folder = load_stored(run), tmp_path / "out" / run.name
    found = python(READ_TENSORBOARD, folder)["scalars"]
    expected = run_points(stored)
    for name in {name for p in expected for name in p.values}:
        assert [step for step, _, _ in found[name]] == [step for step, _ in series(expected, name)]
        assert [v for _, v, _ in found[name]] == pytest.approx([v for _, v in series(expected, name)]), name
    assert [round(at - stored.started, 1) for _, _, at in found["train/loss"]] == [0.5, 1.0, 1.5, 2.0]
    assert [step for step, _, _ in found["by_flops/eval/val/accuracy"]] == [200_000, 400_000]
    assert found["final/test/accuracy"][0][1] == pytest.approx(final_scores(stored)["final/test/accuracy"])
    again(run)
    export(run, tmp_path / "out", "tensorboard", tmp_path / "home")
    assert [v for _, v, _ in python(READ_TENSORBOARD, folder)["scalars"]["train/loss"]][-1] == 7.5


READ_WANDB = """
import json, struct, sys
from pathlib import Path
from wandb.proto import wandb_internal_pb2 as pb


def records(data):  # a log in LevelDB's form after 7 bytes: blocks of 32 KiB; checksum, length, kind (1 to 4), part
    at, whole = 7, b""
    while at < len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        whole = (b"" if kind in (1, 2) else whole) + data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            record = pb.Record()
            record.ParseFromString(whole)
            yield record


def mapping(entries):
    return {e.key or "/".join(e.nested_key): json.loads(e.value_json) for e in entries}


[path] = Path(sys.argv[1]).glob("wandb/offline-run-*/run-*.wandb")
rows, summary, found = [], {}, {"metrics": {}}
for record in records(path.read_bytes()):
    kind = record.WhichOneof("record_type")
    if kind == "run":
        found["run"] = [record.run.run_id, record.run.display_name, record.run.project, record.run.run_group]
        found["config"] = mapping(record.run.config.update)
    elif kind == "history":
        rows.append(mapping(record.history.item))
    elif kind == "summary":
        summary |= mapping(record.summary.update)
    elif kind == "metric":
        found["metrics"][record.metric.name or record.metric.glob_name] = record.metric.step_metric
print(json.dumps({**found, "rows": rows, "summary": summary}))
"""


@needs("wandb")
def test_wandb(run: Path, tmp_path: Path) -> None:
    for words in ("exported", "exported earlier"):
        assert f"{run.name}: {words}" in export(run, tmp_path / "out", "wandb", tmp_path / "home")
    stored, folder = load_stored(run), tmp_path / "out" / run.name
    found = python(READ_WANDB, folder)
    assert found["run"][:3] == [stored.plan.run_id, run.name, "bench"] and found["config"]["model"] == HOSTILE
    assert found["metrics"]["train/*"] == "spent/flops"
    rows = [{k: v for k, v in row.items() if not k.startswith("_")} for row in found["rows"]]
    assert rows == [p.values for p in run_points(stored)]
    assert found["summary"].items() >= final_scores(stored).items()
    again(run)
    export(run, tmp_path / "out", "wandb", tmp_path / "home")
    assert len(python(READ_WANDB, folder)["rows"]) == len(rows) + 1


READ_TRACKIO = """
import json, trackio
from trackio.sqlite_storage import SQLiteStorage
runs = [(r.id, r.name, r.config) for r in trackio.Api().runs("bench")]
print(json.dumps({"runs": runs, "logs": {i: SQLiteStorage.get_logs("bench", n, run_id=i) for i, n, _ in runs}}))
"""


@needs("trackio")
def test_trackio(run: Path, tmp_path: Path) -> None:
    other = write_run(run.parent, plan(seed=8))
    for words in ("exported", "exported earlier"):
        told = export(run.parent, tmp_path / "out", "trackio", tmp_path / "home")
        assert f"{run.name}: {words}" in told and f"{other.name}: {words}" in told
    stored = load_stored(run)
    found = python(READ_TRACKIO, TRACKIO_DIR=str(tmp_path / "out"))
    configs = {number: config for number, _, config in found["runs"]}
    assert len(found["runs"]) == 2 and configs[stored.plan.run_id]["model"] == HOSTILE
    expected = [(p.step, p.values) for p in run_points(stored)]
    expected.append((4, final_scores(stored)))
    logs = found["logs"][stored.plan.run_id]
    assert [(log.pop("step"), {k: v for k, v in log.items() if k != "timestamp"}) for log in logs] == expected
    again(run)
    export(run.parent, tmp_path / "out", "trackio", tmp_path / "home")
    found = python(READ_TRACKIO, TRACKIO_DIR=str(tmp_path / "out"))
    logs = found["logs"][stored.plan.run_id]
    assert len(found["runs"]) == 2 and len(logs) == len(expected) + 1
    assert [log["train/loss"] for log in logs if "train/loss" in log][-1] == 7.5


READ_MLFLOW = """
import json, sys
from mlflow import MlflowClient
client = MlflowClient(tracking_uri=f"sqlite:///{sys.argv[1]}/mlflow.db")
experiment = client.get_experiment_by_name("bench")
found = []
for run in client.search_runs([experiment.experiment_id]):
    history = {n: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, n)] for n in run.data.metrics}
    found.append({"name": run.info.run_name, "params": run.data.params, "tags": run.data.tags, "history": history})
print(json.dumps(found))
"""


@needs("mlflow", "sqlalchemy", "alembic")
@pytest.mark.slow
def test_mlflow(run: Path, tmp_path: Path) -> None:
    for words in ("exported", "exported earlier"):
        assert f"{run.name}: {words}" in export(run, tmp_path / "out", "mlflow", tmp_path / "home")
    stored = load_stored(run)
    [found] = python(READ_MLFLOW, tmp_path / "out")
    assert found["name"] == run.name and found["tags"]["bench.run_id"] == stored.plan.run_id
    assert found["params"]["model"] == HOSTILE and found["params"]["stage0.lr"] == "0.001"
    expected = run_points(stored)
    for name in {name for p in expected for name in p.values}:
        assert sorted(map(tuple, found["history"][name])) == sorted(set(series(expected, name))), name
    assert found["history"]["final/test/accuracy"] == [[4, final_scores(stored)["final/test/accuracy"]]]
    again(run)
    export(run, tmp_path / "out", "mlflow", tmp_path / "home")
    [found] = python(READ_MLFLOW, tmp_path / "out")
    assert [5, 7.5] in found["history"]["train/loss"]
