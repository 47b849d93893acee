"""Bad input on the command line: one line that names it and what was expected, exit code 2, nothing stored changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.store.files import write_atomic
from bench.store.run_folder import RECORDS
from bench.store.run_store import RunStore
from tests.helpers.commands import bench, call, model_with_defaults
from tests.helpers.runs import NOWHERE_OPTIONS, files

GOOD = {"nums": [1, 2, 3], "target": 6, "answer": "<answer> 1 + 2 + 3 </answer>"}
DATA = {  # broken data files: content, and what the message says
    "corrupt.parquet": (b"PAR1 garbage PAR1", "not readable as parquet"),
    "empty.parquet": (b"", "not readable as parquet"),
    "words.txt": (b"hello", "expected .parquet, .jsonl"),
    "torn.jsonl": (json.dumps(GOOD).encode() + b"\n{torn\n", "line 2 is not JSON"),
    "binary.jsonl": (b"\xff\xfe\n", "line 1 is not JSON"),
    "list.jsonl": (b"[1]\n", "line 1 is not a JSON object"),
    "empty.jsonl": (b"", "has no rows"),
}
ROWS = {  # second rows of a data file, and what the message says
    "no-answer": ({"nums": [1, 2, 3], "target": 6}, "column 'answer' is missing"),
    "no-nums": ({"target": 6, "answer": "6"}, "column 'nums' is missing"),
    "null-target": ({**GOOD, "target": None}, "column 'target' is missing"),
    "number": ({**GOOD, "nums": 5}, "column 'nums' is not a list"),
    "fraction": ({**GOOD, "target": 6.5}, "column 'target' one"),
    "infinite": ({**GOOD, "target": float("inf")}, "column 'target' one"),
    "wrong": ({**GOOD, "target": 7}, "column 'answer' is wrong: equals 6, target is 7"),
    "hint": ({**GOOD, "hint": "1 + 2"}, "column 'hint' must be a list"),
}
EXPECTED = "expected one of"
ARGUMENTS = [  # what is wrong, and what the message says
    (("--methods", "uff"), ("unknown method 'uff'", "or uft", EXPECTED, "grpo")),
    (("--methods", "SFT"), ("unknown method 'SFT'", "did you mean sft", EXPECTED)),
    (("--methods", "sft,uftt"), ("unknown method 'uftt'", "did you mean uft")),
    (("--methods", "uft:r4"), ("variant of uft 'r4'", "did you mean r3?", EXPECTED)),
    (("--methods", "base:r3"), ("variant 'r3' of base", "no variants")),
    (("--methods", "sft:"), ("malformed method 'sft:'", "expected NAME")),
    (("--methods", "sft++grpo"), ("malformed method 'sft++grpo'", "sft@0.3+grpo")),
    (("--methods", "base+grpo"), ("method 'base+grpo'", "cannot be a stage")),
    (("--methods", "sft@0.3+grpo@0.9"), ("method 'sft@0.3+grpo@0.9'", "sum to 1")),
    (("--methods", "sft@0.1.2+grpo"), ("method 'sft@0.1.2+grpo'", "between 0 and 1")),
    (("--methods", ""), ("--methods is empty", "give it a value")),
    (("--methods", ","), ("malformed list ','", "one method in it is empty")),
    (("--task", "countdwn"), ("unknown task 'countdwn'", "did you mean countdown?", EXPECTED)),
    (("--task", ""), ("--task is empty",)),
    (("--level", "7"), ("level of countdown '7'", EXPECTED, "3to4")),
    (("--level", "4", "--data", __file__), ("--level", "--data")),
    (("--template", "compct"), ("template of countdown 'compct'", "did you mean compact?", EXPECTED)),
    (("--device", "gpu"), ("device 'gpu'", "did you mean cpu?")),
    (("--budget", "3parsecs"), ("malformed budget '3parsecs'", "2e14flops")),
    (("--budget", "nan"), ("malformed budget 'nan'",)),
    (("--budget", "0flops"), ("malformed budget '0flops'", "positive")),
    (("--budget", "-3steps"), ("malformed budget '-3steps'", "positive")),
    (("--budget", "10flops"), ("10 flops is smaller than one step of sft", "may cost", "give --batch auto")),
    (("--methods", "sft@0.01+grpo"), ("smaller than one step of sft@0.01+grpo", "its stage sft has 0.1")),
    (("--model", "tyni"), ("model 'tyni' does not exist", "did you mean tiny?", "a directory, or a hub name")),
    (("--model", "/none/such"), ("model '/none/such' does not exist", "a directory, or a hub name")),
    (("--model", "./none"), ("model './none' does not exist",)),
    (("--seeds", "x"), ("malformed seeds 'x'", "0,1,2")),
    (("--seeds", "0"), ("malformed seeds '0'", "at least one")),
    (("--seeds", "1,,2"), ("malformed seeds '1,,2'",)),
    (("--seeds", "1,-2"), ("malformed seeds '1,-2'", "none negative")),
    (("--set", "sfd.lr=1"), ("unknown method 'sfd'", "sft")),
    (("--set", "sft.lrr=1"), ("field of sft 'lrr'", "did you mean lr?", EXPECTED)),
    (("--set", "grpo.lr=1"), ("setting for 'grpo'", "not among the methods sft")),
    (("--set", "sft.lr"), ("malformed setting 'sft.lr'", "METHOD.FIELD=VALUE")),
    (("--set", "sft.lr=fast"), ("sft.lr: 'fast'", "expected a number")),
    (("--set", "sft.lr=nan"), ("sft.lr: 'nan'", "expected a number")),
    (("--set", "sft.lr=-1"), ("sft.lr: '-1.0'", "from 0 on")),
    (("--set", "sft.warmup=2"), ("sft.warmup: '2.0'", "from 0 to 1")),
    (("--set", "sft.weight_decay=-1"), ("sft.weight_decay: '-1.0'", "from 0 on")),
    (("--set", "sft.decay=cosin"), ("sft.decay 'cosin'", "did you mean cosine?", EXPECTED)),
    (("--set", "sft.batch_size=0"), ("sft.batch_size: '0'", "at least 1")),
    (("--set", "sft.num_updates=0"), ("sft.num_updates: '0'", "at least 1")),
    (("--set", "sft.num_updates=1.5"), ("sft.num_updates: '1.5'", "a whole number")),
    (("--set", "sft.betas=0.9"), ("sft.betas: '0.9'", "2 numbers")),
    (("--set", "sft.betas=0.9,1"), ("sft.betas: '(0.9, 1.0)'", "below 1")),
    (("--set", "sft.divisor=half"), ("sft: divisor", "half")),
    (("--data", "/none/such.jsonl"), ("data file '/none/such.jsonl'", "does not exist")),
    (("--results", "FILE/results"), ("FILE/results' is not writable", "Not a directory")),
    (("--results", "FILE"), ("FILE' is not writable",)),
    (("--format", "xml"), ("unknown format 'xml'", EXPECTED, "latex")),
    (("--tusk", "math"), ("No such option: --tusk", "--task", "run --help")),
    (("--test-items", "1"), ("'--test-items'", "2", "run --help")),
    (("--workers", "two"), ("'--workers'", "integer", "run --help")),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_with_defaults(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture
def results(tmp_path):
    """A results folder that holds a run, and a regular file beside it."""
    store = RunStore(tmp_path / "results" / "run")
    write_atomic(store.path / "plan.json", {"seed": 0})
    for record in RECORDS:
        store.append(record, [{"of": record}])
    store.finish({"flops": 1.5})
    (tmp_path / "FILE").write_text("not a folder")
    return tmp_path / "results"


def refused(capsys, results: Path, *arguments: object) -> str:
    """The one line of a refusal, checked in form; what is stored stays as it is."""
    before = files(results.parent)
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, ""), err
    assert err.startswith("error: ") and err.count("\n") == 1 and err.endswith("\n"), err
    assert files(results.parent) == before
    return err


def run_arguments(model: Path, results: Path, *changes: str) -> list[str]:
    options = {"--methods": "sft", "--seeds": "1", "--model": str(model), "--results": str(results)}
    options |= {"--test-items": "4", "--val-items": "4", "--device": "cpu"}
    changes = (*NOWHERE_OPTIONS, *changes)
    options |= dict(zip(changes[::2], changes[1::2]))
    return ["run", "--no-preflight", *(part for pair in options.items() for part in pair)]


@pytest.mark.parametrize(("arguments", "expected"), ARGUMENTS, ids=[" ".join(a) for a, _ in ARGUMENTS])
def test_wrong_arguments(model, results, capsys, arguments, expected):
    arguments = [str(results.parent / a) if a.startswith("FILE") else a for a in arguments]
    err = refused(capsys, results, *run_arguments(model, results, *arguments))
    assert [part for part in expected if part not in err] == []


@pytest.mark.parametrize("name", DATA)
def test_broken_data_files(model, results, capsys, name):
    content, expected = DATA[name]
    path = results.parent / name
    path.write_bytes(content)
    err = refused(capsys, results, *run_arguments(model, results, "--data", str(path)))
    assert f"data file '{path}'" in err and expected in err


@pytest.mark.parametrize("name", ROWS)
def test_data_rows_that_do_not_fit_are_named(model, results, capsys, name):
    row, expected = ROWS[name]
    path = results.parent / "rows.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{json.dumps(row)}\n")
    err = refused(capsys, results, *run_arguments(model, results, "--data", str(path)))
    assert f"data file '{path}': row 1 (counted from 0): " in err and expected in err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("methods", "uff"), ("unknown method 'uff'", "or uft")),
        (("methods", "nonsense"), ("unknown method 'nonsense'", EXPECTED)),
        (("tasks", "show", "count"), ("unknown task 'count'", "did you mean countdown?")),
        (
            ("tasks", "countdown", "--sample", "3"),
            ("unknown command 'countdown' of bench tasks", "did you mean 'bench tasks show countdown --sample 3'?"),
        ),
        (("tasks", "countdwn"), ("did you mean 'bench tasks show countdown'?",)),
        (("tasks", "exprt", "math"), ("did you mean 'bench tasks export math'?",)),
        (("tasks", "nonsense"), ("expected one of list, show, export, check",)),
        (("tasks", "--sample", "3"), ("No such option: --sample", "tasks list --help")),
        (("run",), ("no methods or no tasks given", "--methods uft,sft")),
        (("rum",), ("No such command 'rum'",)),
        (("leaderboard", "--results", "/none"), ("results folder '/none' does not exist", "--results")),
        (("leaderboard", "--split", "train", "--results", "."), ("unknown split 'train'", EXPECTED)),
        (("leaderboard", "--format", "htm", "--results", "."), ("unknown format 'htm'", EXPECTED)),
    ],
)
def test_other_commands(results, capsys, arguments, expected):
    err = refused(capsys, results, *arguments)
    assert [part for part in expected if part not in err] == []


def break_model(path: Path, name: str, content: bytes | None) -> None:
    (path / name).unlink() if content is None else (path / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("config.json", None, "has no config.json"),
        ("config.json", b"{", "config.json"),
        ("bench.json", b"{oops", "bench.json' is not a JSON object"),
        ("bench.json", b"[1]", "bench.json' is not a JSON object"),
        ("bench.json", b"{}", "no default budget: give --budget"),
        ("bench.json", b'{"budget": 5}', "malformed budget '5'"),
        ("tokenizer.json", b"{", "cannot load model"),
    ],
)
def test_broken_model_directories(results, tmp_path, capsys, name, content, expected):
    model = model_with_defaults(tmp_path / "broken")
    break_model(model, name, content)
    assert expected in refused(capsys, results, *run_arguments(model, results))


def test_a_hub_model_that_does_not_exist(results):
    """In a process of its own, because the hub's library reads HF_HUB_OFFLINE once."""
    before = files(results)
    done = bench(*run_arguments(Path("org/none"), results, "--budget", "3e10flops"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: model 'org/none' is not in the cache of the hub")
    assert files(results) == before


def test_a_process_ends_with_one_line_and_no_traceback(results):
    done = bench("run", "--methods", "sfd", "--results", results)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: unknown method 'sfd': did you mean sft")


@pytest.mark.parametrize("arguments", [("models",), ("run", "--methods", "base", "--task", "countdown", "--dry-run")])
def test_a_user_without_a_home_folder(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a container that runs under a number which no account has: pathlib then raises a RuntimeError."""

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    monkeypatch.delenv("BENCH_MODELS", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    line = "error: this user has no home folder: set XDG_CACHE_HOME to a folder for caches\n"
    results = ("--results", tmp_path / "runs") if arguments[0] == "run" else ()
    assert call(capsys, *arguments, *results) == (2, "", line)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert call(capsys, *arguments, *results)[0] == 0
