"""`bench plan`."""

from __future__ import annotations

import textwrap
from dataclasses import asdict, replace

from bench.cli.options import Batching, Json, Judging, Methods, Seeds, Training, Tuning, grouped
from bench.cli.starting import Keeping, Placing
from bench.foreign import say, say_json


@grouped
def plan(
    training: Training,
    batching: Batching,
    judging: Judging,
    tuning: Tuning,
    placing: Placing,
    keeping: Keeping,
    methods: Methods = "",
    seeds: Seeds = "3",
    as_json: Json = False,
) -> None:
    """Estimate what a run would cost and which differences it could detect.

    Takes the options of bench run and starts nothing.
    """
    from bench.analysis.detectable import outlook_as_dict, outlooks, say_outlook
    from bench.cli.run import chosen_jobs
    from bench.cli.running import check_corrupt, checked_estimates, upcoming_preflight
    from bench.report.terminal_table import WIDTH
    from bench.study.estimate import print_estimate

    placement = placing.placement()
    spec = training.spec(methods, seeds, judging.evaluation(), here=placement.is_here)
    jobs = chosen_jobs(replace(spec, batch=batching.checked()), tuning)
    slots = placement.slots(jobs[0], len(jobs))
    check_corrupt(jobs)
    estimates = checked_estimates(jobs, spec, keeping.policy, slots)
    settings = outlooks(jobs, spec.results)
    if as_json:
        answer = {"runs": [asdict(e) for e in estimates], "outlook": [outlook_as_dict(setting) for setting in settings]}
        say_json(answer)
        return
    print_estimate(estimates, len(slots), "table", upcoming_preflight([job for job in jobs if not job.done]))
    for setting in settings:
        say("\n" + "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in say_outlook(setting)))
