"""`bench preflight`, `bench parity`, `bench pretrain`: checks of the engine, and the embedded model."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import MAX_SEED, Device, Json, Model, Results
from bench.store.run_folder import DEFAULT_RESULTS
from bench.types import UserError

PARITY = DEFAULT_RESULTS.parent / "published" / "parity"


def preflight(
    model: Model = "tiny",
    methods: Annotated[
        str | None, typer.Option(help="Comma-separated, as for run; all that train if left out.")
    ] = None,
    task: Annotated[str, typer.Option(help="Task whose problems are used.")] = "countdown",
    set_: Annotated[list[str] | None, typer.Option("--set", help="METHOD.FIELD=VALUE, as for run.")] = None,
    device: Device = "auto",
    results: Results = DEFAULT_RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the passport itself.")] = False,
) -> None:
    """Check that the engine is correct on this machine, and write a passport.

    The checks are what every correct implementation satisfies: masks, losses, gradients over micro-batches, schedules,
    sampler, evaluation. The passport notes what passed, and on which stack: code, model, device, versions of libraries.
    Exit code 1 if any check fails.
    """
    from bench.audit.preflight import default_spec, run_preflight
    from bench.store.targets import check_folder

    check_folder(results)
    sys.exit(run_preflight(default_spec(model, task, device, results, set_ or ()), methods, as_json))


def parity(
    methods: Annotated[
        str, typer.Option(help="Comma-separated: sft, dft, grpo (all of its losses) or one, such as grpo:dapo.")
    ] = "sft,dft,grpo",
    model: Model = "tiny",
    steps: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="Training steps of each comparison.")] = 20,
    out: Annotated[Path, typer.Option(help="Folder of the records, one JSON file per comparison.")] = PARITY,
    as_json: Json = False,
) -> None:
    """Compare our losses with TRL's, step by step.

    Both sides train from the same weights on the same rows. Exit code 1 if the losses differ. Needs the extra trl; its
    figures never enter leaderboards.
    """
    from bench.audit import parity as referee
    from bench.store.targets import check_folder
    from bench.study.jobs import split_names

    check_folder(out)
    sys.exit(referee.print_parity(referee.run_parity(split_names(methods, "method"), model, steps, out), as_json))


def pretrain(
    out: Annotated[Path, typer.Argument(help="Directory for the model, tokenizer and recipe.")],
    seed: Annotated[
        int, typer.Option(min=0, max=MAX_SEED, metavar="N", help="Seed of the weights and of the corpus.")
    ] = 0,
    scale: Annotated[
        float, typer.Option(min=0.0, max=100.0, help="Length of every stage, as a share of the recipe.")
    ] = 1.0,
) -> None:
    """Pretrain the embedded base model from nothing.

    Takes about 20 minutes of one core. An interrupted command resumes when it is started again.
    """
    from bench.cli.running import pretrain_with_bar
    from bench.store.targets import check_folder

    check_folder(out)
    if math.isnan(scale):
        raise UserError("--scale nan is not valid: expected a number from 0 to 100")
    pretrain_with_bar(out, seed, scale)
