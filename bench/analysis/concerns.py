"""Marks of rows besides the passport's: missing runs, and settings that no method declares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

MISSING, UNDECLARED = "missing", "undeclared"
SIGNS = {MISSING: " #", UNDECLARED: " ^"}
TITLES = {
    MISSING: "# runs are missing or failed",
    UNDECLARED: "^ differs from other rows of this table in what no method declares ('bench diff' shows all)",
}
Concern = tuple[str, str]  # one of SIGNS, and what there is to say
Concerns = Mapping[tuple[str, int, str], Sequence[Concern]]  # by comparison, protocol and method


def signs(concerns: Iterable[Concern]) -> str:
    """What follows a method's name: one sign for each kind."""
    kinds = {kind for kind, _ in concerns}
    return "".join(sign for kind, sign in SIGNS.items() if kind in kinds)


def notes(concerns: Mapping[str, Sequence[Concern]]) -> list[str]:
    """One line for each kind of concern, with the methods that have it."""
    lines = []
    for kind, title in TITLES.items():
        said = {method: [words for k, words in marks if k == kind] for method, marks in concerns.items()}
        parts = [f"{method} ({', '.join(words)})" for method, words in said.items() if words]
        if parts:
            lines.append(f"{title}: {'; '.join(parts)}.")
    return lines


def fewer_seeds(num_seeds: Mapping[str, int]) -> dict[str, list[Concern]]:
    """Methods with fewer seeds than another of their table; base, which does not train, may have fewer."""
    most = max((n for method, n in num_seeds.items() if method != "base"), default=0)
    return {
        method: [(MISSING, f"{n} of {most} seeds")] if method != "base" and n < most else []
        for method, n in num_seeds.items()
    }
