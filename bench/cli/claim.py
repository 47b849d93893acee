"""`bench claim`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.options import Json, Results
from bench.store.run_folder import DEFAULT_RESULTS
from bench.types import UserError


def claim(
    text: Annotated[str | None, typer.Argument(help="For example: 'uft > sft on countdown at equal flops'.")] = None,
    file: Annotated[Path | None, typer.Option(help="YAML list of {claim, where, expect, results, comparison}.")] = None,
    comparison: Annotated[str | None, typer.Option(help="Beginning of a comparison's id, where several fit.")] = None,
    results: Results = DEFAULT_RESULTS,
    as_json: Json = False,
) -> None:
    """Test a claim on finished runs: supported (exit code 0), refuted (1) or underpowered (2; bad input is 2, too).

    A > B, A < B or A = B, then any of: on TASK, on TASK level L, at equal CURRENCY, by N points, split NAME, metric
    accuracy (or greedy, pass@K), corrected. A = B: equivalence within N points, 2 if not given. One test at 5 %;
    corrected: the p-value of the table, after Holm's correction.
    With --file every claim of a file is tested; exit code 1 if one differs from its 'expect'.
    """
    if (text is None) == (file is None):
        raise UserError("give either a claim or --file, for example: bench claim 'uft > sft on countdown'")
    sys.exit(one(str(text), comparison, results, as_json) if file is None else many(file, results, as_json))


def one(text: str, comparison: str | None, results: Path, as_json: bool) -> int:
    """Exit code of one claim."""
    from bench.analysis.claim_files import CODES, evaluate_claim
    from bench.analysis.claims import parse_claim
    from bench.report.table_writers import json_text

    found = evaluate_claim(parse_claim(text), results, comparison)
    print(json_text(found.as_dict()) if as_json else found.sentence)
    return CODES[found.verdict]


def many(file: Path, results: Path, as_json: bool) -> int:
    """Exit code of a file of claims."""
    from bench.analysis.claim_files import evaluate_file
    from bench.analysis.sentences import point_limits, signed_points
    from bench.report.table_writers import json_text
    from bench.report.terminal_table import terminal_table

    found = evaluate_file(file, results)
    wrong = [(entry, answer) for entry, answer in found if answer.verdict != entry.expect]
    if as_json:
        rows = [{**a.as_dict(), "where": e.where, "expect": e.expect, "holds": a.verdict == e.expect} for e, a in found]
        print(json_text(rows))
    else:
        body = []
        for entry, answer in found:
            d = answer.difference
            effect = f"{signed_points(d.mean)} {point_limits(d.low, d.high)}"
            verdict = answer.verdict if answer.verdict == entry.expect else f"{answer.verdict} (!)"
            body.append([entry.claim.text, effect, f"{d.num_seeds} x {d.num_items}", verdict])
        note = f"{len(found) - len(wrong)} of {len(found)} claims are as stated, (!) are not. Effects: points, 95 %."
        print(terminal_table(f"Claims of {file}", ["claim", "effect", "seeds x items", "verdict"], body, [note]))
    for entry, answer in wrong:
        print(f"{entry.where}: stated as {entry.expect}, but {answer.sentence}", file=sys.stderr)
    return 1 if wrong else 0
