"""Base skills: their problems and verdicts, how runs are judged on them, and what tables say is left of them."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from bench.analysis.board import leaderboard, rows_as_dicts
from bench.analysis.records import load_run
from bench.analysis.runs import Judged
from bench.engine import pretrain
from bench.engine import splits as evaluations
from bench.engine.policy import Policy, load_model
from bench.engine.runner import Run, execute
from bench.models import model_path
from bench.plan.spec import Evaluation
from bench.report.formats import render_board
from bench.store.run_folder import read_lines
from bench.store.run_store import RunStore
from bench.types import UserError
from tasks import skills
from tests.helpers.commands import call
from tests.helpers.runs import EVALUATION, SIZES, make_job, write_model
from tests.report.test_formats import record
from tests.tasks.hostile import check_hostile, hostile

ARITHMETIC, COPYING = skills.SKILLS["arithmetic"], skills.SKILLS["copying"]
FORMS = list(product(skills.SKILLS.values(), ("compact", "text")))
ONLY_SKILLS = Evaluation(**SIZES, ood_items=0, reworded_items=0, other_items=2, skill_items=5, fractions=(1.0,))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


# --- problems and verdicts ---


@pytest.mark.parametrize(("skill", "form"), FORMS)
def test_problems_are_distinct_solved_by_their_demonstrations_and_the_same_every_time(skill, form):
    found = skills.load_skill(skill, 300, form)
    assert len({e.problem["key"] for e in found}) == len({e.id for e in found}) == 300
    assert all(skill.verify(e.problem, e.demonstration.text).correct for e in found)
    assert found[:50] == skills.load_skill(skill, 50, form)
    assert json.loads(json.dumps([e.problem for e in found])) == [dict(e.problem) for e in found]


def test_arithmetic_is_true_and_never_shows_what_it_asks():
    for e in skills.load_skill(ARITHMETIC, 300, "compact"):
        *shown, asked = e.prompt.split("\n")
        assert len(shown) == 2 and asked.endswith("=") and not any(line.startswith(asked) for line in shown)
        for line in (*shown, asked + e.problem["answer"]):
            a, op, b, value = re.fullmatch(r"(\d+)([-+*/])(\d+)=(\d+)", line).groups()
            a, b = int(a), int(b)
            assert int(value) * (b if op == "/" else 1) == {"+": a + b, "-": a - b, "*": a * b, "/": a}[op]


def test_copied_numbers_follow_from_nothing_else():
    for e in skills.load_skill(COPYING, 300, "compact"):
        equations = re.findall(r"(\d+)([-+])(\d+)=(\d\d)\n", e.prompt)
        assert len(equations) == 2 and e.prompt.endswith("\n<answer>\\boxed{")
        assert equations[-1][-1] == e.problem["answer"]
        assert all(int(v) != int(a) + (1 if op == "+" else -1) * int(b) for a, op, b, v in equations)
    for e in skills.load_skill(COPYING, 100, "text"):
        first, second, begun = e.prompt.split("\n")
        assert first == second == begun + e.problem["answer"] and len(first.split(",")) == 8


@pytest.mark.parametrize(
    ("text", "correct", "reward"),
    [
        *(("98\n1+1=3", True, 1.0), ("98", True, 1.0), (" 98 \n", True, 1.0), ("98\r\n", True, 1.0)),
        *(("99\n98", False, 0.1), ("980", False, 0.1), ("098", False, 0.1), ("9", False, 0.1)),
        *(("", False, 0.0), ("\n98", False, 0.0), ("98.0", False, 0.0), ("+98", False, 0.0), ("98 98", False, 0.0)),
        *(("\u0669\u0668", False, 0.0), ("x", False, 0.0), ("98</answer>", False, 0.0), ("49*2", False, 0.0)),
        (" " * 300 + "98", False, 0.0),
    ],
)
def test_verdicts_of_arithmetic(text, correct, reward):
    verdict = ARITHMETIC.verify({"answer": "98", "end": "\n"}, text)
    assert (verdict.correct, verdict.reward) == (correct, reward) and verdict.reason


@pytest.mark.parametrize(
    ("text", "correct", "reward"),
    [
        *(("40}</answer>", True, 1.0), ("40}", True, 1.0), ("41}</answer>", False, 0.1), ("4,0}", False, 0.1)),
        *(("40</answer>", False, 0.0), ("40\n}", False, 0.0), ("}40}", False, 0.0), ("3{40}", False, 0.0)),
    ],
)
def test_verdicts_of_copying_from_a_box(text, correct, reward):
    verdict = COPYING.verify({"answer": "40", "end": "}"}, text)
    assert (verdict.correct, verdict.reward) == (correct, reward)


def test_verdicts_of_a_copied_sequence():
    problem = {"answer": "12,q,77", "end": "\n"}
    for text, reward in (("12,q,77\n", 1.0), ("12,q,7", 0.1), ("12,q,77,1", 0.1), ("12, q, 77", 0.0), ("12,q,", 0.0)):
        assert COPYING.verify(problem, text).reward == reward, text


@pytest.mark.parametrize(("skill", "form"), FORMS)
def test_hostile_text_gets_nothing_at_once(skill, form):
    problem = next(e.problem for e in skills.load_skill(skill, 20, form) if len(e.problem["answer"]) > 1)
    rng = random.Random(1)
    texts = [hostile(rng, problem["answer"]) for _ in range(500)]
    texts += [problem["answer"] * 500_000, "\n" + problem["answer"], problem["answer"] + "\x00" + problem["end"]]
    check_hostile(skill, problem, [text for text in texts if text != problem["answer"]])


def test_chance_is_that_of_a_number_with_as_many_digits():
    examples = skills.load_skill(ARITHMETIC, 300, "text")
    chances = {len(e.problem["answer"]): ARITHMETIC.chance(e.problem) for e in examples}
    assert chances == {1: 1 / 10, 2: 1 / 90, 3: 1 / 900, 4: 1 / 9000}
    assert COPYING.chance(skills.load_skill(COPYING, 1, "compact")[0].problem) == 1 / 90
    assert COPYING.chance(skills.load_skill(COPYING, 1, "text")[0].problem) == 116**-7


def test_too_many_problems_are_refused(monkeypatch):
    monkeypatch.setattr(skills, "MAX_ATTEMPTS", 50)
    with pytest.raises(UserError, match=r"skill arithmetic: only \d+ distinct problems: lower --skill-items"):
        skills.load_skill(ARITHMETIC, 20_000, "text")


def test_facts_are_those_of_pretraining():
    assert pretrain.fact(random.Random(0)) == "2842/29=98\n54/6=9\n52*30=1560\n", "as when the model was made"
    known = {line for seed in range(40_000) for line in pretrain.fact(random.Random(seed)).splitlines()}
    ours = {e.problem["key"] + e.problem["answer"] for e in skills.load_skill(ARITHMETIC, 300, "text")}
    assert len(ours - known) <= 3


# --- runs ---


def test_a_run_is_judged_on_skills_off_the_clock(model, tmp_path):
    job = make_job(model, tmp_path, "sft", evaluation=ONLY_SKILLS)
    assert [(s.task, s.level, s.version) for s in job.plan.skills] == [
        ("arithmetic", "compact", 1),
        ("copying", "compact", 1),
    ]
    execute(job)
    evals = {e["split"]: e for e in read_lines(job.path / "evals.jsonl")}
    items = [i for i in read_lines(job.path / "items.jsonl") if i["split"] == "skill:copying"]
    assert [i["id"] for i in items] == [f"copying/compact/{n}" for n in range(5)] and len(items[0]["samples"]) == 2
    assert evals["skill:copying"]["spent"] == evals["test"]["spent"]
    loaded = load_run(job.path)
    assert loaded.elsewhere["skill:arithmetic"].correct.shape == (5, 2)
    assert {name: j.formatted for name, j in loaded.elsewhere.items()} == {
        name: evals["test" if name == "selected" else name]["formatted"] for name in loaded.elsewhere
    }


def test_skills_are_raw_text_and_their_completions_short(model, tmp_path):
    job = make_job(model, tmp_path, "sft", evaluation=ONLY_SKILLS)
    run = Run(job, RunStore(job.path))
    for split in run.elsewhere[-2:]:
        longest = max(len(e.demo_ids) for e in split.examples)
        assert (
            evaluations.evaluation_settings(run.plan, split).max_new_tokens
            == longest + skills.MARGIN
            < run.plan.max_new_tokens
        )
        tokenizer = run.policy.tokenizer
        assert all(tokenizer.decode(e.prompt_ids) == f"<bos>{e.prompt}" for e in split.examples)


def test_a_chat_template_is_not_put_around_skills(model, tmp_path):
    """The model has none, so that any use of one is an error."""
    job = make_job(model, tmp_path, "sft", evaluation=ONLY_SKILLS)
    plan = job.plan.model_copy(update={"template": "chat", "others": ()})
    splits = evaluations.splits_elsewhere(plan, None, Policy(*load_model(str(model))))
    assert [s.name for s in splits] == ["skill:arithmetic", "skill:copying"]


def test_size_and_form_are_part_of_the_comparison_and_zero_leaves_no_trace(model, tmp_path, monkeypatch):
    sizes = [EVALUATION.model_copy(update={"skill_items": n}) for n in (0, 5, 6)]
    plans = [make_job(model, tmp_path, "sft", evaluation=e).plan for e in sizes]
    plain = make_job(model, tmp_path, "sft", evaluation=sizes[1], template="plain").plan
    assert {s.level for s in plain.skills} == {"text"} and plans[0].skills == ()
    newer = plans[1].model_copy(update={"skills": (plans[1].skills[0].model_copy(update={"version": 2}),)})
    assert len({p.comparison for p in (*plans, newer)}) == 4
    monkeypatch.setitem(skills.SKILLS, "copying", replace(COPYING, version=2))
    assert make_job(model, tmp_path, "sft", evaluation=sizes[1]).plan.comparison != plans[1].comparison
    identity = plans[0].identity(set())
    assert "skills" not in identity and "skill_items" not in identity["evaluation"]


def test_the_embedded_model_has_the_skills_and_can_lose_them():
    """Between 40 and 95 %: something to lose, and not all of it is luck."""
    policy = Policy(*load_model(model_path("tiny")))
    for skill in skills.SKILLS.values():
        examples = [policy.encode(e, "plain") for e in skills.load_skill(skill, 60, "compact")]
        out = policy.sample([e.prompt_ids for e in examples], 1, 10, None)
        right = [skill.verify(e.problem, t).correct for e, t in zip(examples, policy.decode(out.token_ids))]
        assert 0.4 < np.mean(right) < 0.95, skill.name


# --- tables ---


def judged(right: int, formatted: float | None = None) -> Judged:
    """Eight items with one sample each, the first ones right."""
    return Judged(tuple(f"o{n}" for n in range(8)), np.arange(8)[:, None] < right, formatted)


def shown(method, seed, arithmetic, copying, readable):
    splits = {"other:logic": judged(2, readable), "other:math": judged(1, readable / 2)}
    splits |= {"skill:arithmetic": judged(arithmetic), "skill:copying": judged(copying)}
    return record(method, seed, [[1, 0], [0, 0]], elsewhere=splits)


def means(shares):
    return {name: interval.mean for name, interval in shares.items()}


def test_what_is_left_by_hand():
    runs = [shown("base", 0, 4, 0, 0.8), shown("base", 1, 8, 0, 0.4)]
    runs += [shown("sft", 0, 3, 8, 0.2), shown("sft", 1, 6, 8, 0.1), shown("grpo", 1, 4, 1, 0.4)]
    rows = {row.method: row.elsewhere for row in leaderboard(runs).tables[0].rows}
    # sft: (3 + 6) of base's (4 + 8) right; base never copies; readable .15 of .6, and half of both on math
    assert means(rows["sft"].skills_kept) == {"arithmetic": pytest.approx(3 / 4)}
    assert dict(rows["sft"].formats_kept) == {"logic": pytest.approx(1 / 4), "math": pytest.approx(1 / 4)}
    assert dict(rows["sft"].formats) == {"logic": pytest.approx(0.15), "math": pytest.approx(0.075)}
    assert rows["sft"].retained.mean == 1.0 and rows["sft"].skills["copying"].mean == 1.0
    # grpo: one seed against all runs of base: 4 of 6, .4 of .6
    assert means(rows["grpo"].skills_kept) == {"arithmetic": pytest.approx(2 / 3)}
    assert rows["grpo"].retained_format == pytest.approx(2 / 3)
    fields = {row["method"]: row for row in rows_as_dicts(leaderboard(runs))}
    sft = fields["sft"]
    assert (sft["retained_skills"], sft["retained_skill_arithmetic"]) == (pytest.approx(3 / 4),) * 2
    assert (sft["retained_format"], sft["retained_format_math"]) == (pytest.approx(1 / 4),) * 2
    assert (sft["skill_copying"], sft["format_logic"]) == (1.0, pytest.approx(0.15))
    assert sft["skill_arithmetic_low"] < sft["skill_arithmetic"] < sft["skill_arithmetic_high"]
    assert "retained_skill_copying" not in sft


def test_the_table_of_base_abilities():
    runs = [shown("base", 0, 4, 8, 0.8), shown("chord:no-phi@0.25+prefix_rft", 0, 3, 8, 0.2)]
    text = render_board(leaderboard(runs), "table")
    assert max(map(len, text.splitlines())) <= 100 and text.count("Base abilities after training on countdown") == 1
    assert re.search(r"(?m)^ base +100\.0 +100\.0 +100\.0 +50\.0 +100\.0 +80\.0 +40\.0$", text)
    assert re.search(r"(?m)^ chord:\S* +100\.0 +87\.5 +25\.0 +37\.5 +100\.0 +20\.0 +10\.0$", text)
    assert "| base | 100.0 | 100.0 | 100.0 | 50.0 [" in render_board(leaderboard(runs), "markdown")


def test_runs_without_skills_or_formats_have_no_such_table():
    bare = [
        replace(r, elsewhere={"other:logic": judged(3)})
        for r in (shown("base", 0, 1, 1, 1.0), shown("sft", 0, 1, 1, 1.0))
    ]
    assert "Base abilities" not in render_board(leaderboard(bare), "table")
    row = rows_as_dicts(leaderboard(bare))[0]
    assert (row["retained_skills"], row["retained_format"]) == (None, None)
    mixed = leaderboard([bare[0], shown("sft", 0, 1, 1, 1.0)])  # base was not judged there: nothing to compare with
    assert re.search(r"(?m)^ sft +66\.7 +- +- +12\.5 +12\.5 +100\.0 +50\.0$", render_board(mixed, "table"))


def test_a_leaderboard_of_a_skill(model, tmp_path, capsys):
    job = make_job(model, tmp_path, "base", evaluation=ONLY_SKILLS)
    execute(job, keep="none")
    code, out, err = call(capsys, "leaderboard", "--results", tmp_path, "--split", "skill:copying", "--json")
    assert (code, err) == (0, "") and [(r["split"], r["num_items"]) for r in json.loads(out)] == [("skill:copying", 5)]
    code, out, err = call(capsys, "leaderboard", "--results", tmp_path, "--split", "skill:copy")
    assert (code, out, err.count("\n")) == (2, "", 1) and "did you mean skill:copying" in err
