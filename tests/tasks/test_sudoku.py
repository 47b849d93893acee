import hashlib
import itertools
import json
import random
import re

import pytest

from tasks.sudoku import TASK, complete_grids, rows_text
from tests.helpers.timing import timed
from tests.tasks.samples import draw, num_tokens

EMBEDDED = ("4x4-easy", "4x4")  # the levels that the embedded model knows
PROBLEM = {"clues": "2341/4.3./3..4/14..", "solution": "2341/4132/3214/1423"}
HOSTILE = (
    "",
    "<answer></answer>",
    "</answer><answer>",
    "<answer>" * 50_000,
    "<answer>" + "1234/" * 200_000 + "</answer>",
    "<answer>" + "/" * 200 + "</answer>",
    "<answer>" + " " * 200 + "</answer>",
    "<answer>9**9**9</answer>",
    "<answer>____/____/____/____</answer>",
    "<answer>2341/4\u06613\u0662/3214/1423</answer>",
    "<answer>\u00b2341/4132/3214/1423</answer>",
    "<answer>\x00\ud800</answer>",
    "<answer>{}{0.__class__}%s</answer>",
)


def is_valid(grid: tuple[str, ...]) -> bool:
    """Independent check of a complete 4x4 grid."""
    boxes = [{grid[r + i][c + j] for i in (0, 1) for j in (0, 1)} for r in (0, 2) for c in (0, 2)]
    groups = [set(row) for row in grid] + [set(column) for column in zip(*grid)] + boxes
    return all(group == set("1234") for group in groups)


def brute_force(clues: str) -> list[str]:
    """All solutions by trying every arrangement of every row."""
    rows = [
        ["".join(p) for p in itertools.permutations("1234") if all(c in (".", d) for c, d in zip(row, p))]
        for row in clues.split("/")
    ]
    return ["/".join(grid) for grid in itertools.product(*rows) if is_valid(grid)]


@pytest.mark.parametrize("level", EMBEDDED)
def test_demonstrations_verify_and_fit(level):
    rng = random.Random(1)
    for problem in draw(TASK, 2000, level):
        prompt = TASK.prompt(problem, "compact")
        demonstration = TASK.demonstrate(problem, "compact")
        practice = TASK.practice(rng, problem)
        assert TASK.verify(problem, demonstration.text).correct
        assert TASK.verify(problem, practice).reward > 0
        assert len(demonstration.steps) == problem["clues"].count(".")
        assert all(re.fullmatch(r"[a-d][1-4]=[1-4]\n", step) for step in demonstration.steps)
        assert num_tokens(TASK, prompt) + max(num_tokens(TASK, demonstration.text), num_tokens(TASK, practice)) <= 140


@pytest.mark.parametrize("level", EMBEDDED)
def test_solution_is_unique(level):
    for problem in draw(TASK, 50, level):
        assert brute_force(problem["clues"]) == [problem["solution"]]


def test_all_complete_grids_are_found():
    grids = complete_grids()
    assert len(set(grids)) == 288
    assert all(is_valid(tuple(grid[start : start + 4] for start in (0, 4, 8, 12))) for grid in grids)


def test_clues_without_exactly_one_solution_are_not_demonstrated():
    for clues in ("." * 16, "12..34..21..43..", "11" + "." * 14):
        with pytest.raises(ValueError, match="exactly one solution"):
            TASK.demonstrate({"clues": rows_text(clues), "solution": PROBLEM["solution"]}, "compact")


def digest(parts) -> str:
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


@pytest.mark.parametrize(
    ("level", "texts", "verdicts"),
    [
        ("4x4-easy", "b5bc0d27e58b94fe1ea11dd8f6f25811", "5259d828fb4f3e124ff2cd503f3fde20"),
        ("4x4", "c4dc51c5ab9a33d2b552d84a3d03077c", "3b3572411766fa43342aed591039a70a"),
    ],
)
def test_what_the_embedded_model_has_seen_stays_the_same(level, texts, verdicts):
    """Digests computed before the larger levels existed: a change of these must raise the task's version."""
    rng = random.Random(7)
    shown, judged = [], []
    for problem in draw(TASK, 200, level):
        gold = TASK.demonstrate(problem, "compact")
        shown.append([problem, TASK.key(problem), TASK.prompt(problem, "compact"), gold.steps, gold.ending])
        shown[-1].append(TASK.chance(problem))
        practice = TASK.practice(rng, problem)
        for _ in range(10):
            text = list(practice if rng.random() < 0.5 else gold.text)
            for _ in range(rng.randint(0, 2)):
                text[rng.randrange(len(text))] = rng.choice("1234./ \nx<")
            verdict = TASK.verify(problem, "".join(text))
            judged.append([verdict.correct, verdict.reward, verdict.reason])
    # 2 and 3 read more layouts of an answer each, all else is as in 1.
    assert TASK.version == 3 and TASK.template_versions == {"compact": 2}
    assert (digest(shown), digest(judged)) == (texts, verdicts)


def test_every_practice_step_is_legal_in_its_row():
    rng = random.Random(2)
    for problem in draw(TASK, 300, "4x4"):
        *lines, answer = TASK.practice(rng, problem).split("\n")
        grid = [list(row) for row in problem["clues"].split("/")]
        for line in lines:
            row, column, digit = "abcd".index(line[0]), int(line[1]) - 1, line[3]
            assert grid[row][column] == "." and digit not in grid[row]
            grid[row][column] = digit
        assert answer == f"<answer>{'/'.join(''.join(row) for row in grid)}</answer>"


