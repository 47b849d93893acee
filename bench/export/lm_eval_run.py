"""`bench eval`: standard benchmarks by lm-eval in a process of its own; its files are kept as it wrote them."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.export.task_files import MANIFEST
from bench.foreign import say, say_json
from bench.models import locate
from bench.plan import registry
from bench.store.files import check_writable, write_atomic
from bench.store.run_folder import CorruptRun, read_json
from bench.types import UserError

EXTRA = "pip install 'posttrain-bench[eval]'"
PACKAGES = ("lm_eval", "accelerate")
SPECIAL = ",'\"[](){}"  # characters that lm-eval would read as more than a path
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
SHOWN = 5  # last lines of a failing lm-eval


@dataclass(frozen=True)
class Evaluation:
    """What lm-eval is asked for; ``tasks_dir`` holds tasks besides its own, ``limit`` items per task (None: all)."""

    model: str
    suite: tuple[str, ...]
    tasks_dir: Path | None = None
    limit: int | None = None
    batch_size: int = 16
    chat: bool = False
    device: str = "cpu"


class Failed(Exception):
    """lm-eval ended with an error; the message holds its last lines and where its log is."""


def check_installed() -> None:
    """UserError that names the extra unless lm-eval and what it needs are installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"bench eval needs the extra eval (not installed: {', '.join(missing)}): {EXTRA}")


def check_templates(asked: Evaluation) -> None:
    """UserError if a task of ours would be asked in another form than it was exported in."""
    if asked.tasks_dir is None:
        return
    if not asked.tasks_dir.is_dir():
        raise UserError(f"tasks folder '{asked.tasks_dir}' does not exist: make one with 'bench tasks export'")
    for path in sorted(asked.tasks_dir.glob(f"*{MANIFEST}")):
        try:
            made = read_json(path)
        except CorruptRun as fault:
            raise UserError(
                f"'{path}' is not what 'bench tasks export' writes ({fault}): export the task again"
            ) from None
        if made.get("name") in asked.suite and (made.get("template") == "chat") != asked.chat:
            hint = "leave --chat out" if asked.chat else "add --chat"
            raise UserError(f"task {made['name']} was exported with the template {made.get('template')}: {hint}")


def arguments(asked: Evaluation, path: str, folder: Path) -> list[str]:
    """The command; float32 on the CPU, as in evaluations of bench, bfloat16 on CUDA."""
    weights = str(Path(path).resolve()) if Path(path).is_dir() else path
    if strange := sorted(set(weights) & set(SPECIAL)):
        raise UserError(f"model '{weights}': lm-eval cannot take {' '.join(strange)} in a path, move it elsewhere")
    dtype = "bfloat16" if asked.device == "cuda" else "float32"
    words = [sys.executable, "-m", "lm_eval", "run", "--model", "hf"]
    words += ["--model_args", f"pretrained={weights}", f"dtype={dtype}", "--tasks", ",".join(asked.suite)]
    words += ["--batch_size", str(asked.batch_size), "--device", asked.device]
    words += ["--output_path", str(folder), "--log_samples"]
    words += ["--include_path", str(asked.tasks_dir)] if asked.tasks_dir else []
    words += ["--limit", str(asked.limit)] if asked.limit else []
    return words + (["--apply_chat_template"] if asked.chat else [])


def offline_environment() -> dict[str, str]:
    """Exported tasks import this package; HF_HUB_OFFLINE keeps the data sets offline, too."""
    paths = [str(registry.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TOKENIZERS_PARALLELISM": "false"}
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        env["HF_DATASETS_OFFLINE"] = "1"
    return env


def run_lm_eval(asked: Evaluation, out: Path) -> tuple[Path, dict[str, Any]]:
    """Run lm-eval; its results file, left as it is, and what that holds.

    The folder ``out/MODEL-TIME`` gets its files, its log and the command.  UserError for bad input, Failed otherwise.
    """
    model = locate(asked.model)
    if not asked.suite:
        raise UserError("no tasks given: for example --suite mmlu,truthfulqa_mc2,hellaswag,gsm8k")
    if strange := [name for name in asked.suite if not NAME.fullmatch(name)]:
        raise UserError(f"'{strange[0]}' is no name of a task: expected such as mmlu,truthfulqa_mc2,hellaswag,gsm8k")
    check_templates(asked)
    check_installed()
    check_writable(out)
    folder = new_folder(out, asked.model)
    command = arguments(asked, model.fetch().path, folder)
    described = {
        "command": command,
        "model": asked.model,
        "model_digest": model.digest,
        "suite": list(asked.suite),
    }
    write_atomic(folder / "command.json", described)
    log = folder / "log.txt"
    say(f"lm-eval is running; its log is {log}", error=True)
    with log.open("wb") as file:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=offline_environment())
    files = sorted(folder.glob("**/results_*.json"))
    if done.returncode != 0 or not files:
        text = log.read_text(encoding="utf-8", errors="replace")
        lines = [line for line in text.splitlines() if line.strip()][-SHOWN:]
        fault = f"ended with exit code {done.returncode}" if done.returncode else "wrote no results"
        raise Failed("\n".join([f"lm-eval {fault}; its log is {log} and ends with:", *lines]))
    try:
        return files[-1], read_json(files[-1])
    except CorruptRun as fault:
        raise Failed(f"lm-eval's results cannot be read: {files[-1].parent}: {fault}") from None


def new_folder(out: Path, model: str) -> Path:
    """A folder of its own for each evaluation; the policy of a run is named after the run."""
    place = Path(model).resolve()
    name = (place.parent.name if place.name == "policy" else place.name) if place.is_dir() else model.replace("/", "--")
    stem = f"{name}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    for number in range(1, 1000):
        folder = out / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise UserError(f"folder '{out}' has a thousand evaluations of this second: give another --out")


# --- what it found -------------------------------------------------------------------------------------------


def score_entries(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry per task and metric: value, standard error (None where lm-eval has none) and number of items."""
    entries = []
    for task, measured in results["results"].items():
        size = results.get("n-samples", {}).get(task, {}).get("effective")
        for key, value in measured.items():
            name, _, filtered = key.partition(",")
            if not filtered or name.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = measured.get(f"{name}_stderr,{filtered}")
            metric = name if filtered == "none" else f"{name} ({filtered})"
            error = error if isinstance(error, int | float) else None
            entries.append({"task": task, "metric": metric, "value": value, "stderr": error, "n": size})
    return entries


def scores_table(entries: Sequence[Mapping[str, Any]]) -> str:
    """One line per task and metric."""
    rows = [("task", "metric", "value", "stderr", "n")]
    rows += [(e["task"], e["metric"], f"{e['value']:.4f}", figure(e["stderr"]), figure(e["n"])) for e in entries]
    widths = [max(map(len, column)) for column in zip(*rows)]
    aligned = ([*map(str.ljust, row[:2], widths), *map(str.rjust, row[2:], widths[2:])] for row in rows)
    return "\n".join("  ".join(cells).rstrip() for cells in aligned)


def figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def evaluate_and_print(asked: Evaluation, out: Path, as_json: bool) -> int:
    """Run and print; 0, or 1 if lm-eval failed."""
    try:
        path, results = run_lm_eval(asked, out)
    except Failed as failure:
        say(f"error: {failure}", error=True)
        return 1
    entries = score_entries(results)
    if as_json:
        say_json({"results": str(path), "scores": entries})
    else:
        say(f"{scores_table(entries)}\n{path}")
    return 0
