"""Options that several commands share, and what reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.types import UserError

FORMATS = ("table", "markdown", "csv", "json", "latex")

Results = Annotated[Path, typer.Option(help="Folder of run directories.")]
Format = Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output (same as --format json).")]
Model = Annotated[str, typer.Option(help="tiny (embedded), a directory, or a hub name.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def check_format(format: str, as_json: bool) -> str:
    if format not in FORMATS:
        from bench.registry import nearest

        raise nearest(format, FORMATS, "format")
    return "json" if as_json else format


def parse_seeds(text: str) -> list[int]:
    """``3`` means seeds 0, 1, 2; ``0,4,7`` means these."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"malformed seeds '{text}': expected a number of seeds (3) or a list (0,1,2)") from None
    seeds = list(range(numbers[0])) if len(numbers) == 1 and "," not in text else numbers
    if not seeds or min(seeds) < 0:
        raise UserError(f"malformed seeds '{text}': expected at least one seed, none negative")
    return list(dict.fromkeys(seeds))


def existing(results: Path) -> Path:
    """The results folder; UserError if there is none."""
    if not results.exists():
        raise UserError(f"results folder '{results}' does not exist: run 'bench run' first or give --results")
    return results
