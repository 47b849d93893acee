"""`bench status`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Json, emit
from bench.store.run_folder import DEFAULT_RESULTS
from bench.types import UserError


def status(
    results: Annotated[Path, typer.Argument(help="Folder of run directories.")] = DEFAULT_RESULTS,
    as_json: Json = False,
) -> None:
    """Show which runs are done, running, lost or waiting, on which machine and device, and the time left.

    It may be asked on any machine that sees the folder, while any number of commands make runs in it.
    """
    from bench.report.status_table import status_text
    from bench.schedule.status import examine, lost_nodes, summary

    if not results.is_dir():
        fault = "is a file" if results.exists() else "does not exist"
        raise UserError(f"results folder '{results}' {fault}: expected one in which 'bench run' has made runs")
    runs = examine(results)
    lost = {host: [run.run for run in of_host] for host, of_host in lost_nodes(runs).items()}
    record = {"runs": [asdict(run) for run in runs], **summary(runs), "lost": lost}
    emit(record, as_json, status_text(f"Runs in {results}", runs))
