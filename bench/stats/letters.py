"""Letters that say which methods of a table are not shown to differ."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from itertools import combinations


def tie_groups(
    methods: Sequence[str], adjusted: Mapping[tuple[str, str], float], alpha: float = 0.05
) -> dict[str, str]:
    """Compact letter display: two methods share a letter if and only if their adjusted p is above ``alpha``.

    ``methods`` are sorted by accuracy, best first; ``adjusted`` has a key (earlier, later) for every pair.
    Source: insert-and-absorb algorithm of Piepho 2004 (doi 10.1198/1061860043515).
    """
    # A column is a set of methods that share a letter.  Begin with one for all.  For every pair that differs, replace
    # each column that holds both by two with one of them each, and drop columns that lie within another.
    columns = [frozenset(range(len(methods)))]
    for i, j in combinations(range(len(methods)), 2):
        if adjusted[methods[i], methods[j]] > alpha:
            continue
        split = {part for c in columns for part in ((c - {i}, c - {j}) if {i, j} <= c else (c,))}
        columns = [c for c in split if not any(c < other for other in split)]
    columns.sort(key=sorted)
    letters = [*string.ascii_letters, *(f"({n})" for n in range(len(string.ascii_letters), len(columns)))]
    return {m: "".join(letters[n] for n, c in enumerate(columns) if i in c) for i, m in enumerate(methods)}
