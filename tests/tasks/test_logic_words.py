"""Knights & Knaves in words: what the prompt says, and that each line of the solution is true and called for."""

import itertools
import random
import re
from collections import Counter

import pytest

from tasks._logic.claims import holds, people_in, truth_mask
from tasks._logic.text import FIRST_NAMES, claim_words
from tasks.logic import TASK
from tests.tasks.samples import draw

LEVELS = tuple(TASK.levels)
WORDED = tuple(level for level in LEVELS if level not in ("2", "3", "4"))
ATOM = re.compile(r"(\w+) is (not )?a (knight|knave)")
ASSUMED = re.compile(r"Assume (\w+) is a (\w+)\. No contradiction is found in their (false )?claim that (.*)\.\n")
REFUSED = re.compile(r"(\w+) cannot be a (\w+): this contradicts the (false )?claim of (\w+) that (.*)\.\n")
BACK = re.compile(r"No kind is left for (\w+), so (\w+) is not a (\w+)\.\n")


def split(text, word):
    """The two sides of a word that stands outside all parentheses, None if it does not."""
    for match in re.finditer(re.escape(word), text):
        if text.count("(", 0, match.start()) == text.count(")", 0, match.start()):
            return text[: match.start()], text[match.end() :]
    return None


def meaning(text):
    """An independent reading of a claim: a function from {name: kind} to bool."""
    if text.startswith("(") and text.endswith(")") and split(text[1:-1] + " ", " ") is not None:
        inner = text[1:-1]
        depths = itertools.accumulate((c == "(") - (c == ")") for c in inner)
        if min(depths) >= 0:
            return meaning(inner)
    if match := ATOM.fullmatch(text):
        name, denied, kind = match.groups()
        return lambda kinds: (kinds[name] == kind) != bool(denied)
    if text.startswith("it is not true that "):
        inner = meaning(text.removeprefix("it is not true that "))
        return lambda kinds: not inner(kinds)
    if text.startswith("either "):
        one, two = map(meaning, split(text.removeprefix("either ").removesuffix(" but not both"), " or "))
        return lambda kinds: one(kinds) != two(kinds)
    if text.startswith("if "):
        one, two = map(meaning, split(text.removeprefix("if "), " then "))
        return lambda kinds: two(kinds) if one(kinds) else True
    for word, rule in ((" if and only if ", bool.__eq__), (" and ", bool.__and__), (" or ", bool.__or__)):
        if sides := split(text, word):
            one, two = map(meaning, sides)
            return lambda kinds, rule=rule: bool(rule(bool(one(kinds)), bool(two(kinds))))
    raise AssertionError(f"cannot read {text!r}")


def claims_of(prompt):
    """Each speaker's claim as it stands in the prompt, first letters lowered where they begin no name."""
    found = dict(re.findall(r'(\w+) says: "(.*?)\."', prompt))
    return {name: re.sub("^(If|It|Either) ", lambda m: m[0].lower(), text) for name, text in found.items()}


def assignments(names):
    return [dict(zip(names, kinds)) for kinds in itertools.product(("knight", "knave"), repeat=len(names))]


def fits(claim, name, kinds):
    return claim(kinds) == (kinds[name] == "knight")


@pytest.mark.parametrize("level", LEVELS)
def test_the_words_have_one_solution(level):
    for problem in draw(TASK, 40, level):
        claims = {name: meaning(text) for name, text in claims_of(TASK.prompt(problem, "plain")).items()}
        assert list(claims) == problem["names"]
        found = [k for k in assignments(claims) if all(fits(claim, name, k) for name, claim in claims.items())]
        assert found == [dict(zip(claims, ("knight" if kind else "knave" for kind in problem["solution"])))]


def check_reasoning(names, claims, lines):
    """Every line of a solution is true given the assumptions in force; returns the kinds assumed at its end."""
    assumed, excluded, worlds = {}, {name: set() for name in names}, assignments(names)

    def possible(trial, judged):
        left = (k for k in worlds if all(k[name] == kind for name, kind in trial.items()))
        return any(fits(claims[judged], judged, kinds) for kinds in left)

    for line in lines:
        if match := ASSUMED.fullmatch(line):
            name, kind, false, _ = match.groups()
            assert name not in assumed and bool(false) == (kind == "knave")
            assumed[name] = kind
            assert all(possible(assumed, judged) for judged in assumed)
        elif match := REFUSED.fullmatch(line):
            name, kind, false, judged, _ = match.groups()
            trial = assumed | {name: kind}
            assert name not in assumed and bool(false) == (trial[judged] == "knave")
            assert not possible(trial, judged)
            excluded[name].add(kind)
        else:
            name, last, kind = BACK.fullmatch(line).groups()
            assert excluded[name] == {"knight", "knave"} and assumed.popitem() == (last, kind)
            excluded[name] = set()
            excluded[last].add(kind)
    return assumed


