"""Runs in a local MLflow database (``mlflow.db`` in the folder); nothing leaves the machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.export import Request
from bench.export.common import VERSION, export_each, export_folder, seed_group
from bench.export.points import points_and_scores, run_settings
from bench.store.stored_run import StoredRun
from bench.types import UserError

KIND = "mlflow"
RUN_ID, RECORDS = "bench.run_id", "bench.records"
METRICS, PARAMS, LONGEST = 1000, 100, 6000  # MLflow's limits: metrics of a call, parameters of a call, letters of one


def to_mlflow(request: Request) -> list[str]:
    """Write the runs into the experiment; the lines to print."""
    out = export_folder(request, KIND, "mlflow", "sqlalchemy", "alembic")
    write = partial(write_run, *connect(out, request.project))
    return export_each(request, write, f"look at them with: mlflow ui --backend-store-uri sqlite:///{out}/mlflow.db")


def connect(out: Path, project: str) -> tuple[Any, str]:
    """A client of the folder's database and the id of the experiment, both made if they are not there."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"'{out}' cannot be written: {error.strerror}") from None
    client = MlflowClient(tracking_uri=f"sqlite:///{out}/mlflow.db")
    experiment = client.get_experiment_by_name(project)
    if experiment is not None:
        return client, experiment.experiment_id
    return client, client.create_experiment(project, artifact_location=(out / "artifacts").as_uri())


def write_run(client: Any, experiment: str, run: StoredRun) -> bool:
    """One run with the bench id as its tag, since MLflow chooses its own ids; False if it is there already.

    A run that was left unfinished, or made from other records, is deleted and written again.
    """
    made = f"{VERSION}-{run.fingerprint}"
    for earlier in client.search_runs([experiment], f"tags.`{RUN_ID}` = '{run.plan.run_id}'"):
        if earlier.info.status == "FINISHED" and earlier.data.tags.get(RECORDS) == made:
            return False
        client.delete_run(earlier.info.run_id)
    tags = {RUN_ID: run.plan.run_id, RECORDS: made, "bench.group": seed_group(run)}
    start = milliseconds(run.started)
    new = client.create_run(experiment, start_time=start, run_name=run.name, tags=tags).info.run_id
    fill(client, new, run)
    client.set_terminated(new, end_time=milliseconds(run.ended))
    return True


def fill(client: Any, new: str, run: StoredRun) -> None:
    """Parameters, metrics over optimizer updates, and the last scores."""
    from mlflow.entities import Metric, Param

    given = [Param(name, str(value)[:LONGEST]) for name, value in run_settings(run).items()]
    for part in chunks(given, PARAMS):
        client.log_batch(new, params=part)
    metrics = [
        Metric(name, value, milliseconds(run.started + point.seconds), point.step)
        for point in points_and_scores(run)
        for name, value in point.values.items()
    ]
    for part in chunks(metrics, METRICS):
        client.log_batch(new, metrics=part)


def milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def chunks(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
