import random

import pytest

from tasks._math.stories import MAX_VALUE, apply_to_count, asked_count
from tasks.math_ import TASK
from tests.helpers.timing import timed
from tests.tasks.samples import draw, num_tokens

LEVELS = ("1", "2", "3")
HOSTILE = (
    "",
    "<answer></answer>",
    "</answer><answer>",
    "<answer>" * 50_000,
    "<answer>9**9**9</answer>",
    "<answer>__import__('os')</answer>",
    "<answer>\\boxed{1/0}</answer>",
    "<answer>\\boxed{" + "9" * 1_000_000 + "}</answer>",
    "<answer>" + "9" * 150 + "</answer>",
    "<answer>" + " " * 199 + "</answer>",
    "<answer>\\boxed{\\boxed{1}}</answer>",
    "<answer>nan</answer>",
    "<answer>\u0661\u0662</answer>",
    "<answer>\x00\ud800</answer>",
    "<answer>{}{0.__class__}%s</answer>",
)


def story(goal: str = "now", told: tuple[int, ...] = (0, 1, 2)) -> dict:
    """12 +5 *3 -7 = 44."""
    steps = [["+", 5, "buys "], ["*", 3, "triples"], ["-", 7, "loses "]]
    return {"name": "Ann", "goal": goal, "start": 12, "end": 44, "steps": steps, "told": list(told)}


@pytest.mark.parametrize("level", LEVELS)
def test_demonstrations_verify_and_fit(level):
    rng = random.Random(1)
    for problem in draw(TASK, 2000, level):
        prompt = TASK.prompt(problem, "compact")
        demonstration = TASK.demonstrate(problem, "compact")
        practice = TASK.practice(rng, problem)
        assert TASK.verify(problem, demonstration.text).correct
        assert TASK.verify(problem, practice).reward > 0
        assert all(step.endswith("\n") for step in demonstration.steps)
        assert (prompt + demonstration.text + practice).isascii()
        assert num_tokens(TASK, prompt) + max(num_tokens(TASK, demonstration.text), num_tokens(TASK, practice)) <= 140


def test_every_line_is_honest():
    rng = random.Random(2)
    for problem in draw(TASK, 500, "3"):
        for text in (TASK.demonstrate(problem, "compact").text, TASK.practice(rng, problem)):
            lines = text.split("\n")[:-1]
            for line in lines:
                left, result = line.split("=")
                operator = next(o for o in "+-*/" if o in left)
                value, number = map(int, left.split(operator))
                assert apply_to_count(value, operator, number) == int(result)
                assert 1 <= int(result) <= MAX_VALUE
            assert text.endswith(f"<answer>\\boxed{{{lines[-1].split('=')[1]}}}</answer>")


def test_prompt_tells_steps_in_or_out_of_order():
    assert TASK.prompt(story(), "compact") == "math Ann has 12. buys 5. triples. loses 7. now?"
    swapped = TASK.prompt(story("first", (0, 2, 1)), "compact")
    assert swapped == "math Ann ends with 44. buys 5. loses 7 but first triples. at first?"


def test_demonstration_undoes_steps_when_the_start_is_asked():
    forward, backward = (TASK.demonstrate(story(goal), "compact").text for goal in ("now", "first"))
    assert forward == "12+5=17\n17*3=51\n51-7=44\n<answer>\\boxed{44}</answer>"
    assert backward == "44+7=51\n51/3=17\n17-5=12\n<answer>\\boxed{12}</answer>"


