"""`bench doctor`: is this machine ready for these runs, and which command mends what is not?"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from bench.cli.options import Device, Json, Model, Results
from bench.foreign import say, say_json
from bench.store.run_folder import DEFAULT_RESULTS
from bench.types import UserError

WIDTHS = (4, 18, 74)  # of state, name and text


def doctor(
    model: Model = "tiny",
    task: Annotated[str, typer.Option(help="Comma-separated task names.")] = "countdown",
    methods: Annotated[str, typer.Option(help="Comma-separated, as for run.")] = "sft,uft",
    budget: Annotated[str | None, typer.Option(help="As for run.")] = None,
    device: Device = "auto",
    results: Results = DEFAULT_RESULTS,
    as_json: Json = False,
) -> None:
    """Look at the machine, the model, the tasks and the results folder, and say what to mend.

    One line each: versions and extras, devices, memory by method, attention, disk and locks, tokenizer, verifier, time.
    Nothing is trained and nothing is kept. Exit code 1 if a line is bad.
    """
    from bench.audit.doctor import examine, overall
    from bench.audit.doctor_machine import BAD
    from bench.audit.doctor_model import table_lines
    from bench.plan import registry
    from bench.plan.budget import Budget
    from bench.plan.spec import parse_method
    from bench.study.jobs import Spec, split_names

    names, tasks = split_names(methods, "method"), split_names(task, "task")
    if not names or not tasks:
        raise UserError("no methods or no tasks given: for example --methods uft,sft --task countdown")
    for name in names:
        parse_method(name, {}, {})
    for name in tasks:
        registry.task(name)
    if budget is not None:
        Budget.parse(budget)
    spec = Spec(names, tasks, model=model, budget=budget, device=device, results=results)
    found = []
    for finding in examine(spec):
        found.append(finding)
        if not as_json:
            show(finding.state, finding.name, finding.text, finding.fix, finding.state == BAD)
            for line in table_lines(finding):
                say(" " * sum(WIDTHS[:1], 2) + line)
    counts = overall(found)
    if as_json:
        say_json({"findings": [asdict(finding) for finding in found], **counts})
    else:
        say(", ".join(f"{count} {state}" for state, count in counts.items()))
    sys.exit(int(counts[BAD] > 0))


def show(state: str, name: str, text: str, fix: str, red: bool) -> None:
    """A finding in its columns; what mends it stands below, whole, to be copied."""
    from bench.report.safe_text import wrapped_row

    for line in wrapped_row((state, name, text), WIDTHS):
        say(line, red=red)
    if fix:
        say(" " * (WIDTHS[0] + 2) + f"fix: {fix}")
