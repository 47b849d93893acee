"""`bench claim`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Json, Results
from bench.foreign import say
from bench.store.run_folder import DEFAULT_RESULTS
from bench.types import UserError


def claim(
    text: Annotated[str | None, typer.Argument(help="For example: 'uft > sft on countdown at equal flops'.")] = None,
    file: Annotated[Path | None, typer.Option(help="YAML list of {claim, where, expect, results, comparison}.")] = None,
    comparison: Annotated[str | None, typer.Option(help="Beginning of a comparison's id, where several fit.")] = None,
    results: Results = DEFAULT_RESULTS,
    as_json: Json = False,
) -> None:
    """Test a claim such as 'uft > sft on countdown' on finished runs.

    The answer is supported (exit code 0), refuted (1) or underpowered (2; bad input is 2, too).

    A claim is A > B, A < B or A = B, followed by any of: on TASK, on TASK level L, at equal CURRENCY, by N points,
    split NAME, metric accuracy (or greedy, pass@K), corrected. A = B means equivalence within N points, 2 if not given.

    Or A retains more (or less) than B on WHAT, A retains at least N % on WHAT: shares of the untrained model's accuracy
    on other tasks, on skills, or on one of them, followed by any of: after TASK [level L], by N points.

    It is one test at 5 %. With 'corrected' it takes the p-value of the table, after Holm's correction.

    With --file every claim of a file is tested, and the exit code is 1 if one differs from its 'expect'.
    """
    if (text is None) == (file is None):
        raise UserError("give either a claim or --file, for example: bench claim 'uft > sft on countdown'")
    if file is None:
        sys.exit(answer_claim(str(text), comparison, results, as_json))
    sys.exit(answer_file(file, results, as_json))


def answer_claim(text: str, comparison: str | None, results: Path, as_json: bool) -> int:
    """Print the answer to one claim; its exit code."""
    from bench.analysis.claim_files import CODES, evaluate_claim
    from bench.analysis.claim_grammar import parse_claim
    from bench.report.table_writers import json_text

    answer = evaluate_claim(parse_claim(text), results, comparison)
    say(json_text(answer.as_dict()) if as_json else answer.sentence)
    return CODES[answer.verdict]


def answer_file(file: Path, results: Path, as_json: bool) -> int:
    """Print the answers to all claims of a file; exit code 1 if one is not as stated."""
    from bench.analysis.claim_files import evaluate_file
    from bench.analysis.sentences import point_limits, signed_points
    from bench.report.table_writers import json_text
    from bench.report.terminal_table import terminal_table

    answers = evaluate_file(file, results)
    wrong = [(entry, answer) for entry, answer in answers if answer.verdict != entry.expect]
    if as_json:
        stated = [(answer.as_dict(), entry, answer.verdict == entry.expect) for entry, answer in answers]
        rows = [{**a, "where": entry.where, "expect": entry.expect, "holds": holds} for a, entry, holds in stated]
        say(json_text(rows))
    else:
        body = []
        for entry, answer in answers:
            d = answer.difference
            effect = f"{signed_points(d.mean)} {point_limits(d.low, d.high)}" if d else "not measured"
            verdict = answer.verdict if answer.verdict == entry.expect else f"{answer.verdict} (!)"
            body.append([entry.claim.text, effect, f"{d.num_seeds} x {d.num_items}" if d else "-", verdict])
        right = len(answers) - len(wrong)
        note = f"{right} of {len(answers)} claims are as stated, (!) are not. Effects: points, 95 %."
        say(terminal_table(f"Claims of {file}", ["claim", "effect", "seeds x items", "verdict"], body, [note]))
    for entry, answer in wrong:
        say(f"{entry.where}: stated as {entry.expect}, but {answer.sentence}", error=True)
    return 1 if wrong else 0
