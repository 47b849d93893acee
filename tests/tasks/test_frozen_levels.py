"""Levels that the embedded base model was pretrained on: their problems, texts and verdicts must not move."""

import hashlib
import json
import random

import pytest

from tasks import countdown, logic
from tests.tasks.samples import draw

DIGESTS = {  # of version 1 of both tasks; another digest here needs another version of the task
    ("countdown", "3"): "217c5fd3f34b71a426677abd6b4dc918",
    ("countdown", "4"): "aca184d1f36040f8a50ba305cfb7ab6c",
    ("countdown", "3to4"): "f104f37d0a4c70642d194be61a662a0c",
    ("logic", "2"): "21962b2a8bce1af49744a082b5b657bd",
    ("logic", "3"): "54e260dadb49cbb404f72c2675f3e290",
    ("logic", "4"): "268caf9e83091600d36b71ca79c87a02",
}
TEMPLATES = {"countdown": ("compact", "plain", "chat"), "logic": ("compact",)}  # those of version 1
TASKS = {"countdown": countdown.TASK, "logic": logic.TASK}


def record(task, problem, rng):
    """All that a run sees of a problem: texts, verdicts on right, goal-blind and cut answers, and the chance."""
    shown = {t: (task.prompt(problem, t), task.demonstrate(problem, t)) for t in TEMPLATES[task.name]}
    texts = [demonstration.text for _, demonstration in shown.values()]
    texts += [task.practice(rng, problem), texts[0].replace("<answer>", "<answer>("), texts[0][:-9]]
    texts += [texts[0].replace(",", ";").replace("\n", " "), texts[0].rpartition(",")[0] + "</answer>"]
    verdicts = [task.verify(problem, text) for text in texts]
    judged = [(v.correct, v.reward, v.reason) for v in verdicts]
    prompts = {t: (prompt, d.steps, d.ending) for t, (prompt, d) in shown.items()}
    return problem, task.key(problem), prompts, texts, judged, round(task.chance(problem), 12)


@pytest.mark.parametrize(("name", "level"), DIGESTS)
def test_version_1_stays_as_it_was(name, level):
    task, rng = TASKS[name], random.Random(4)
    found = json.dumps([record(task, problem, rng) for problem in draw(task, 200, level)])
    assert task.version == 1
    assert hashlib.blake2b(found.encode(), digest_size=16).hexdigest() == DIGESTS[name, level]
