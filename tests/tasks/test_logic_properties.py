"""Properties of the Knights & Knaves verifier over many drawn problems; the oracle tries all assignments."""

import functools
import itertools
import random

import pytest

from tasks._logic.claims import holds
from tasks.common import FORMAT_REWARD
from tasks.logic import TASK
from tests.tasks.hostile import check_hostile, hostile, tagged

LEVELS = tuple(TASK.levels)
EACH = 50  # problems per seed
SEEDS = pytest.mark.parametrize(
    "seeds",
    [range(40), pytest.param(range(40, 200), marks=pytest.mark.exhaustive)],
    ids=["2,000 problems", "8,000 more"],
)
WORDINGS = ("{} {}", "{} is a {}", "{} is a {}.", "{}: {}", "{} = {}", "({n}) {} is a {}", "{n}. {}: {}", "- {} is {}")


@functools.cache
def drawn(seed):
    rng = random.Random(seed)
    return [TASK.generate(rng, rng.choice(LEVELS)) for _ in range(EACH)]


def problems_of(seeds):
    """Every problem, with the random numbers for its answer."""
    for seed in seeds:
        rng = random.Random(f"answers {seed}")
        for problem in drawn(seed):
            yield rng, problem


def oracle(problem, pairs):
    """Whether (name, kind) pairs name each person once with kinds under which exactly the knights' claims hold."""
    said = dict(pairs)
    if len(pairs) != len(said) or said.keys() != set(problem["names"]):
        return False
    kinds = [said[name] == "knight" for name in problem["names"]]
    return all(holds(statement, kinds) == kind for statement, kind in zip(problem["statements"], kinds))


def solution(problem):
    return [(name, "knight" if kind else "knave") for name, kind in zip(problem["names"], problem["solution"])]


def other(kind):
    return "knave" if kind == "knight" else "knight"


def mutated(rng, problem):
    """The solution with verdicts flipped, or a person dropped, repeated, contradicted, renamed or exchanged."""
    pairs = solution(problem)
    place, kind = rng.randrange(len(pairs)), rng.randrange(7)
    name, found = pairs[place]
    if kind == 0:
        pairs[place] = (name, other(found))
    elif kind == 1:
        pairs = [(n, rng.choice(("knight", "knave"))) for n, _ in pairs]
    elif kind == 2:
        del pairs[place]
    elif kind == 3:
        pairs.append((name, found))
    elif kind == 4:
        pairs.insert(rng.randrange(len(pairs) + 1), (name, other(found)))
    elif kind == 5:
        pairs[place] = (rng.choice([*problem["names"], "Nobody", name.lower() + "x"]), found)
    else:
        second = rng.randrange(len(pairs))
        pairs[place], pairs[second] = (name, pairs[second][1]), (pairs[second][0], found)
    return pairs


def written(rng, pairs):
    """An answer with these pairs in some order and wording that the verifier's grammar has."""
    pairs = rng.sample(pairs, len(pairs))
    if rng.random() < 0.2:
        groups = {k: [n for n, kind in pairs if kind == k] for k in ("knight", "knave")}
        lines = [f"{k}{rng.choice(('', 's'))}: {', '.join(names) or 'none'}" for k, names in groups.items()]
        return rng.choice(("; ", "\n")).join(lines)
    parts = [rng.choice(WORDINGS).format(name, kind, n=rng.randint(1, 9)) for name, kind in pairs]
    text = rng.choice((",", ", ", ";", "\n", " \n\n ", " and ", ", and ", ",\n", "\r\n")).join(parts)
    return rng.choice(("", " ", "\n")) + text + rng.choice(("", " \n"))


@SEEDS
def test_demonstrations_pass(seeds):
    for _, problem in problems_of(seeds):
        for template in TASK.templates:
            shown = TASK.demonstrate(problem, template)
            verdict = TASK.verify(problem, shown.text)
            assert verdict.correct and verdict.reward == 1, (problem, template, verdict)
            assert not TASK.verify(problem, "".join(shown.steps)).correct  # the answer is in the ending alone


@SEEDS
def test_mutations_pass_only_if_the_oracle_says_so(seeds):
    for rng, problem in problems_of(seeds):
        pairs = mutated(rng, problem)
        text = written(rng, pairs)
        verdict = TASK.verify(problem, tagged(text))
        assert verdict.correct == oracle(problem, pairs), (problem, text, verdict)
        assert verdict.correct or (verdict.reward == FORMAT_REWARD and verdict.reason)


def test_most_mutations_are_wrong_and_some_are_right():
    rng, problems = random.Random(1), drawn(1)
    right = [oracle(p, mutated(rng, p)) for p in problems for _ in range(20)]
    assert 0 < sum(right) < 0.3 * len(right)


@SEEDS
def test_orders_and_wordings_pass(seeds):
    for rng, problem in problems_of(seeds):
        text = f"words {tagged(written(rng, solution(problem)))}{rng.choice(('', chr(10), ' and more'))}"
        assert TASK.verify(problem, text).correct, (problem, text)


def test_only_one_assignment_passes():
    for problem in drawn(3):
        names = problem["names"]
        passed = [
            kinds
            for kinds in itertools.product((True, False), repeat=len(names))
            if TASK.verify(
                problem, tagged(", ".join(f"{n} {('knave', 'knight')[k]}" for n, k in zip(names, kinds)))
            ).correct
        ]
        assert passed == [tuple(problem["solution"])]


def test_2000_hostile_completions_are_refused():
    rng, problems = random.Random(2), drawn(2)
    for problem in problems:
        name, kind = solution(problem)[0]
        answer = ", ".join(" ".join(pair) for pair in solution(problem))
        own = (
            f"{answer}, {name} {kind}",
            f"{answer}; {name} {other(kind)}",
            f"{answer}, {name} is not a {other(kind)}",
            f"not ({answer})",
            answer.replace(name, name.lower(), 1) if name.lower() != name else "",
            answer.replace(kind, f"{kind} or {other(kind)}", 1),
            answer.replace(" ", ""),
            answer.replace(",", ""),
            f"{name}s: {kind}",
            f"knights: {', '.join(problem['names'])}; knaves: {', '.join(problem['names'])}",
        )
        check_hostile(TASK, problem, [tagged(text) for text in own])
        check_hostile(TASK, problem, [hostile(rng, answer) for _ in range(40 - len(own))])
