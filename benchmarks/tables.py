"""The command line of benchmarks that make tables of a document: print them, or put them between their markers."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

Tables = Mapping[str, Callable[[int], str]]  # by the name in the markers: a table from a number of repetitions


def make_tables(description: str | None, tables: Tables, repetitions: int) -> None:
    """Make all tables, or the one of ``--only``; with ``--out`` write them into that file."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=repetitions)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", choices=tables, help="one table instead of all")
    args = parser.parse_args()
    for name in [args.only] if args.only else tables:
        text = tables[name](args.repetitions)
        if args.out is None:
            print(text)
        else:
            replace_between(args.out, name, text)


def replace_between(path: Path, name: str, text: str) -> None:
    """Put a text between the markers of this name; ValueError if the file lacks one of them."""
    before, start, rest = path.read_text(encoding="utf-8").partition(f"<!-- {name} -->")
    _, end, after = rest.partition(f"<!-- end of {name} -->")
    if not start or not end:
        raise ValueError(f"{path} has no markers <!-- {name} --> and <!-- end of {name} -->")
    path.write_text(f"{before}{start}\n{text}\n{end}{after}", encoding="utf-8")
