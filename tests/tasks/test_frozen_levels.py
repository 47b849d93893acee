"""Problems, texts and verdicts must not move within a version: the embedded model was pretrained on some of them."""

import hashlib
import json
import random

import pytest

from tasks import countdown, logic
from tests.tasks.samples import draw

# Of the embedded model's template.  The tasks' own are one higher: they read more spellings of an answer, no less.
VERSIONS = {"countdown": 1, "logic": 2}
DIGESTS = {  # another digest here needs another version of the task
    ("countdown", "3"): "217c5fd3f34b71a426677abd6b4dc918",
    ("countdown", "4"): "aca184d1f36040f8a50ba305cfb7ab6c",
    ("countdown", "3to4"): "f104f37d0a4c70642d194be61a662a0c",
    ("logic", "2"): "21962b2a8bce1af49744a082b5b657bd",
    ("logic", "3"): "54e260dadb49cbb404f72c2675f3e290",
    ("logic", "4"): "268caf9e83091600d36b71ca79c87a02",
    ("countdown", "5"): "69b88625a79c5d1e350e6af616829b82",
    ("countdown", "6"): "b8fb7b45ed924700a468475072c5ca79",
    ("logic", "5"): "b6cbd681dfb1ce31e4bc89abed3e76f2",
    ("logic", "8"): "c998a9dd2eb99dad25b19372953598b8",
    ("logic", "3to7"): "b2dea50492fd812943e6ff73274b350d",
    ("logic", "4-nested"): "dc2c9e1f38a6dba6cd30640ba904e554",
}
TASKS = {"countdown": countdown.TASK, "logic": logic.TASK}


def record(task, level, problem, rng):
    """All that a run sees of a problem: texts, verdicts on right, goal-blind and cut answers, and the chance."""
    templates = ("compact",) if task.name == "logic" and level in ("2", "3", "4") else ("compact", "plain", "chat")
    shown = {t: (task.prompt(problem, t), task.demonstrate(problem, t)) for t in templates}
    texts = [demonstration.text for _, demonstration in shown.values()]
    texts += [task.practice(rng, problem), texts[0].replace("<answer>", "<answer>("), texts[0][:-9]]
    texts += [texts[0].replace(",", ";").replace("\n", " "), texts[0].rpartition(",")[0] + "</answer>"]
    verdicts = [task.verify(problem, text) for text in texts]
    judged = [(v.correct, v.reward, v.reason) for v in verdicts]
    prompts = {t: (prompt, d.steps, d.ending) for t, (prompt, d) in shown.items()}
    return problem, task.key(problem), prompts, texts, judged, round(task.chance(problem), 12)


@pytest.mark.parametrize(("name", "level"), DIGESTS)
def test_a_version_stays_as_it_was(name, level):
    task, rng = TASKS[name], random.Random(4)
    found = json.dumps([record(task, level, problem, rng) for problem in draw(task, 200, level)])
    assert task.template_versions == {"compact": VERSIONS[name]} and task.version == VERSIONS[name] + 1
    assert hashlib.blake2b(found.encode(), digest_size=16).hexdigest() == DIGESTS[name, level]
