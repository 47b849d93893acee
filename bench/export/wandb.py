"""Offline runs for Weights & Biases, one folder per run; nothing is sent until the user runs ``wandb sync``."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from pathlib import Path

from bench.export import Request
from bench.export.common import export_each, export_folder, seed_group, write_folder
from bench.export.points import final_scores, run_points, run_settings
from bench.store.stored_run import StoredRun

KIND = "wandb"


def to_wandb(request: Request) -> list[str]:
    """Write the runs below the folder; the lines to print."""
    out = export_folder(request, KIND, "wandb")
    write = partial(write_folder, out, KIND, partial(write_run, request.project))
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("CACHE", "CONFIG", "DATA"):  # it would make folders in the user's home
            os.environ.setdefault(f"WANDB_{name}_DIR", scratch)
        return export_each(request, write, f"send them with: wandb sync {out}/*/wandb/offline-run-*")


def write_run(project: str, folder: Path, run: StoredRun) -> None:
    """One offline run under the id of the bench run; the default axis is the budget's currency."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    options = {"console": "off", "silent": True, "disable_git": True, "save_code": False}
    quiet = wandb.Settings(x_disable_stats=True, x_disable_meta=True, x_save_requirements=False, **options)
    tracked = wandb.init(
        id=run.plan.run_id,
        name=run.name,
        project=project,
        group=seed_group(run)[:128],
        dir=str(folder),
        mode="offline",
        config=run_settings(run),
        settings=quiet,
        reinit="create_new",
    )
    axis = f"spent/{run.plan.budget_unit}"
    tracked.define_metric(axis)
    for part in ("train/*", "eval/*", "spent/*"):
        tracked.define_metric(part, step_metric=axis)
    for number, point in enumerate(run_points(run)):
        tracked.log(point.values, step=number)
    tracked.summary.update(final_scores(run))
    tracked.finish()
