"""`bench card`: the model card of a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Results
from bench.foreign import say
from bench.models.hub import REPOSITORY
from bench.store.run_folder import DEFAULT_RESULTS
from bench.types import UserError


def card(
    run: Annotated[str, typer.Argument(help="A finished run: directory, name, its beginning or digest.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to, such as RUN/policy; printed if left out.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Benchmark dataset of the Hub, OWNER/NAME, for the evaluation results.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Write the model card of a run and its evaluation results for the Hub.

    Both come from the run's records: README.md and .eval_results. Nothing is uploaded. The licence is left to you.
    """
    from bench.export import card as cards
    from bench.store.run_folder import CorruptRun
    from bench.store.stored_run import corrupted, find_run
    from bench.store.targets import check_folder

    if dataset is not None and not REPOSITORY.fullmatch(dataset):
        raise UserError(f"dataset '{dataset}' is not valid: expected OWNER/NAME, as on the Hub")
    if out is not None:
        check_folder(out)
    stored_run = find_run(run, results)
    try:
        files = cards.model_card(stored_run, dataset)
    except CorruptRun as fault:
        raise corrupted(stored_run.path, fault) from None
    if out is not None:
        say("\n".join(map(str, cards.write_card(files, out, force))))
        return
    for name, text in files.items():
        say(text if name == "README.md" else f"# --- {name} ---\n{text}", end="" if name != "README.md" else "\n")
