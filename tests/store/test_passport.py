"""Passports: what identifies a stack, how checks are kept, and how the leaderboard marks rows by them."""

from __future__ import annotations

import ast
import csv
import inspect
import io
import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.analysis import metrics
from bench.analysis.board import leaderboard
from bench.audit import stack
from bench.engine import evaluate
from bench.plan import registry
from bench.plan.spec import Stage, resolve
from bench.report.formats import render_board
from bench.stats.pass_rates import pass_at_k
from bench.store import passport
from bench.store.order import order_for
from tests.helpers.imports import PACKAGES, ROOT, imports, packages_above
from tests.helpers.runs import make_job, write_model
from tests.report.test_formats import record

KEY = "0123456789ab"


def one(name: str, method: str = "", passed: bool = True, task: str = "countdown") -> dict[str, Any]:
    """A check, of a method (NAME or NAME:VARIANT) with the settings that it has by default."""
    found = {"name": name, "method": method, "task": task, "passed": passed, "measured": 0.0, "tolerance": 0.0}
    return {**found, "settings": passport.method_settings(stage(method).fields)} if method else found


def stage(label: str, **changes: Any) -> Stage:
    name, _, variant = label.partition(":")
    return Stage(name=name, share=1.0, fields=resolve(name, variant or None, {}, changes))


def made(*found: dict[str, Any], key: str = KEY) -> dict[str, Any]:
    return {"key": key, "stack": {}, "checks": list(found), "seconds": 1.0, "created": "now"}


# --- identity ----------------------------------------------------------------------------------------------------


WORKER = "bench/engine/worker.py"
STARTS_A_WORKER = """
import sys
from bench.engine import worker
root = sys.argv.pop(1)
code = worker.main()
files = [getattr(module, "__file__", None) for module in sys.modules.values()]
print(*[file for file in files if file and file.startswith(root)], sep="\\n")
sys.exit(code)
"""


def programs(file: Path) -> list[Path]:
    """Files beside this one that it names in a string: it starts them as processes."""
    texts = [n.value for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.Constant)]
    return [file.parent / t for t in texts if isinstance(t, str) and t.endswith(".py") and (file.parent / t).is_file()]


def reachable() -> set[str]:
    """All files that a worker can load: by its imports, lazy ones too, by the registry, and as other processes."""
    waiting = [ROOT / WORKER]
    waiting += [
        ROOT / kind / f"{stem}.py" for kind in ("methods", "tasks") for stem in registry.built_in(kind).values()
    ]
    files: set[Path] = set()
    while waiting:
        file = waiting.pop()
        if file not in files:
            files.add(file)
            waiting += [*imports(file), *packages_above(file), *programs(file)]
    return {file.relative_to(ROOT).as_posix() for file in files}


def test_the_source_digest_covers_what_a_worker_can_load_and_nothing_else() -> None:
    assert set(passport.source_files(ROOT, passport.RUN_CODE)) == reachable()
    known = {"bench/stats/pass_rates.py", "bench/stats/clusters.py", "tasks/_math/compare.py", "methods/uft.py", WORKER}
    assert known <= reachable()


def test_a_worker_loads_nothing_else(tmp_path: Path) -> None:
    """What a real run has loaded when it ends, against the list that was read from the files."""
    job = make_job(write_model(tmp_path / "model"), tmp_path / "runs", "uft", "2steps")
    order = order_for(job, "none", []).write()
    command = [sys.executable, "-c", STARTS_A_WORKER, str(ROOT), str(order)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:  # type: ignore[call-overload]
        out, err = process.stdout.read().decode(), process.stderr.read().decode()
    assert process.returncode == 0 and job.done, err
    ours = [Path(line).relative_to(ROOT) for line in out.splitlines()]
    loaded = {file.as_posix() for file in ours if file.parts[0] in PACKAGES}
    assert loaded <= set(passport.source_files(ROOT, passport.RUN_CODE))
    assert {WORKER, "bench/engine/trainer.py", "methods/uft.py", "tasks/countdown.py"} <= loaded


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "tiny"))
    return tmp_path


def comment(file: Path) -> None:
    file.write_text(file.read_text() + "# a remark\n")


@pytest.mark.parametrize(
    "file",
    [
        *("bench/report/safe_text.py", "bench/report/html/page.py", "bench/analysis/board.py", "bench/cli/run.py"),
        *("bench/export/card.py", "bench/study/trials.py", "bench/stats/intervals.py", "bench/engine/pretrain.py"),
        *("bench/store/stored_run.py", "bench/audit/stack.py", "bench/__main__.py"),
    ],
)
def test_what_cannot_change_a_run_leaves_its_passport_valid(copy: Path, file: str) -> None:
    before = passport.source_digest(copy)
    comment(copy / file)
    (copy / "tasks" / "notes.txt").write_text("no code")
    assert passport.source_digest(copy) == before


