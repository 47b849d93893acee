"""`bench plan`."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Json, Judging, Methods, Seeds, Training, Workers, grouped


@grouped
def plan(
    methods: Methods,
    training: Training,
    judging: Judging,
    seeds: Seeds = "3",
    tuned: Annotated[bool, typer.Option("--tuned", help="With the best settings that 'bench tune' found.")] = False,
    tuning: Annotated[Path | None, typer.Option(help="File of 'bench tune' to use, if there are several.")] = None,
    workers: Workers = 0,
    save_policy: Annotated[bool, typer.Option(help="Count the disk of the trained models.")] = True,
    as_json: Json = False,
) -> None:
    """Print what 'bench run' with the same options would cost and what differences it could detect; start nothing."""
    from bench.analysis.detectable import outlook_as_dict, outlooks, say_outlook
    from bench.cli.run import chosen_jobs
    from bench.cli.running import check_corrupt, expected
    from bench.report.terminal_table import WIDTH
    from bench.study.estimate import print_estimate
    from bench.study.executor import num_workers
    from bench.study.jobs import parse_seeds

    spec = training.spec(methods, parse_seeds(seeds), judging.evaluation())
    jobs = chosen_jobs(spec, tuned, tuning)
    check_corrupt(jobs)
    estimates = expected(jobs, spec.results, save_policy)
    found = outlooks(jobs, spec.results)
    if as_json:
        print(
            json.dumps(
                {"runs": [asdict(e) for e in estimates], "outlook": [outlook_as_dict(o) for o in found]}, indent=1
            )
        )
        return
    print_estimate(estimates, workers or num_workers(spec.threads), "table")
    for one in found:
        print("\n" + "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in say_outlook(one)))