def test_text_alone_determines_the_answer():
    """A reader that knows only the prompt reaches the answer."""
    meaning = {"doubles": ("*", 2), "triples": ("*", 3), "halves": ("/", 2), "repeats": ("*", 0), "splits": ("/", 0)}
    meaning |= dict.fromkeys(("finds", "buys", "wins"), ("+", 0))
    meaning |= dict.fromkeys(("loses", "sells", "gives"), ("-", 0))
    for problem in draw(TASK, 500, "3"):
        head, body = TASK.prompt(problem, "compact").split(". ", 1)
        value = int(head.split()[-1])
        chain = []
        for sentence in body.rsplit(". ", 1)[0].split(". "):
            for part in reversed(sentence.split(" but first ")):
                operator, number = meaning[part.split()[0]]
                chain.append((operator, number or int(part.split()[1])))
        if body.endswith("at first?"):
            chain = [({"+": "-", "-": "+", "*": "/", "/": "*"}[o], n) for o, n in reversed(chain)]
        for operator, number in chain:
            value = apply_to_count(value, operator, number)
        assert value == asked_count(problem)


@pytest.mark.parametrize("answer", ["44", "\\boxed{44}", " \\boxed{ 44 }\n", "88/2", "\\boxed{88/2}", "044"])
def test_equivalent_answers_pass(answer):
    verdict = TASK.verify(story(), f"anything <answer>{answer}</answer>")
    assert verdict.correct and verdict.reward == 1.0


@pytest.mark.parametrize("answer", ["45", "-44", "4 4", "44.0", "44 45", "\\boxed{44", "44}", "22*2", "44/1/1", "x44"])
def test_other_answers_fail(answer):
    verdict = TASK.verify(story(), f"<answer>{answer}</answer>")
    assert not verdict.correct and verdict.reward == 0.1


def test_changed_answers_fail():
    for problem in draw(TASK, 500, "3"):
        text = TASK.demonstrate(problem, "compact").text
        wrong = text.replace(f"\\boxed{{{asked_count(problem)}}}", f"\\boxed{{{asked_count(problem) + 1}}}")
        assert TASK.verify(problem, wrong).reward == 0.1
        assert TASK.verify(problem, text.removesuffix("</answer>")).reward == 0.0


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_never_correct(text):
    verdict, seconds = timed(lambda: TASK.verify(story(), text))
    assert seconds < 0.05
    assert not verdict.correct and verdict.reward in (0.0, 0.1)


def test_key_ignores_names_verbs_and_telling_only():
    twin = story(told=(1, 0, 2)) | {"name": "Bob"}
    twin["steps"] = [["+", 5, "wins "], ["*", 3, "repeats "], ["-", 7, "sells "]]
    other = story()
    other["steps"] = [["-", 7, "loses "], ["+", 5, "buys "], ["*", 3, "triples"]]
    assert TASK.key(twin) == TASK.key(story())
    assert len({TASK.key(p) for p in (story(), story("first"), other)}) == 3


def test_generation_is_deterministic():
    assert draw(TASK, 50, "3") == draw(TASK, 50, "3")


def test_chance_is_the_success_rate_of_practice():
    problem = story()
    rng = random.Random(3)
    hits = sum(TASK.verify(problem, TASK.practice(rng, problem)).correct for _ in range(5000))
    assert hits / 5000 == pytest.approx(TASK.chance(problem), abs=0.015)


@pytest.mark.parametrize(("goal", "asking"), [("now", "does Ann have now"), ("first", "did Ann have at first")])
def test_stories_in_whole_sentences(goal, asking):
    prompt = TASK.prompt(story(goal, (0, 2, 1)), "plain")
    told = "Ann gets 5 more. Ann gives away 7. Just before that, Ann makes it 3 times as many."
    begin = "Ann has 12 coins." if goal == "now" else "Ann ends with 44 coins."
    assert f"User: {begin} {told} How many coins {asking}?" in prompt and prompt.endswith("<think> ")
    for template in ("plain", "chat"):
        shown = TASK.demonstrate(story(goal), template)
        assert TASK.verify(story(goal), shown.text).correct and len(shown.steps) == 3
        assert shown.text.count("<think>") == (template == "chat") and shown.text.count("</think>") == 1
    assert TASK.demonstrate(story("first"), "plain").steps[0] == "Undo: subtract 7: 44 + 7 = 51\n"
