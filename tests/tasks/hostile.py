"""Completions that no verifier may accept, and a check that they are refused quickly and without side effects."""

import functools
import sys
from contextlib import contextmanager

from tests.helpers.timing import timed

STRANGE = (
    *("\x00", "\u200b", "\u202e", "\ud800", "\u0661", "\uff11", "\u00b2", "**", "//", "_", "{", "%s", "<"),
    *("'", "\\"),
)
JUNK = (
    *("9**9**9", "__import__('os').system('true')", "().__class__", "eval('1')", "lambda: 0", "{0.__class__}", "%s%n"),
    *("nan", "inf", "1e9", "0x10", "1_0", "True", "None", "[]", "\\boxed{1}", "$(true)", "`true`", "; true", "\x00"),
)
TAGS = ("Answer>", "ANSWER>", "answer >", " answer>", "\x00answer>", "answer/>")
FORBIDDEN = ("os.", "subprocess.", "socket.", "exec", "open", "shutil.", "ctypes.")
_events: list[str] | None = None


def tagged(text):
    return f"<answer>{text}</answer>"


def hostile(rng, answer):
    """A completion made from a right answer of one line (at least two characters)."""
    place, many = rng.randrange(1, len(answer)), int(10 ** rng.uniform(2.5, 6))
    visible = rng.choice([i for i, c in enumerate(answer) if c.isalnum()])
    junk = rng.choice(JUNK)
    forms = (
        lambda: tagged(answer[:place] + rng.choice(STRANGE) + answer[place:]),
        lambda: tagged(answer[:visible] + chr(ord(answer[visible]) + 0xFEE0) + answer[visible + 1 :]),  # full width
        lambda: tagged(junk),
        lambda: tagged(answer + junk),
        lambda: tagged(answer) + tagged(junk),
        lambda: tagged(answer) * rng.randrange(1, 2000) + tagged(""),
        lambda: "<answer>" * rng.randrange(2, many // 8 + 3) + answer + "</answer>" * rng.randrange(2, many // 9 + 3),
        lambda: tagged(tagged(answer)),
        lambda: tagged("(" * many + answer + ")" * many),
        lambda: tagged("[" * many + answer),
        lambda: tagged(answer + " " * (many + 400)),
        lambda: tagged(rng.choice("9(-,;: \n") * many),
        lambda: tagged((answer + rng.choice(",;+-*/")) * rng.randrange(2, 20_000)),
        lambda: f"<answer>{answer}",
        lambda: f"</answer>{answer}<answer>",
        lambda: tagged(answer).replace("answer>", rng.choice(TAGS)),
        lambda: answer * rng.randrange(1, 2000),
    )
    return rng.choice(forms)()


def watch(event, _arguments):
    if _events is not None and event.startswith(FORBIDDEN):
        _events.append(event)


sys.addaudithook(watch)  # hooks stay for good, so this one listens only inside ``harmless``


@contextmanager
def harmless():
    """Fails if the code inside runs a text, opens a file or starts a process."""
    global _events
    _events = []
    try:
        yield
        assert not _events, _events
    finally:
        _events = None


def check_hostile(task, problem, texts):
    """None of the completions is correct, each gets a reason within 50 ms of CPU, and nothing is run."""
    task.verify(problem, tagged("1"))  # imports on first use are no part of the check
    with harmless():
        for text in texts:
            verdict, seconds = timed(functools.partial(task.verify, problem, text))
            assert seconds < 0.05, text[:200]
            assert not verdict.correct and verdict.reward in (0.0, 0.1), text[:200]
            assert verdict.reason and len(verdict.reason) < 2000, text[:200]
