"""The sentences under a table, each derived from a test; differences are percentage points here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bench.analysis.contests import Pair
from bench.analysis.table import Row
from bench.stats.intervals import ALPHA, FEWEST, Difference
from bench.stats.power import MOST_SEEDS, POWER

LISTED_TIES = 10
ONE_SEED = (
    "One seed: every interval covers items only, not the variation between seeds; a difference is one of these runs, "
    "not of the methods, which therefore all share a letter."
)
TWO_SEEDS = (
    f"Two seeds: too few for a corrected test, which takes {FEWEST}, so all methods share a letter; differences, their "
    "intervals and uncorrected p-values stand."
)


def signed_points(x: float) -> str:
    """Signed percentage points of a fraction: .0131 is "+1.3"; a value that rounds to zero is "+0.0"."""
    return f"{round(100 * x, 1) + 0.0:+.1f}"


def point_limits(low: float, high: float) -> str:
    return f"[{signed_points(low)}, {signed_points(high)}]"


def p_text(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def describe_difference(difference: Difference, adjusted: float) -> str:
    """Difference in words, for a sentence's brackets."""
    seeds = f"{difference.num_seeds} seed{'s' if difference.num_seeds > 1 else ''}"
    alone = f", uncorrected {difference.p_value:.3f}" if difference.p_value <= ALPHA < adjusted else ""
    if difference.correctable:
        tested = f"Holm-adjusted p {p_text(adjusted)}{alone}"
    elif difference.num_seeds > 1:
        tested = f"uncorrected p {p_text(difference.p_value)}, too few seeds for a corrected test"
    else:
        tested = "not tested for other seeds"
    return (
        f"difference {signed_points(difference.mean)} points, 95 % interval {signed_points(difference.low)} to "
        f"{signed_points(difference.high)}, {seeds} x {difference.num_items} items, {tested}"
    )


def table_sentences(rows: Sequence[Row], pairs: Sequence[Pair], chance: float) -> list[str]:
    """Sentences under a table, each derived from a test: base, ties, chance, and what the intervals leave out."""
    sentences = [*say_base(rows), *say_ties(pairs)]
    level = [r.method for r in rows if r.ranked.low <= chance <= r.ranked.high]
    beyond = f"; the interval of {listed_names(level)} includes it" if level else ""
    if np.isfinite(chance):
        sentences.append(f"Chance (a random valid answer): {100 * chance:.1f} %{beyond}.")
    trained = [r for r in rows if r.method != "base"]
    sentences += say_few_seeds({r.method: len(r.scores.seeds) for r in trained})
    return [*sentences, *say_trials({row.method: row.tuned for row in trained})]


def say_few_seeds(num_seeds: Mapping[str, int]) -> list[str]:
    """Why trained methods with one or two seeds share a letter with every method; nothing where each has more."""
    trained = {method: num for method, num in num_seeds.items() if method != "base"}
    few = (
        (1, ONE_SEED, "intervals and differences cover items only, not the variation between seeds"),
        (2, TWO_SEEDS, f"differences, their intervals and uncorrected p-values stand, a corrected test takes {FEWEST}"),
    )
    sentences = []
    for count, of_all, why in few:
        methods = [method for method, num in trained.items() if num == count]
        if methods and len(methods) == len(trained):
            sentences.append(of_all)
        elif methods:
            number = "One seed" if count == 1 else "Two seeds"
            sentences.append(f"{number} of {listed_names(methods)}: {why}; hence a letter shared with all.")
    return sentences


