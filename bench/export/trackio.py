"""Runs in a local trackio database: ``TRACKIO_DIR`` is the folder; nothing leaves the machine."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from bench.export import Request
from bench.export.common import VERSION, export_each, export_folder, seed_group
from bench.export.points import points_and_scores, run_settings
from bench.store.stored_run import StoredRun
from bench.types import UserError

KIND = "trackio"
RECORDS = "bench_records"


def to_trackio(request: Request) -> list[str]:
    """Write the runs into the project's database; the lines to print."""
    out = export_folder(request, KIND, "trackio")
    write = partial(write_run, storage(out), request.project)
    view = f"look at them with: TRACKIO_DIR={out} trackio show --project {request.project}"
    return export_each(request, write, view)


def storage(out: Path) -> Any:
    """trackio's database layer in this folder; it reads the folder from the environment when it is imported."""
    os.environ["TRACKIO_DIR"] = str(out)
    from trackio.sqlite_storage import SQLiteStorage
    from trackio.utils import TRACKIO_DIR

    if Path(TRACKIO_DIR) != out:
        raise UserError(f"trackio writes to '{TRACKIO_DIR}' in this process: expected '{out}'")
    return SQLiteStorage


def write_run(database: Any, project: str, run: StoredRun) -> bool:
    """One run under its bench id, by the call that trackio's own importers use; False if it is there already."""
    made = f"{VERSION}-{run.fingerprint}"
    points = points_and_scores(run)
    known = Path(database.get_project_db_path(project)).exists()
    if known and run.plan.run_id in {record["id"] for record in database.get_run_records(project)}:
        stored = database.get_run_config(project, run.name, run_id=run.plan.run_id) or {}
        count = database.get_log_count(project, run.name, run_id=run.plan.run_id)
        if stored.get(RECORDS) == made and count == len(points):
            return False
        database.delete_run(project, run.name, run_id=run.plan.run_id)
    try:
        database.bulk_log(
            project,
            run.name,
            [point.values for point in points],
            steps=[point.step for point in points],
            timestamps=[datetime.fromtimestamp(run.started + point.seconds, UTC).isoformat() for point in points],
            log_ids=[f"{run.plan.run_id}-{number}" for number in range(len(points))],
            config={**run_settings(run), "_Group": seed_group(run), RECORDS: made},
            run_id=run.plan.run_id,
        )
    except OSError as error:
        raise UserError(f"'{project}' cannot be written: {error.strerror}") from None
    sys.stdout.flush()
    return True
