"""Verdicts on answers made from known values: equal spellings are paid, near misses are not, on either side.

``math_forms``, ``math_lists`` and ``math_trees`` build the answers without knowing how they are read.
"""

import collections
import random

import pytest

from tasks._math.compare import compare_answers
from tests.tasks import math_forms as forms
from tests.tasks import math_lists as lists
from tests.tasks import math_trees as trees

CASES = {
    "number": forms.number_case,
    "large": forms.large_case,
    "tiny": forms.tiny_case,
    "surd": forms.surd_case,
    "list": lists.list_case,
    "tuple": lists.tuple_case,
    "interval": lists.interval_case,
    "matrix": lists.matrix_case,
    "quantity": trees.quantity_case,
    "percent": trees.percent_case,
    "time": trees.time_case,
    "words": trees.words_case,
    "line": trees.line_case,
    "tree": trees.tree_case,
    "identity": trees.identity_case,
}
ONE_SIDED = {"percent"}  # gold and answer may not change places: a per cent sign may be left out, not added
MISSES = 0.001  # of the equal spellings may be refused


def check(seed, many):
    """Judges ``many`` triples of each kind; the refused spellings and the paid misses."""
    refused, paid, pairs = [], [], collections.Counter()
    for name, case in CASES.items():
        rng = random.Random(f"{seed}/{name}")
        for _ in range(many):
            gold, same, other = (forms.dressed(rng, text) if name == "number" else text for text in case(rng))
            equal = [(gold, gold), (gold, same)] + [(same, gold)] * (name not in ONE_SIDED)
            wrong = [(gold, other), (other, gold)]
            refused += [(name, *pair, compare_answers(*pair)[1]) for pair in equal if not compare_answers(*pair)[0]]
            paid += [(name, *pair, compare_answers(*pair)[1]) for pair in wrong if compare_answers(*pair)[0]]
            pairs["equal"] += len(equal)
            pairs["wrong"] += len(wrong)
    return refused, paid, pairs


def judge(seed, many, least):
    refused, paid, pairs = check(seed, many)
    assert not paid, (len(paid), paid[:20])
    assert len(refused) <= MISSES * pairs["equal"], (len(refused), refused[:20])
    assert sum(pairs.values()) >= least


def test_known_values():
    judge("quick", 24, 1000)


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
def test_many_known_values():
    judge("slow", 900, 10_000)
