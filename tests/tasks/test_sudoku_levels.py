"""Sudoku levels and templates: reasoning lines, their words, splits."""

import re
from itertools import islice

import pytest

from bench.plan import registry
from bench.types import UserError
from tasks import common
from tasks._sudoku import grid as grids
from tasks.sudoku import LEVELS, TASK, rows_text
from tests.tasks.samples import draw


@pytest.mark.parametrize("template", TASK.templates)
@pytest.mark.parametrize("level", LEVELS)
def test_templates_reason_line_by_line(level, template):
    for problem in draw(TASK, 5, level):
        gold = TASK.demonstrate(problem, template)
        assert TASK.verify(problem, gold.text).correct
        assert not TASK.verify(problem, "".join(gold.steps)).correct  # the answer is in the ending alone
        assert all(step.endswith("\n") and step.count("\n") == 1 for step in gold.steps)
        assert gold.text.isascii() and TASK.prompt(problem, template).isascii()
        rows = problem["clues"].split("/")
        prompt = TASK.prompt(problem, template)
        if template == "compact":
            assert all(re.fullmatch(r"\??([a-i][1-9]=[1-9]|[a-i][1-9]-\d+( [a-i][1-9]-\d+)*)\n", s) for s in gold.steps)
            assert prompt == f"sudoku {problem['clues']}:"
            continue
        assert "\n".join(rows) in prompt and f"digits from 1 to {len(rows)}" in prompt
        whole = (prompt if template == "plain" else "") + gold.text
        assert re.fullmatch(r"(?s).*<think> .*</think>\n<answer>\n(\d+\n)+</answer>", whole)
        assert prompt.endswith("<think> ") == (template == "plain")


@pytest.mark.slow
def test_the_reason_of_every_technique_in_words():
    """The naked single's digits are checked against the grid; each other technique has its sentence."""
    forms = {
        "naked single": r"([a-i]\d) = (\d): naked single, its row, column and box hold ([\d, and]+?)"
        r"(?:, and ([\d, and]+) (?:is|are) ruled out above)?\.",
        "hidden single": r"[a-i]\d = (\d): hidden single, \1 fits nowhere else in (row [a-i]|(column|box) \d)\.",
        "pointing": r".+: pointing, in box \d the digit \d fits only in (row [a-i]|column \d)\.",
        "claiming": r".+: claiming, in (row [a-i]|column \d) the digit \d fits only in box \d\.",
        "naked pair": r".+: naked pair, in \w+ \w the cells .. and .. can hold only \d and \d\.",
        "naked triple": r".+: naked triple, in \w+ \w the cells .., .. and .. can hold only \d, \d and \d\.",
        "hidden pair": r".+: hidden pair, in \w+ \w the digits \d and \d fit only in .. and ..\.",
        "X-wing": r".+: X-wing, in (row|column) . and \1 . the digit \d fits only in .., .., .. and ..\.",
        "search": r"No technique applies, so by search: ([a-i]\d) = (\d) would lead .+, so \1 is not \2\.",
    }
    seen = set()
    for problem in (p for level in ("6x6-hard", "9x9-hard", "9x9-search") for p in draw(TASK, 30, level)):
        rows = [list(row) for row in problem["clues"].split("/")]
        size = len(rows)
        height, width = grids.BOXES[size]
        for step in TASK.demonstrate(problem, "plain").steps:
            name = next(form for form in forms if form in step)
            match = re.fullmatch(forms[name], step.rstrip("\n"))
            assert match, step
            seen.add(name)
            if name == "naked single":
                r, c = "abcdefghi".index(match[1][0]), int(match[1][1]) - 1
                top, left = r // height * height, c // width * width
                box = [digit for row in rows[top : top + height] for digit in row[left : left + width]]
                held = {*rows[r], *(row[c] for row in rows), *box} - {"."}
                assert set(re.findall(r"\d", match[3])) == held
                assert {match[2], *re.findall(r"\d", match[4] or "")} == set("123456789"[:size]) - held
            if fills := re.match(r"([a-i])(\d) = (\d):", step):
                rows["abcdefghi".index(fills[1])][int(fills[2]) - 1] = fills[3]
    assert seen == set(forms)


def test_a_full_trial_says_so():
    """Published grids that no trial by singles refutes at once."""
    clues = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4.."
    problem = {"clues": rows_text(clues), "solution": rows_text(grids.solve_clues(clues)[1])}
    said = re.compile(
        r"No technique applies, so by search: (..) = \d, because a full trial of every other .* fails\.\n"
    )
    full = [i for i, step in enumerate(TASK.demonstrate(problem, "plain").steps) if said.fullmatch(step)]
    compact = TASK.demonstrate(problem, "compact").steps
    assert full and all(re.fullmatch(r"\?..=\d\n", compact[i]) for i in full)


LARGE = [level for level in LEVELS if level[0] in "69" and "easy" not in level]


@pytest.mark.parametrize(
    "level", [pytest.param(level, marks=[pytest.mark.slow] * (level in LARGE)) for level in LEVELS]
)
def test_splits_share_no_content_and_are_not_exhausted(level):
    count = 30 if LEVELS[level].needs <= 2 else 2
    keys = {s: {TASK.key(p) for p in islice(common.problems(TASK, s, level), count)} for s in common.SPLITS}
    assert all(len(found) == count for found in keys.values())
    assert len(set.union(*keys.values())) == count * len(keys)


def test_an_exhausted_level_is_a_clear_error(monkeypatch):
    problem = {"clues": "2341/4.3./3..4/14..", "solution": "2341/4132/3214/1423"}
    monkeypatch.setattr(common, "MAX_ATTEMPTS", 200)
    monkeypatch.setattr(TASK.__class__, "generate", lambda self, rng, level: problem)
    with pytest.raises(UserError, match=r"task sudoku, level 4x4-hard: only \d distinct problems in split val"):
        list(common.problems(TASK, "val", "4x4-hard"))


def test_helper_files_are_no_tasks():
    assert registry.names("tasks") == ("countdown", "logic", "math", "sudoku")
