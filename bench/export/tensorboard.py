"""Event files for TensorBoard, one folder per run; TensorBoard's clock axis is the ledger's seconds."""

from __future__ import annotations

import json
from pathlib import Path

from bench.export import Request
from bench.export.common import export_each, export_folder, require
from bench.export.folders import write_folder
from bench.export.points import final_scores, run_points, run_settings
from bench.store.stored_run import StoredRun

KIND = "tensorboard"
AXES = ("flops", "tokens")  # TensorBoard's steps are whole numbers of one kind: scores are also given along these


def to_tensorboard(request: Request) -> list[str]:
    """Write the runs below the folder; the lines to print."""
    require(KIND, "tensorboardX")
    out = export_folder(request, KIND)

    def write(run: StoredRun) -> bool:
        return write_folder(out / run.name, run, KIND, lambda folder: write_events(folder, run))

    return export_each(request, write, f"look at them with: tensorboard --logdir {out}")


def write_events(folder: Path, run: StoredRun) -> None:
    """One event file: scalars over optimizer updates, scores over FLOPs and tokens, the plan as text."""
    from tensorboardX import SummaryWriter

    found = run_points(run)
    with SummaryWriter(str(folder)) as writer:
        shown = json.dumps(run_settings(run), indent=1).replace(
            "\n", "\n    "
        )  # indented: TensorBoard's Markdown leaves it
        writer.add_text("plan", f"    {shown}", 0, walltime=run.started)
        for point in found:
            at = run.started + point.seconds
            for name, value in point.values.items():
                writer.add_scalar(name, value, point.step, walltime=at)
                if name.startswith("eval/"):
                    for axis in AXES:
                        writer.add_scalar(f"by_{axis}/{name}", value, int(point.values[f"spent/{axis}"]), walltime=at)
        for name, value in final_scores(run).items():
            writer.add_scalar(name, value, found[-1].step, walltime=run.started + found[-1].seconds)
