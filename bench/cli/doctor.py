"""`bench doctor`: is this machine ready for these runs, and which option or command mends what is not?"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from bench.cli.options import Json, Training, grouped
from bench.foreign import say, say_json

WIDTHS = (4, 18, 74)  # of state, name and text


@grouped
def doctor(
    training: Training,
    methods: Annotated[str, typer.Option(help="Comma-separated, as for run.")] = "sft,uft",
    as_json: Json = False,
) -> None:
    """Look at the machine, the model, the tasks and the results folder, and say what to mend.

    One line each: versions and extras, devices, memory by method, attention, disk and locks, tokenizer, verifier, time.
    It takes the options of run. Nothing is trained and nothing is kept. Exit code 1 if a line is bad.
    """
    from bench.audit.doctor import check, examine
    from bench.audit.doctor_machine import BAD, STATES
    from bench.audit.doctor_model import table_lines
    from bench.plan.spec import Evaluation

    spec = training.spec(methods, "1", Evaluation())
    check(spec)
    found = []
    for finding in examine(spec):
        found.append(finding)
        if not as_json:
            show(finding.state, finding.name, finding.text, finding.fix, finding.state == BAD)
            for line in table_lines(finding):
                say(" " * (WIDTHS[0] + 2) + line)
    counts = {state: sum(finding.state == state for finding in found) for state in STATES}
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