def say_base(rows: Sequence[Row]) -> list[str]:
    """Which methods differ from base, with the difference."""
    by_side: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.gain is not None and row.gain_adjusted is not None:
            side = "tie" if row.gain_adjusted > ALPHA else "above" if row.gain.mean > 0 else "below"
            by_side[side].append(f"{row.method} ({describe_difference(row.gain, row.gain_adjusted)})")
    if not by_side:
        return [] if len(rows) == 1 and rows[0].method == "base" else ["No base run here: gains are not shown."]
    sentences = [f"Better than base: {'; '.join(by_side['above'])}." if by_side["above"] else "No method beats base."]
    if by_side["below"]:
        sentences.append(f"Worse than base: {'; '.join(by_side['below'])}.")
    if by_side["tie"]:
        sentences.append(f"Tie with base: {'; '.join(by_side['tie'])}.")
    return sentences


def say_ties(pairs: Sequence[Pair]) -> list[str]:
    """Which pairs of trained methods are a tie, one sentence each up to ``LISTED_TIES``, and that the others differ."""
    trained = [p for p in pairs if "base" not in (p.first, p.second)]
    ties = [p for p in trained if p.tie]
    sentences = [
        f"{p.first} and {p.second}: tie ({describe_difference(p.difference, p.adjusted)})." for p in ties[:LISTED_TIES]
    ]
    if len(ties) > LISTED_TIES:
        sentences.append(f"{len(ties) - LISTED_TIES} more ties: methods that share a letter.")
    if len(ties) < len(trained):
        which = "All other pairs of trained methods differ" if ties else "All pairs of trained methods differ"
        sentences.append(f"{which} (Holm-adjusted p <= {ALPHA}).")
    return sentences


def say_selected(rows: Sequence[Row]) -> list[str]:
    """What changes when validation chooses the policy instead of the end of the budget; nothing without selections."""
    known = [(row, row.selected) for row in rows if row.method != "base" and row.selected is not None]
    if not known:
        return []
    parts = []
    for row, choice in known:
        if min(choice.fractions) == 1.0:
            continue
        shares = choice.fractions if len(set(choice.fractions)) > 1 else choice.fractions[:1]
        at = ", ".join(f"{100 * fraction:g}" for fraction in shares)
        limits = f"[{100 * choice.accuracy.low:.1f}, {100 * choice.accuracy.high:.1f}]"
        last = f"last policy {100 * row.accuracy.mean:.1f}; after {at} % of the budget"
        parts.append(f"{row.method} {100 * choice.accuracy.mean:.1f} {limits} ({last})")
    others = "; of the other methods always the last one" if parts and len(parts) < len(known) else ""
    said = "; ".join(parts) or "of every run the last one"
    return [f"Policy of the best validation: {said}{others}."]


def say_trials(methods: Mapping[str, Mapping[str, Any] | None]) -> list[str]:
    """Which trained methods of a table were tuned and at what cost; then which were not, or with fewer trials."""
    tuned = {method: trials for method, trials in methods.items() if trials}
    if not tuned:
        return []
    parts = [
        f"{method}: {trials['trials']} trials, {trials['flops']:.1e} FLOPs, "
        + ", ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in trials["settings"].items()
        )
        for method, trials in tuned.items()
    ]
    sentences = [f"Tuned on validation, at a cost beside that of the runs: {'; '.join(parts)}."]
    rest = [method for method in methods if method not in tuned]
    if rest:
        sentences.append(f"Not tuned like these: {', '.join(rest)}.")
    if len({trials["trials"] for trials in tuned.values()}) > 1:
        sentences.append("The numbers of trials differ: the comparison favours the methods with more.")
    return sentences


def listed_names(names: Sequence[str]) -> str:
    """Names joined as in a sentence: "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def say_planning(needed: Mapping[str, int | None], beyond: str = "") -> str:
    """Planning figures of ``seeds_to_find``: ``to find an effect of 2 or 5 points with power 0.8: 40 or 8 seeds``."""
    numbers = [f"over {MOST_SEEDS}" if number is None else str(number) for number in needed.values()]
    effects, seeds = (f"{', '.join(words[:-1])} or {words[-1]}" for words in (list(needed), numbers))
    return f"to find an effect of {effects} points{beyond} with power {POWER:g}: {seeds} seeds"