@pytest.mark.parametrize(
    "file",
    [
        *("bench/types.py", "bench/seeds.py", "bench/plan/spec.py", "bench/engine/sampler.py", "methods/common.py"),
        *("tasks/_math/compare.py", "tasks/_math/values.py", "tasks/skills.py"),
    ],
)
def test_what_can_change_a_run_makes_another_stack(copy: Path, file: str) -> None:
    seen = [passport.source_digest(copy)]
    comment(copy / file)
    seen.append(passport.source_digest(copy))
    (copy / file).rename(copy / file.replace(".py", "_moved.py"))
    seen.append(passport.source_digest(copy))
    assert len(set(seen)) == 3


def test_another_pass_at_k_makes_another_stack(copy: Path) -> None:
    """Records hold it, and tables compute it by the same function."""
    before, file = passport.source_digest(copy), copy / inspect.getfile(pass_at_k).removeprefix(f"{ROOT}/")
    text = inspect.getsource(pass_at_k)
    changed = text.replace("k:", "k :", 1)
    assert evaluate.pass_at_k is metrics.pass_at_k is pass_at_k
    file.write_text(file.read_text().replace(text, changed))
    assert changed in file.read_text() and passport.source_digest(copy) != before


def test_the_checks_have_a_version_of_their_own(copy: Path) -> None:
    source, checks = passport.source_digest(copy), passport.checks_digest(copy)
    comment(copy / "bench" / "audit" / "checks_values.py")
    assert passport.source_digest(copy) == source and passport.checks_digest(copy) != checks


def test_checks_made_by_another_version_vouch_in_tables_but_not_before_new_runs(tmp_path: Path) -> None:
    checks = [{**one(*names), "code": "today"} for names in (("mask",), ("micro-batches sft", "sft"))]
    passport.save_passport(tmp_path, made(*checks))
    state = partial(passport.stages_state, tmp_path, [KEY], "countdown", [stage("sft")])
    assert (state(), state("today"), state("tomorrow")) == ("passed", "passed", "other methods")
    passport.save_passport(tmp_path, made(one("mask"), one("micro-batches sft", "sft")))  # from before there were any
    assert (state(), state("today")) == ("passed", "other methods")


