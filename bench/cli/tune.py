"""`bench tune`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.options import Json, Methods, Training, Workers, grouped
from bench.types import UserError

if TYPE_CHECKING:
    from bench.study.trials import Study


@grouped
def tune(
    training: Training,
    methods: Methods = "",
    trials: Annotated[int, typer.Option(min=1, help="Trials per method, the same number for all.")] = 8,
    search: Annotated[
        list[str] | None,
        typer.Option(help="Other space: lr=1e-5..1e-3:log, uft.demo_coef=0,0.001,0.01; repeatable."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Number of seeds per trial, or a list from 1000 on.")] = "1",
    val_items: Annotated[int, typer.Option(min=2, help="Problems of each validation.")] = 200,
    val_samples: Annotated[int, typer.Option(min=1, help="Samples per problem.")] = 4,
    workers: Workers = 0,
    plot: Annotated[Path | None, typer.Option(help="Figure of the sensitivity: .svg, .pdf or .png.")] = None,
    show: Annotated[Path | None, typer.Option(help="Only show this file of an earlier command, run nothing.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Print the trials and what they will cost, start nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Try the same number of settings of every method, drawn from its search space, and pick each one's best.

    Trials are judged on validation only, with seeds that no reported run has; 'bench run --tuned' uses the best.
    Finished trials are reused, interrupted ones resume: the same command is safe to repeat.
    """
    from bench.report.figure_files import check_suffix

    if plot is not None:
        check_suffix(plot)
    if show is not None:
        present([show], plot, as_json)
        return
    if not methods:
        raise UserError("no methods given: for example --methods sft,grpo,uft, or --show FILE for earlier results")
    from bench.study.search_space import parse_search
    from bench.study.trials import FOLDER, studies, trial_evaluation, trial_seeds

    spec = training.spec(methods, trial_seeds(seeds), trial_evaluation(val_items, val_samples))
    spec = replace(spec, results=training.results / FOLDER / "runs")
    found = studies(spec, trials, parse_search(search or []))
    try:
        code, files = run_trials(found, workers, dry_run, "json" if as_json else "table")
    except KeyboardInterrupt:
        print("interrupted: the same command reuses finished trials and resumes the others", file=sys.stderr)
        sys.exit(130)
    if files:
        present(files, plot, as_json)
    sys.exit(code)


def run_trials(found: Sequence[Study], workers: int, dry_run: bool, shape: str) -> tuple[int, list[Path]]:
    """Run what is missing of all tasks together and write one file per task; nothing is written by a dry run."""
    from bench.analysis.tuning_record import write
    from bench.cli.running import report_failures, run_missing

    jobs = [job for study in found for trial in study.trials for job in trial.runs]
    states = run_missing(found[0].spec, jobs, workers, False, False, dry_run, shape)
    if dry_run:
        return 0, []
    failed = [state for state in states if state.status == "failed"]
    faults = {state.job.path.name: state.message or "no message" for state in failed}
    files = [write(study, faults, ["bench", *sys.argv[1:]]) for study in found]
    return report_failures(failed, len(states)), files


def present(files: Sequence[Path], plot: Path | None, as_json: bool) -> None:
    """Print what trials found, as tables or as one JSON list, and draw a figure per file."""
    from bench.report.sensitivity import about, load, panels, render, summary
    from bench.report.sensitivity import plot as draw

    records = [load(path) for path in files]
    if as_json:
        print(json.dumps([summary(path, record) for path, record in zip(files, records)], indent=1))
    for path, record in zip(files, records):
        if not as_json:
            print(render(panels(record), *about(path, record)) + "\n")
        if plot is not None:
            out = plot if len(files) == 1 else plot.with_name(f"{plot.stem}-{record['setting']['task']}{plot.suffix}")
            draw(panels(record), out)
            print(f"figure written to {out}", file=sys.stderr)
