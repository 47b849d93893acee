"""`bench eval`: options of the evaluation by lm-eval."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Device, Execute, Json, Output
from bench.foreign import say
from bench.store.run_folder import DEFAULT_RESULTS


def evaluate(
    suite: Annotated[str, typer.Option(help="Comma-separated tasks of lm-eval or of --tasks-dir.")],
    model: Annotated[str, typer.Option(help="tiny (embedded), a directory, or a hub name.")] = "tiny",
    tasks_dir: Annotated[
        Path | None, typer.Option(help="Folder of more tasks, such as 'bench tasks export' writes.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, metavar="N", help="Only the first N items of each task.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Ask in the model's chat template.")] = False,
    batch_size: Annotated[int, Execute(min=1, max=65_536, metavar="N", help="Rows of one forward pass.")] = 16,
    device: Device = "auto",
    out: Annotated[Path, Output(help="Folder of evaluations, one folder each.")] = DEFAULT_RESULTS / "lm-eval",
    as_json: Json = False,
) -> None:
    """Evaluate a model on standard benchmarks with lm-eval.

    The files that lm-eval writes are kept unchanged. Needs the extra eval, and the benchmarks' data from the Hub or its
    cache. Exit code 1 if lm-eval fails.
    """
    from bench.export.lm_eval_run import Evaluation, evaluate_and_print
    from bench.study import jobs

    names = tuple(jobs.split_names(suite, "task"))
    try:
        asked = Evaluation(model, names, tasks_dir, limit, batch_size, chat, jobs.choose_device(device))
        code = evaluate_and_print(asked, out, as_json)
    except KeyboardInterrupt:
        say("interrupted: the log of lm-eval is kept", error=True)
        code = 130
    sys.exit(code)