def test_the_source_digest_follows_the_modules_of_other_packages(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "kit").mkdir()
    (tmp_path / "kit" / "mine.py").write_text("raise RuntimeError('not to be imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    seen = [passport.source_digest()]
    for module in ("kit.mine", "kit.absent", "absent"):
        found = {"mine": (registry.Source(module, "kit", "1.0"),)}
        monkeypatch.setattr(registry, "installed", lambda package, found=found: found if package == "methods" else {})
        seen.append(passport.source_digest())
    monkeypatch.setattr(registry, "installed", lambda package: {"mine": (registry.Source("kit.mine", "kit", "1.0"),)})
    seen.append(passport.source_digest())
    (tmp_path / "kit" / "mine.py").write_text("x = 2\n")
    seen.append(passport.source_digest())
    assert len(set(seen)) == len(seen) == 6


def test_the_identity_names_source_model_device_and_versions() -> None:
    stack = passport.stack_identity("abc", "cpu")
    assert set(stack) == {"source", "model", "device", "python", *passport.LIBRARIES}
    assert (stack["model"], stack["device"], stack["source"]) == ("abc", "cpu", passport.source_digest())
    keys = {passport.stack_key({**stack, name: "other"}) for name in stack}
    assert len(keys | {passport.stack_key(stack)}) == len(stack) + 1


# --- merging and states ------------------------------------------------------------------------------------------


def test_a_repeated_preflight_keeps_the_other_methods_and_renews_its_own(tmp_path: Path) -> None:
    passport.save_passport(
        tmp_path, made(one("mask", passed=False), one("micro-batches sft", "sft"), one("mask", task="math"))
    )
    first = passport.read_passport(tmp_path, KEY)
    assert first is not None and (first["passed"], first["methods"]) == (False, ["sft"])
    passport.save_passport(tmp_path, made(one("mask"), one("micro-batches grpo", "grpo")))
    second = passport.read_passport(tmp_path, KEY)
    assert second is not None and (second["passed"], second["methods"]) == (True, ["grpo", "sft"])
    assert [(c["name"], c["task"]) for c in second["checks"]] == [
        *(("mask", "countdown"), ("mask", "math")),
        *(("micro-batches grpo", "countdown"), ("micro-batches sft", "countdown")),
    ]


def test_states_of_a_run(tmp_path: Path) -> None:
    def state(keys: list[str], *methods: str) -> str:
        return passport.stages_state(tmp_path, keys, "countdown", [stage(name) for name in methods])

    assert state([], "sft") == state([KEY], "sft") == "none"
    passport.save_passport(tmp_path, made(one("mask"), one("micro-batches sft", "sft"), one("x", "grpo", passed=False)))
    assert state([KEY], "sft") == state([KEY]) == "passed"
    assert state([KEY], "sft", "uft") == "other methods"
    assert state([KEY], "grpo") == state([KEY], "sft", "grpo") == "failed"
    assert state([KEY, "beef"], "sft") == "none"  # it began on a stack that nobody checked
    passport.save_passport(tmp_path, made(one("mask", passed=False)))
    assert state([KEY], "sft") == state([KEY], "uft") == state([KEY, "beef"]) == "failed"


def test_a_passport_vouches_for_the_settings_that_were_checked(tmp_path: Path) -> None:
    def state(label: str, **changes: Any) -> str:
        return passport.stages_state(tmp_path, [KEY], "countdown", [stage(label, **changes)])

    passport.save_passport(tmp_path, made(one("mask"), one("micro-batches grpo", "grpo")))
    assert state("grpo") == state("grpo", lr=1.0, num_updates=1, betas="0,0", group_size=9) == "passed"
    assert state("grpo:bnpo") == state("grpo", kl_coef=0.5) == "other methods"
    passport.save_passport(tmp_path, made(one("micro-batches grpo:bnpo", "grpo:bnpo", passed=False)))
    assert state("grpo:bnpo") == state("grpo", aggregation="bnpo") == "failed"
    assert (state("grpo"), state("grpo:no-kl")) == ("passed", "other methods")
    assert state("grpo:on-policy") == "passed"  # another number of updates, the same loss


def test_a_passport_vouches_for_the_task_that_the_engine_was_checked_on(tmp_path: Path) -> None:
    def state(task: str) -> str:
        return passport.stages_state(tmp_path, [KEY], task, [stage("sft")])

    passport.save_passport(tmp_path, made(one("mask"), one("micro-batches sft", "sft")))
    assert (state("countdown"), state("math")) == ("passed", "other methods")
    passport.save_passport(tmp_path, made(one("mask", task="math"), one("micro-batches grpo", "grpo", task="math")))
    assert state("math") == "passed"  # the check of the method may come from any task
    passport.save_passport(tmp_path, made(one("mask", task="math", passed=False)))
    assert state("math") == state("countdown") == "failed"


def test_sizes_that_a_check_makes_small_are_no_settings() -> None:
    assert stack.SMALL.keys() <= registry.OPTIMIZER_FIELDS | passport.SIZES


def test_a_check_without_settings_vouches_for_no_method(tmp_path: Path) -> None:
    old = {k: v for k, v in one("micro-batches sft", "sft").items() if k != "settings"}
    passport.save_passport(tmp_path, made(one("mask"), old))
    assert passport.stages_state(tmp_path, [KEY], "countdown", [stage("sft")]) == "other methods"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": "other", "checks": []}', '{"key": "0123456789ab"}'])
def test_an_unreadable_passport_vouches_for_nothing_and_is_replaced(tmp_path: Path, text: str) -> None:
    passport.passport_file(tmp_path, KEY).parent.mkdir()
    passport.passport_file(tmp_path, KEY).write_text(text)
    assert passport.stages_state(tmp_path, [KEY], "countdown", []) == "none"
    passport.save_passport(tmp_path, made(one("mask")))
    assert passport.stages_state(tmp_path, [KEY], "countdown", []) == "passed"


def test_the_worst_run_decides() -> None:
    assert passport.worst(["passed", "passed"]) == "passed"
    assert passport.worst(["passed", "other methods"]) == "other methods"
    assert passport.worst(["none", "other methods"]) == "none"
    assert passport.worst(["none", "failed", "passed"]) == "failed"


# --- marks -------------------------------------------------------------------------------------------------------


def test_marks_and_notes_in_every_format() -> None:
    states = {"uft": "failed", "sft": "other methods", "base": "passed"}
    runs = [record(m, seed, [[1], [0]], passport=s) for m, s in states.items() for seed in (0, 1)]
    runs += [record("grpo", seed, [[1], [0]], passport=("none", "passed")[seed]) for seed in (0, 1)]
    board = leaderboard(runs)
    text = render_board(board, "table")
    for line in (r"^ uft ! +\d", r"^ sft ~ +\d", r"^ base +\d", r"^ grpo \? +\d"):
        assert re.search(line, text, re.M), line
    words = " ".join(text.split())
    assert "? no passport: " in words and "! failed preflight: " in words and "~ passport of other methods: " in words
    markdown = render_board(board, "markdown")
    assert "| uft ! |" in markdown and "| base |" in markdown and "- ? no passport: " in markdown
    latex = render_board(board, "latex")
    assert "\nuft ! & " in latex and "\nsft \\textasciitilde{} & " in latex and "? no passport: " in latex
    want = {**states, "grpo": "none"}
    assert {row["method"]: row["passport"] for row in json.loads(render_board(board, "json"))} == want
    assert {row["method"]: row["passport"] for row in csv.DictReader(io.StringIO(render_board(board, "csv")))} == want


def test_no_note_without_a_mark() -> None:
    text = render_board(leaderboard([record("uft", 0, [[1], [0]])]), "markdown")
    assert "passport" not in text and "preflight" not in text
