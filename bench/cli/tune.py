"""`bench tune`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from bench.cli.options import (
    MAX_ITEMS,
    MAX_SAMPLES,
    Compare,
    DryRun,
    Evaluate,
    Json,
    Methods,
    Output,
    Training,
    grouped,
)
from bench.cli.starting import Placing, Starting
from bench.foreign import say, say_json
from bench.store.run_folder import NONE
from bench.types import UserError

if TYPE_CHECKING:
    from bench.study.trials import Study


@grouped
def tune(
    training: Training,
    placing: Placing,
    methods: Methods = "",
    trials: Annotated[
        int, Compare(min=1, max=1_000, metavar="N", help="Trials per method, the same number for all.")
    ] = 8,
    search: Annotated[
        list[str] | None,
        Compare(metavar="TEXT", help="Other space: lr=1e-5..1e-3:log, uft.demo_coef=0,0.001,0.01; repeatable."),
    ] = None,
    seeds: Annotated[str, Compare(help="Number of seeds per trial, or a list from 1000 on.")] = "1",
    val_items: Annotated[int, Evaluate(min=2, max=MAX_ITEMS, metavar="N", help="Problems of each validation.")] = 200,
    val_samples: Annotated[int, Evaluate(min=1, max=MAX_SAMPLES, metavar="N", help="Samples per problem.")] = 4,
    dry_run: DryRun = False,
    plot: Annotated[Path | None, Output(help="Figure of the sensitivity: .svg, .pdf or .png.")] = None,
    show: Annotated[Path | None, Output(help="Only show this file of an earlier command; run nothing.")] = None,
    as_json: Json = False,
) -> None:
    """Try equally many settings of every method and pick each one's best.

    Settings are drawn from each method's search space and judged on validation only, with seeds that no reported run
    has. 'bench run --tuned' uses the best ones.

    The same command is safe to repeat: finished trials are reused, interrupted ones resume.
    """
    from bench.report.figure_files import check_figure

    if plot is not None:
        check_figure(plot)
    if show is not None:
        if methods:
            raise UserError("--show prints what an earlier command found, and --methods starts trials: expected one")
        present([show], plot, as_json)
        return
    if not methods:
        raise UserError("no methods given: for example --methods sft,grpo,uft, or --show FILE for earlier results")
    from bench.cli.running import resumable
    from bench.study.search_space import parse_search
    from bench.study.trials import FOLDER, studies, trial_evaluation, trial_seeds

    spec = training.spec(methods, "1", trial_evaluation(val_items, val_samples), placing.placement().is_here)
    spec = replace(spec, seeds=trial_seeds(seeds), results=training.results / FOLDER / "runs")
    planned = studies(spec, trials, parse_search(search or []))
    starting = Starting(**vars(placing), keep=NONE, preflight=False, dry_run=dry_run)
    with resumable("trials"):
        code, files = run_trials(planned, starting, "json" if as_json else "table")
    if files:
        present(files, plot, as_json)
    sys.exit(code)


def run_trials(planned: Sequence[Study], starting: Starting, format: str) -> tuple[int, list[Path]]:
    """Run the missing trials of all tasks and write one file per task, unless it is a dry run; exit code and files."""
    from bench.analysis.tuning_record import write_record
    from bench.cli.running import report_failures, run_missing

    jobs = [job for study in planned for trial in study.trials for job in trial.runs]
    states = run_missing(planned[0].spec, jobs, starting, format)
    if starting.dry_run:
        return 0, []
    faults = {state.job.path.name: state.message or "no message" for state in states if state.status == "failed"}
    files = [write_record(study, faults, ["bench", *sys.argv[1:]]) for study in planned]
    return report_failures(states), files


def present(files: Sequence[Path], plot: Path | None, as_json: bool) -> None:
    """Print what trials found, as tables or as one JSON list, and draw a figure per file."""
    from bench.report.sensitivity import load_trials, panels, render_trials, title_and_notes, trials_summary
    from bench.report.sensitivity import plot_panels as draw

    records = [load_trials(path) for path in files]
    if as_json:
        say_json([trials_summary(path, record) for path, record in zip(files, records)])
    for path, record in zip(files, records):
        if not as_json:
            say(render_trials(panels(record), *title_and_notes(path, record)) + "\n")
        if plot is not None:
            out = plot if len(files) == 1 else plot.with_name(f"{plot.stem}-{record['setting']['task']}{plot.suffix}")
            draw(panels(record), out)
            say(f"figure written to {out}", error=True)
