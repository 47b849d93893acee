"""Knights & Knaves answers in many spellings: right ones are paid, wrong ones never are."""

import random

import pytest

from tasks.logic import TASK as LOGIC
from tests.tasks import spellings
from tests.tasks.spelling_checks import SEEDS, check
from tests.tasks.spellings import other, solution, taught


@SEEDS
def test_logic_spellings_of_the_right_assignment(seeds):
    for seed in seeds:
        rng = random.Random(f"right {seed}")
        problem = spellings.logic_case(rng)
        check(LOGIC, problem, spellings.logic_answer(rng, solution(problem)), True)


@SEEDS
def test_logic_spellings_of_wrong_assignments(seeds):
    for seed in seeds:
        rng = random.Random(f"wrong {seed}")
        problem = spellings.logic_case(rng)
        pairs, kind = solution(problem), rng.randrange(6)
        place = rng.randrange(len(pairs))
        name, found = pairs[place]
        strangers = [n for n in spellings.NAMES if n not in problem["names"]]
        if kind <= 1:
            for i in {place, *rng.sample(range(len(pairs)), rng.randint(0, len(pairs) - 1))}:
                pairs[i] = (pairs[i][0], other(pairs[i][1]))
        elif kind == 2:
            del pairs[place]
        elif kind == 3:
            pairs.append((name, rng.choice((found, other(found)))))
        elif kind == 4:
            pairs[place] = (rng.choice(strangers), found)
        else:
            pairs.append((rng.choice(strangers), found))
        check(LOGIC, problem, spellings.logic_answer(rng, pairs), False)


@SEEDS
def test_logic_answers_with_a_word_that_changes_them(seeds):
    for seed in seeds:
        rng = random.Random(f"words {seed}")
        problem = spellings.logic_case(rng)
        lines = [f"{name} is a {kind}" for name, kind in solution(problem)]
        name, kind = solution(problem)[0]
        lines[0] = rng.choice(
            (
                f"{name} is not a {kind}",
                f"{name} is not a {other(kind)}",
                f"{name} isn't a {kind}",
                f"{name} is no {kind}",
                f"{name} is never a {kind}",
                f"{name} is a *not* {kind}",
                f"{name} is a {kind} or {other(kind)}",
                f"{name} is a {kind}/{other(kind)}",
                f"{name} is a {kind} or a {other(kind)}",
                f"{name} is a ~~{other(kind)}~~ {kind}",
                f"{name} may be a {kind}",
                f"{name} is a {kind}?",
                f"if {name} is a {kind}",
                f"it is false that {name} is a {kind}",
                f"“{name} is a {kind}” is false",
                f"{name} says “{name} is a {kind}”",
                f"{name} says that {name} is a {kind}",
                f"{name}: {name} is a {kind}",
                f"non-{name} is a {kind}",
                f"{name} is a non-{kind}",
                rf"{name} is a $\neg$ {kind}",
                rf"\cancel{{{name} is a {kind}}}",
                f"| {name} | not | {kind} |",
                f"everyone is a {kind}",
            )
        )
        check(LOGIC, problem, rng.choice((", ", "\n", "; ")).join(lines), False)


TWO = taught(("Zoe", True), ("Mary Ann", False))


@pytest.mark.parametrize(
    "answer",
    [
        "Zoe: knight, Ann: knave",
        "Zoe: knight, Mary: knave",
        "Zoe: knight, mary ann: knave",
        "Zoe: knight, MaryAnn: knave",
        "Zoe: knight, Mary-Ann: knave",
        "Zoe: knight, Mary Ann: knave, Mary: knave",
        "Zoë: knight, Mary Ann: knave",
        "Zoe\u200b: knight, Mary Ann: knave",
        "Zoe: knight Mary Ann: knave",
        "Zoe and Mary Ann are knights",
        "Zoe is a knight & Mary Ann is a knave",
        "So: Zoe is a knight, Mary Ann is a knave",
        "Zoe is a knight, Mary Ann is a knave, as she lies",
        "Zoe is a truth-teller, Mary Ann is a liar",
        "Z: knight, M: knave",
        "Zoe: K, Mary Ann: N",
        "knight, knave",
        "Zoe:\nknight\nknave\nMary Ann:",
        "Zoe: knight\nMary Ann:",
        "Zoe:\nMary Ann:\nknave",
        "| Person | is not a |\n|---|---|\n| Zoe | knight |\n| Mary Ann | knave |",
        "| Name | Knight | Knave |\n|---|---|---|\n| Zoe | x | |\n| Mary Ann | | x |",
        "| Knight | Knave |\n|---|---|\n| Zoe | Mary Ann |",
        r"\boxed{Zoe is a knight, Mary Ann is a knave} \boxed{Zoe is a knave, Mary Ann is a knave}",
        r"\boxed{Zoe is a knave, Mary Ann is a knave}, \boxed{Zoe is a knight, Mary Ann is a knave}",
        "Zoe is a knight, Mary Ann is a knave\n\nor\n\nZoe is a knave, Mary Ann is a knight",
        '{"Zoe": "knight", "Mary Ann": "knave"} {"Zoe": "knave"}',
        '{"Zoe": {"kind": "knight"}, "Mary Ann": {"kind": "knave"}}',
        '{"Zoe": true, "Mary Ann": false}',
        "knights: Zoe, Mary Ann; knaves: Mary Ann",
        "knights: all; knaves: none",
        "not (Zoe is a knight, Mary Ann is a knave)",
        "Zoe is a knight, Mary Ann is a knave; not",
        "Zoe says that Mary Ann is a knave. Mary Ann says that Zoe is a knight.",
        r"\begin{aligned} Zoe &= knight \\ Mary Ann &= knave \end{aligned}",
    ],
)
def test_logic_refuses_what_may_mean_something_else(answer):
    check(LOGIC, TWO, "Zoe is a knight\nMary Ann is a knave", True)
    check(LOGIC, TWO, answer, False)


def test_names_that_hold_other_names_are_told_apart():
    people = (("Ann", True), ("Mary Ann", False), ("Mary", True), ("Ann-Lena", False), ("Lena", True), ("A", False))
    problem = taught(*people)
    right = [f"{name} is a {'knight' if knight else 'knave'}" for name, knight in people]
    for seed in range(200):
        rng = random.Random(seed)
        check(LOGIC, problem, rng.choice((", ", "\n- ", "; ", " and ")).join(rng.sample(right, len(right))), True)
        wrong = list(right)
        place = rng.randrange(len(wrong))
        wrong[place] = " ".join((*wrong[place].split(" ")[:-1], "knave" if people[place][1] else "knight"))
        check(LOGIC, problem, ", ".join(wrong), False)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Knights: A, B\nC: knave", True),
        ("Knaves: C\nA: knight\nB is a knight", True),
        ("knights: A and B; C is a knave", True),
        ("- Knights:\n  - A\n  - B\n- Knaves:\n  - C", True),
        ("knights: A, B, knaves: C", True),
        ("Knights: A\nB, C: knave", False),  # B may be either
        ("knights: A; B and C: knave", False),
        ("knights: A, B, C knave", False),
        ("knights: A, B:\nknave", False),
        ("knaves: C; knights: none; A, B", False),
        ("knaves: C\nA\nB", False),
    ],
)
def test_lists_by_kind_end_where_another_kind_is_said(answer, right):
    check(LOGIC, taught(("A", True), ("B", True), ("C", False)), answer, right)