SIX = {
    "clues": "..4.../.6..2./4...3./....../..13../.451..",
    "solution": "254613/163425/412536/536241/621354/345162",
}
DRAWING = """
+-------+-------+
| 2 5 4 | 6 1 3 |
| 1 6 3 | 4 2 5 |
+-------+-------+
| 4 1 2 | 5 3 6 |
| 5 3 6 | 2 4 1 |
|-------+-------|
| 6 2 1 | 3 5 4 |
| 3 4 5 | 1 6 2 |
+-------+-------+
"""


@pytest.mark.parametrize(
    "answer",
    [
        "254613/163425/412536/536241/621354/345162",
        " 2 5 4 6 1 3 / 163425 / 412536\n/ 536241 / 621354/345162\n",
        "254613\n163425\n412536\n536241\n621354\n345162",
        "\r\n 254613\r\n\r\n 163425\r\n412536\t\r\n536241\r\n621354\r\n345162\r\n",
        "2 5 4 6 1 3\n1 6 3 4 2 5\n4 1 2 5 3 6\n5 3 6 2 4 1\n6 2 1 3 5 4\n3 4 5 1 6 2",
        "254613 163425 412536 536241 621354 345162",
        "\n  254613  163425  412536\t536241 621354 345162\n",
        "254|613\n163|425\n---+---\n412|536\n536|241\n---+---\n621|354\n345|162",
        DRAWING,
        "254613163425412536536241621354345162",
        "2 5 4 6 1 3 1 6 3 4 2 5 4 1 2 5 3 6 5 3 6 2 4 1 6 2 1 3 5 4 3 4 5 1 6 2",
        "254613,163425,412536,536241,621354,345162",
    ],
)
def test_equivalent_layouts_pass_and_judge_their_digits(answer):
    assert TASK.verify(SIX, f"<answer>{answer}</answer>").correct
    for wrong, reason in ((answer.replace("6", "5", 1), "twice"), (answer.replace("4", "3", 1), "clue")):
        verdict = TASK.verify(SIX, f"<answer>{wrong}</answer>")
        assert not verdict.correct and reason in verdict.reason


@pytest.mark.parametrize(
    "answer",
    [
        "25461316342541253653624162135434516",
        "25,46,13\n163425\n412536\n536241\n621354\n345162",
        "['254613', '163425', '412536', '536241', '621354', '345162']",
        "R1: 254613\nR2: 163425\nR3: 412536\nR4: 536241\nR5: 621354\nR6: 345162",
        "254613/163425/412536/536241/621354/345162/",
        "254|613/163|425/412|536/536|241/621|354/345|162",  # a drawing has lines
        "2-54613\n163425\n412536\n536241\n621354\n345162",
        "254613\n163425\n412536\n536241\n621354",
        "254613\n163425\n412536\n536241\n621354\n345162\n254613",
        "Answer:\n254613\n163425\n412536\n536241\n621354\n345162",
        "[[2,5,4,6,1,3],[1,6,3,4,2,5]]",
        "254613\n163425\n412536\n536241\n621354\n34516\u00b2",
        "\uff1254613\n163425\n412536\n536241\n621354\n345162",
        "254613\n163425\n412536\n536241\n621354\n34516.",
        "254613\n163425\n412536\n536241\n621354\n345167",
        " " * 1000 + "254613/163425/412536/536241/621354/345162",
    ],
)
def test_other_layouts_are_unreadable(answer):
    verdict = TASK.verify(SIX, f"<answer>{answer}</answer>")
    assert verdict.reward == 0.1 and "unreadable" in verdict.reason


def test_white_space_is_ignored():
    answer = " \n".join(PROBLEM["solution"])
    assert TASK.verify(PROBLEM, f"<answer>\n{answer}\n</answer> and more").correct


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("23414132321414233", "unreadable"),
        ("2341/4132/3214", "unreadable"),
        ("2341/4132/3214/1423/", "unreadable"),
        ("2341/4132/3214/142", "unreadable"),
        ("2341/4132/3214/142.", "unreadable"),
        ("2341/4132/3214/1429", "unreadable"),
        ("2341/4231/3124/1423", "twice"),
        ("1234/3412/2143/4321", "clue"),
    ],
)
def test_wrong_grids_fail(answer, reason):
    verdict = TASK.verify(PROBLEM, f"<answer>{answer}</answer>")
    assert not verdict.correct and verdict.reward == 0.1 and reason in verdict.reason


def test_one_changed_digit_fails():
    for problem in draw(TASK, 100, "4x4"):
        text = TASK.demonstrate(problem, "compact").text
        for place in range(len(text) - len("</answer>") - 19, len(text) - len("</answer>")):
            if text[place] != "/":
                other = "1" if text[place] != "1" else "2"
                assert TASK.verify(problem, text[:place] + other + text[place + 1 :]).reward == 0.1


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_never_correct(text):
    verdict, seconds = timed(lambda: TASK.verify(PROBLEM, text))
    assert seconds < 0.05
    assert not verdict.correct and verdict.reward in (0.0, 0.1)


def test_key_ignores_the_choice_of_digits_only():
    renamed = PROBLEM | {"clues": PROBLEM["clues"].translate(str.maketrans("1234", "3142"))}
    moved = PROBLEM | {"clues": "234./4.31/3..4/14.."}
    assert TASK.key(renamed) == TASK.key(PROBLEM) != TASK.key(moved)


def test_generation_is_deterministic():
    assert draw(TASK, 50, "4x4") == draw(TASK, 50, "4x4")


def test_chance_is_the_success_rate_of_practice():
    rng = random.Random(3)
    hits = sum(TASK.verify(PROBLEM, TASK.practice(rng, PROBLEM)).correct for _ in range(5000))
    assert TASK.chance(PROBLEM) == 1 / 8  # two blanks in each of three rows
    assert hits / 5000 == pytest.approx(1 / 8, abs=0.02)
