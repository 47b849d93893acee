"""Event files for TensorBoard, one folder per run; TensorBoard's clock axis is the ledger's seconds."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from textwrap import indent

from bench.export import Request
from bench.export.common import export_each, export_folder, write_folder
from bench.export.points import points_and_scores, run_settings
from bench.store.stored_run import StoredRun

KIND = "tensorboard"
AXES = ("flops", "tokens")  # TensorBoard's steps are whole numbers of one kind: scores are also given along these


def to_tensorboard(request: Request) -> list[str]:
    """Write the runs below the folder; the lines to print."""
    out = export_folder(request, KIND, "tensorboardX")
    write = partial(write_folder, out, KIND, write_events)
    return export_each(request, write, f"look at them with: tensorboard --logdir {out}")


def write_events(folder: Path, run: StoredRun) -> None:
    """One event file: scalars over optimizer updates, scores over FLOPs and tokens, the plan as text."""
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        shown = indent(json.dumps(run_settings(run), indent=1), "    ")  # TensorBoard's Markdown leaves indented text
        writer.add_text("plan", shown, 0, walltime=run.started)
        for point in points_and_scores(run):
            at = run.started + point.seconds
            for name, value in point.values.items():
                writer.add_scalar(name, value, point.step, walltime=at)
                if name.startswith("eval/"):
                    for axis in AXES:
                        writer.add_scalar(f"by_{axis}/{name}", value, int(point.values[f"spent/{axis}"]), walltime=at)
