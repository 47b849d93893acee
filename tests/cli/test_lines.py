"""Input that once ended in a traceback, in hours of work or in all memory: one clear line, before anything starts."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.plan.spec import MAX_ROWS
from bench.store.targets import check_file, check_folder, write_file
from bench.study.jobs import MAX_RUNS, MAX_SEEDS
from bench.types import UserError
from tests.cli.test_errors import GOOD, refused, run_arguments
from tests.helpers import stored, synthetic
from tests.helpers.commands import call, model_with_defaults
from tests.helpers.runs import files
from tests.helpers.timing import timed

DEEP = b"[" * 200_000 + b"]" * 200_000
DEEP_OBJECTS = b'{"a":' * 200_000 + b"1" + b"}" * 200_000
READ_BY_DIFF = ("plan.json", "env.json")
FAIRLY_DEEP = b"[" * 500 + b"]" * 500  # Python reads it, and would fail when it is written or walked


@pytest.fixture(scope="module")
def model(tmp_path_factory: Any) -> Path:
    return model_with_defaults(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


# --- nested too deep -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [DEEP, DEEP_OBJECTS, FAIRLY_DEEP], ids=["lists", "objects", "fairly"])
def test_deep_rows_of_a_data_file(model: Path, results: Path, capsys: Any, content: bytes) -> None:
    path = results.parent / "rows.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b"\n" + content + b"\n")
    err = refused(capsys, results, *run_arguments(model, results, "--data", str(path)))
    assert f"data file '{path}': line 2 is not JSON" in err


@pytest.mark.parametrize("content", [DEEP, DEEP_OBJECTS, FAIRLY_DEEP], ids=["lists", "objects", "fairly"])
@pytest.mark.parametrize("name", ["done.json", "plan.json", "env.json", "evals.jsonl"])
def test_a_deep_record_of_one_run_leaves_the_others_shown(
    tmp_path: Path, capsys: Any, name: str, content: bytes
) -> None:
    store = tmp_path / "runs"
    paths = [synthetic.write_run(store, method) for method in ("sft", "uft")]
    (paths[1] / name).write_bytes(content + b"\n")
    before = files(store)
    code, out, err = call(capsys, "leaderboard", "--results", store)
    assert code == 0 and "sft" in out and "Traceback" not in err
    assert f"run '{paths[1]}' is corrupted" in err and err.count("\n") == 1
    for words in (("show", paths[1]), *([("diff", *paths)] if name in READ_BY_DIFF else []), ("card", paths[1])):
        code, out, err = call(capsys, *words)
        assert (code, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1, err
    for words in (("plot", tmp_path / "x.svg"), ("claim", "sft > base"), ("report", "--out", tmp_path / "r.html")):
        _, out, err = call(capsys, *words, "--results", store)
        assert "Traceback" not in err
    assert files(store) == before


def test_deep_files_besides_runs(model: Path, results: Path, tmp_path: Path, capsys: Any) -> None:
    claims, trials = tmp_path / "claims.yaml", tmp_path / "trials.json"
    claims.write_bytes(b"[" * 5_000)
    trials.write_bytes(DEEP)
    assert "nested too deep" in refused(capsys, results, "claim", "--file", claims, "--results", results)
    assert "cannot be read" in refused(capsys, results, "tune", "--show", trials)
    folder = tmp_path / "ablations"
    folder.mkdir()
    (folder / "report.json").write_bytes(DEEP)
    assert "cannot be read" in refused(capsys, results, "report", "--ablations", folder, "--results", results)


@pytest.mark.parametrize("name", ["config.json", "bench.json", "tokenizer.json", "tokenizer_config.json"])
def test_deep_files_of_a_model(results: Path, tmp_path: Path, capsys: Any, name: str) -> None:
    path = model_with_defaults(tmp_path / "deep")
    (path / name).write_bytes(DEEP_OBJECTS)
    err = refused(capsys, results, *run_arguments(path, results, "--budget", "10steps"))
    assert str(path) in err


# --- sizes -----------------------------------------------------------------------------------------------------------

BILLION = "1000000000"
TOO_MUCH = [
    (("--seeds", BILLION), f"at most {MAX_SEEDS} seeds"),
    (("--seeds", ",".join(map(str, range(MAX_SEEDS + 1)))), f"at most {MAX_SEEDS} seeds"),
    (("--seeds", "1,1"), "given twice"),
    (("--seeds", str(2**70) + ",1"), "none above"),
    (("--methods", "sft,grpo,uft,dft,base,asft,otr,raft,hpt,srft,luffy", "--seeds", "1000"), f"the {MAX_RUNS} of one"),
    (("--set", f"sft.batch_size={BILLION}"), "sft.batch_size: '1000000000' is not valid: expected at most"),
    (("--set", f"sft.num_updates={BILLION}"), "sft.num_updates"),
    (("--methods", "grpo", "--set", f"grpo.group_size={BILLION}"), "grpo.group_size"),
    (("--methods", "grpo", "--set", "grpo.group_size=100000"), f"are more than {MAX_ROWS}"),
    (("--methods", "s3ft", "--set", "s3ft.num_samples=50000"), f"are more than {MAX_ROWS}"),
    (("--train-size", BILLION), "'--train-size'"),
    (("--max-new-tokens", BILLION), "'--max-new-tokens'"),
    (("--max-new-tokens", "100000"), "has a context of"),
    (("--micro-batch-tokens", BILLION), "'--micro-batch-tokens'"),
    (("--threads", BILLION), "'--threads'"),
    (("--threads", "0"), "'--threads'"),
    (("--devices-per-run", "0"), "'--devices-per-run'"),
    (("--devices-per-run", "2", "--lora", "4"), "--devices-per-run 2 does not go with --lora"),
    (("--devices-per-run", "2", "--optimizer", "adamw8bit"), "with --optimizer adamw8bit: expected adamw"),
    (("--workers", BILLION), "'--workers'"),
    (("--test-items", BILLION), "'--test-items'"),
    (("--test-samples", BILLION), "'--test-samples'"),
    (("--ood-items", "-1"), "'--ood-items'"),
    (("--budget", "1e300flops"), "up to 1e+30"),
    (("--budget", "0.5steps"), "the smallest budget is 1steps"),
    (("--methods", "sft+grpo", "--budget", "3rollouts"), "would never end for a method that samples none"),
    (("--methods", "grpo", "--budget", "3rollouts"), "the smallest budget is 8rollouts"),
    (("--methods", "sft@0.25+grpo", "--budget", "2steps"), "the smallest budget is 4steps"),
]


@pytest.mark.parametrize(("changes", "expected"), TOO_MUCH, ids=[" ".join(c)[:60] for c, _ in TOO_MUCH])
def test_too_much_and_too_little(
    model: Path, results: Path, capsys: Any, changes: tuple[str, ...], expected: str
) -> None:
    arguments = run_arguments(model, results, *changes)
    err, seconds = timed(lambda: refused(capsys, results, *arguments, "--dry-run"))
    assert expected in err and seconds < 20


def test_the_smallest_budget_is_one_that_does_a_step(model: Path, results: Path, capsys: Any) -> None:
    err = refused(capsys, results, *run_arguments(model, results, "--budget", "10flops"))
    smallest = err.partition("smallest budget is ")[2].partition(",")[0].strip()
    _, out, err = call(capsys, *run_arguments(model, results, "--budget", smallest), "--dry-run")
    assert "1 runs to do" in out, err
    value = float(smallest.removesuffix("flops"))
    less = run_arguments(model, results, "--budget", f"{0.99 * value:g}flops")
    assert "is smaller than one step" in refused(capsys, results, *less)


GRID = [word for field in ("lr", "demo_coef", "kl_coef") for word in ("--vary", f"{field}=VALUES")]
SAME_OF_OTHERS = [
    ("plan", "--methods", "sft", "--seeds", BILLION),
    ("tune", "--methods", "sft", "--trials", BILLION),
    ("tune", "--methods", "sft", "--trials", "1000", "--seeds", "1000"),
    ("ablate", "uft", "--vary", "demo_coef=0,1", "--seeds", BILLION),
    ("ablate", "uft", "--vary", f"group_size=1,{BILLION}"),
    ("ablate", "uft", "--design", "grid", *GRID),
    ("tasks", "show", "countdown", "--sample", BILLION),
    ("tasks", "export", "countdown", "rows", "--to", "trl", "--items", BILLION),
    ("parity", "--steps", BILLION),
    ("pretrain", "model", "--scale", "nan"),
    ("pretrain", "model", "--scale", "inf"),
    ("report", "--items", BILLION),
]


@pytest.mark.parametrize("words", SAME_OF_OTHERS, ids=lambda words: " ".join(words)[:50])
def test_other_commands_bound_their_numbers_too(
    results: Path, capsys: Any, monkeypatch: Any, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(results)
    values = ",".join(f"{n / 1000:g}" for n in range(1, 31))
    refused(capsys, results, *(word.replace("VALUES", values) for word in words))


# --- options that were taken silently -----------------------------------------------------------------------------

SILENT = [
    (("--budget", ""), "--budget is empty"),
    (("--level", " "), "--level is empty"),
    (("--data", ""), "--data is empty"),
    (("--model", ""), "--model is empty"),
    (("--results", ""), "--results is empty"),
    (("--columns", "answer=solution"), "--columns is about a data file"),
    (("--methods", "sft,,grpo"), "one method in it is empty"),
    (("--methods", "sft,sft"), "method 'sft' is given twice"),
    (("--task", "countdown,countdown"), "task 'countdown' is given twice"),
]


@pytest.mark.parametrize(("changes", "expected"), SILENT, ids=[" ".join(c) for c, _ in SILENT])
def test_what_was_taken_silently(
    model: Path, results: Path, capsys: Any, changes: tuple[str, ...], expected: str
) -> None:
    assert expected in refused(capsys, results, *run_arguments(model, results, *changes))


CONTRADICTIONS = [
    (("--skip-broken",), "--skip-broken is about a data file"),
    (("--json", "--format", "csv"), "--json and --format csv are two formats"),
    (("--set", "sft.lr=1", "--set", "sft.lr=2"), "sft.lr is set twice, to 1 and to 2"),
    (("--budget", "10steps", "--budget", "20steps"), "--budget is given 2 times"),
    (("--preflight", "--no-preflight"), "is given"),
]


@pytest.mark.parametrize(("words", "expected"), CONTRADICTIONS, ids=[" ".join(w) for w, _ in CONTRADICTIONS])
def test_contradictions(model: Path, results: Path, capsys: Any, words: tuple[str, ...], expected: str) -> None:
    assert expected in refused(capsys, results, *run_arguments(model, results), *words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("tune", "--show", "x.json", "--methods", "sft"), "expected one"),
        (("ablate", "uft", "--suite", "paper", "--report-only", "--dry-run"), "expected one of them"),
        (("ablate", "uft", "--suite", "paper", "--split", "tset"), "unknown split 'tset': did you mean test"),
        (("show", "x", "--split", "val"), "add --item"),
        (("leaderboard", "--json", "--format", "csv"), "two formats"),
        (("tasks", "check", "countdown", "--data", "x", "--columns", "answer=a,answer=b"), "named twice"),
    ],
)
def test_contradictions_of_other_commands(results: Path, capsys: Any, words: Any, expected: str) -> None:
    assert expected in refused(capsys, results, *words)


# --- what is written -------------------------------------------------------------------------------------------------


def test_paths_that_cannot_be_written(tmp_path: Path, capsys: Any) -> None:
    store = tmp_path / "runs"
    run = synthetic.write_run(store, "sft")
    one = stored.write_run(tmp_path / "one")
    (tmp_path / "file").write_text("kept")
    (tmp_path / "x.svg").mkdir()
    folder, inside = tmp_path, tmp_path / "file" / "in" / "it.html"
    read = ("--results", store)
    for words in (
        *(("report", "--out", path, *read) for path in (folder, inside)),
        *(("report", "--figures", path, *read) for path in (tmp_path / "file", inside)),
        *(("plot", path, *read) for path in (tmp_path / "x.svg", tmp_path / "file" / "x.svg")),
        *(("card", one, "--out", path) for path in (tmp_path / "file", inside)),
        *(("export", one, path) for path in (tmp_path / "file", inside)),
        *(("tasks", "export", "countdown", path, "--to", "trl") for path in (tmp_path / "file", inside)),
        *(("parity", "--out", path) for path in (tmp_path / "file", inside)),
        *(("pretrain", path) for path in (tmp_path / "file", inside)),
        ("tune", "--methods", "sft", "--plot", tmp_path / "x.svg"),
        ("ablate", "uft", "--suite", "paper", "--out", tmp_path / "file"),
        ("preflight", "--results", tmp_path / "file"),
        ("report", "--out", tmp_path / ("n" * 300), *read),
    ):
        refused(capsys, run, *words)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_folder_without_permission_or_a_read_only_one(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    """``access`` tells both, for root too where a file system is read-only."""
    synthetic.write_run(tmp_path / "runs", "sft")
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    store, out = tmp_path / "runs", tmp_path / "new" / "r.html"
    err = refused(capsys, store, "report", "--out", out, "--results", store)
    assert f"no permission for '{tmp_path}', or a read-only file system" in err


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EIO])
def test_a_disk_that_fails_while_writing_keeps_the_old_file(
    tmp_path: Path, capsys: Any, monkeypatch: Any, code: int
) -> None:
    synthetic.write_run(tmp_path / "runs", "sft")
    out = tmp_path / "report.html"
    out.write_text("old")

    def fail(*_: Any) -> None:
        raise OSError(code, os.strerror(code), str(out))

    monkeypatch.setattr(os, "fsync", fail)
    code, _, err = call(capsys, "report", "--out", out, "--results", tmp_path / "runs")
    assert code == 2 and err.count("\n") == 1 and f"'{out}'" in err and out.read_text() == "old"


def test_targets(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_file(file, "one")
    inside = file / "x"
    for check, path in ((check_file, tmp_path), (check_folder, file), (check_file, inside), (check_folder, inside)):
        with pytest.raises(UserError, match=str(path)):
            check(path)
    check_file(file)
    check_file(tmp_path / "new" / "x")
    check_folder(tmp_path / "new" / "folder")
    (tmp_path / "link").symlink_to(file)
    write_file(tmp_path / "link", "two")
    assert file.read_text() == "two" and (tmp_path / "link").is_symlink()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "link"]
    check_file(Path("/dev/null"))
    write_file(Path("/dev/null"), "nothing")


# --- models ----------------------------------------------------------------------------------------------------------


def pickled(path: Path) -> None:
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


def without_weights(path: Path) -> None:
    (path / "model.safetensors").unlink()


def without_tokenizer(path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (path / name).unlink()


def gguf(path: Path) -> None:
    for file in path.iterdir():
        file.unlink()
    (path / "model-q4.gguf").write_bytes(b"GGUF")


def adapter(path: Path) -> None:
    (path / "config.json").rename(path / "adapter_config.json")


def spoil(value: float) -> Any:
    def change(path: Path) -> None:
        weights = load_file(path / "model.safetensors")
        name = next(name for name in weights if "mlp" in name)
        weights[name][0, 0] = value
        save_file(weights, path / "model.safetensors", {"format": "pt"})

    return change


def torn(path: Path) -> None:
    content = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(content[: len(content) // 2])


def small_embedding(path: Path) -> None:
    config = json.loads((path / "config.json").read_text())
    weights = load_file(path / "model.safetensors")
    config["vocab_size"] = 20
    kept = {k: v[:20].clone() if "embed" in k or "lm_head" in k else v for k, v in weights.items()}
    (path / "config.json").write_text(json.dumps(config))
    save_file(kept, path / "model.safetensors", {"format": "pt"})


def odd_config(path: Path) -> None:
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "num_attention_heads": "many"}))


BROKEN = [
    (pickled, "as a pickle"),
    (without_weights, "no weights"),
    (without_tokenizer, "has no tokenizer"),
    (gguf, "in GGUF alone"),
    (adapter, "it is an adapter: merge it"),
    (spoil(float("nan")), "NaN or infinite"),
    (spoil(float("inf")), "NaN or infinite"),
    (torn, "model.safetensors"),
    (small_embedding, "its embedding only 20 rows"),
    (odd_config, "cannot load model"),
]


@pytest.mark.parametrize(("damage", "expected"), BROKEN, ids=[f"{n}-{e}" for n, (_, e) in enumerate(BROKEN)])
def test_models_that_cannot_be_trained(results: Path, tmp_path: Path, capsys: Any, damage: Any, expected: str) -> None:
    path = model_with_defaults(tmp_path / "broken")
    damage(path)
    err = refused(capsys, results, *run_arguments(path, results, "--budget", "10steps", "--max-new-tokens", "24"))
    assert expected in err and str(path) in err


def test_a_model_that_is_a_file(results: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert "is a file: expected the directory" in refused(
        capsys, results, *run_arguments(tmp_path / "m.gguf", results, "--budget", "10steps")
    )


def test_weights_of_the_hub_are_checked_when_they_are_loaded(tmp_path: Path) -> None:
    """Only a directory's files can be read before a run; every other way to a model passes here."""
    from bench.engine.model_faults import check_finite

    good = torch.ones(2)
    check_finite("m", [("a", good), ("b", torch.ones(2, dtype=torch.int64))])
    with pytest.raises(UserError, match="model 'm' has weights that are NaN or infinite, in b"):
        check_finite("m", [("a", good), ("b", good / 0)])