@pytest.mark.parametrize("level", LEVELS)
def test_each_line_of_a_solution_is_true(level):
    for problem in draw(TASK, 40, level):
        texts = claims_of(TASK.prompt(problem, "plain"))
        claims = {name: meaning(text) for name, text in texts.items()}
        steps = TASK.demonstrate(problem, "plain").steps
        lines, answer = steps[: -len(claims)], "".join(steps[-len(claims) :])
        kinds = check_reasoning(list(claims), claims, lines)
        for line in lines:  # claims are quoted as they stand in the prompt
            if match := (ASSUMED.fullmatch(line) or REFUSED.fullmatch(line)):
                assert texts[match[4] if match.re is REFUSED else match[1]] == match[match.lastindex]
        assert answer.startswith("So (1) ") and TASK.verify(problem, f"<answer>{answer[3:]}</answer>").correct
        assert all(f") {name} is a {kind}" in answer for name, kind in kinds.items())


def test_the_solution_of_a_small_problem():
    problem = {
        "names": ["Ida", "Otto"],
        "statements": [["and", ["knave", 0], ["knight", 1]], ["not", ["knave", 0]]],
        "solution": [False, False],
    }
    assert TASK.demonstrate(problem, "chat").text == (
        "<think> Ida cannot be a knight: this contradicts the claim of Ida that Ida is a knave and Otto is a knight.\n"
        "Assume Ida is a knave. No contradiction is found in their false claim that Ida is a knave and Otto is a "
        "knight.\n"
        "Otto cannot be a knight: this contradicts the false claim of Ida that Ida is a knave and Otto is a knight.\n"
        "Assume Otto is a knave. No contradiction is found in their false claim that Ida is not a knave.\n"
        "So (1) Ida is a knave\n(2) Otto is a knave </think>\n"
        "<answer> (1) Ida is a knave\n(2) Otto is a knave </answer>"
    )


def test_claims_in_words():
    nested = ["not", ["and", ["knave", 0], ["not", ["knight", 1]]]]
    assert claim_words(nested, ["Ida", "Otto"]) == "it is not true that (Ida is a knave and Otto is not a knight)"
    three = ["implies", ["or", ["knave", 0], ["knight", 1], ["knave", 1]], ["xor", ["knave", 0], ["knight", 1]]]
    assert claim_words(three, ["A", "B"]) == (
        "if (A is a knave or B is a knight or B is a knave) then (either A is a knave or B is a knight but not both)"
    )


def heads(statement):
    return statement[0], [part[0] for part in statement[1:] if isinstance(part, list)]


@pytest.mark.parametrize("level", WORDED)
def test_levels_keep_their_promise(level):
    problems = draw(TASK, 150, level)
    counts = {len(p["names"]) for p in problems}
    assert counts == ({3, 4, 5, 6, 7} if level == "3to7" else {int(level[0])})
    assert all(set(p["names"]) <= set(FIRST_NAMES) and len(set(p["names"])) == len(p["names"]) for p in problems)
    claims = [s for p in problems for s in p["statements"]]
    found = Counter(heads(s)[0] for s in claims)
    inner = {head for s in claims for head in heads(s)[1]}
    assert {"not", "and", "or", "implies", "iff"} <= set(found) and "xor" not in set(found) | inner
    if level.endswith("-nested"):
        assert all(set(heads(s)[1]) & {"and", "or", "implies", "iff"} for s in claims)
    else:
        assert {"knight", "knave"} <= set(found) and inner == {"knight", "knave"}
        assert all(found[head] > 0.08 * len(claims) for head in ("not", "and", "or", "implies", "iff"))


def test_masks_are_what_holds():
    for problem in draw(TASK, 100, "4-nested") + draw(TASK, 100, "4"):
        for statement in problem["statements"]:
            for number in range(16):
                kinds = [bool(number >> i & 1) for i in range(4)]
                assert bool(truth_mask(statement, 4) >> number & 1) == holds(statement, kinds)
            assert set(people_in(statement)) == {int(n) for n in re.findall(r"\d", str(statement))}


def test_chance_and_prompts():
    for level in LEVELS:
        problem = TASK.generate(random.Random(3), level)
        assert TASK.chance(problem) == 0.5 ** len(problem["names"])
        plain, chat = TASK.prompt(problem, "plain"), TASK.prompt(problem, "chat")
        assert chat in plain and plain.endswith("<think> ") and plain.isascii()
        assert TASK.demonstrate(problem, "chat").text == "<think> " + TASK.demonstrate(problem, "plain").text
