"""The story levels that the embedded model was pretrained on: problems, texts and verdicts must not move.

Version 2 judges rows of data files anew; stories are as in 1.
"""

import hashlib
import json
import random

import pytest

from tasks.common import derive_seed
from tasks.math_ import TASK
from tests.tasks.samples import draw

DIGESTS = {"1": "ccb37f50cc44778c", "2": "ce7de349b7211481", "3": "c4f09bbce0a7fe9a"}  # other ones need another version


def record(problem):
    """All that a run sees of a problem: texts, verdicts on right, goal-blind and broken answers, and the chance."""
    shown, prompt = TASK.demonstrate(problem, "compact"), TASK.prompt(problem, "compact")
    practice = TASK.practice(random.Random(derive_seed("frozen", TASK.key(problem))), problem)
    texts = [shown.text, practice, shown.text.replace("}", ".0}"), shown.text.removesuffix("</answer>")]
    verdicts = [TASK.verify(problem, text) for text in [*texts, "<answer>7</answer>", "\\boxed{7}"]]
    judged = [[v.correct, v.reward, v.reason] for v in verdicts]
    chance = round(TASK.chance(problem), 12)
    return [problem, TASK.key(problem), prompt, list(shown.steps), shown.ending, practice, judged, chance]


@pytest.mark.parametrize("level", DIGESTS)
def test_stories_stay_as_they_were(level):
    text = json.dumps([record(problem) for problem in draw(TASK, 200, level)], sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == DIGESTS[level]
    assert TASK.version == 2 and TASK.default_level == "3"
