"""math-verify in worker processes: its verdicts, its limits, and that nothing is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from bench.types import UserError
from tasks._math import judge as math_judge
from tasks._math.judge import CPU_SECONDS, Judge, Worker

ROOT = Path(__file__).resolve().parents[2]
NAME = f"math-verify {version('math-verify')}"


@pytest.fixture
def judge():
    found = Judge()
    yield found
    found.close()


def alive(pid):
    """Whether a worker with this process id runs (a zombie does not)."""
    try:
        return "_math_worker" in Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid, seconds=20.0):
    limit = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < limit:
        time.sleep(0.05)
    return not alive(pid)


def test_verdicts_name_the_judge_and_its_version(judge):
    assert judge.equal("2\\sqrt{3}", "\\sqrt{12}") == (True, f"{NAME}: equal")
    assert judge.equal("2\\sqrt{3}", "\\sqrt{13}") == (False, f"{NAME}: not equal")
    assert version("math-verify") == "0.9.0"


def test_gold_comes_first(judge):
    """An inequality is solved by an interval, but does not answer a question for one."""
    assert judge.equal("1<x<3", "(1,3)")[0] and not judge.equal("(1,3)", "1<x<3")[0]


def test_an_answer_that_takes_too_long_is_refused_and_its_worker_replaced(judge):
    judge.equal("x", "y")
    first = judge.idle[0].process.pid
    start = time.monotonic()
    equal, reason = judge.equal("\\sqrt{2}", "9^{9^{9^9}}")
    assert not equal and reason == f"{NAME}: no verdict within {CPU_SECONDS} s of CPU time"
    assert time.monotonic() - start < math_judge.WALL_SECONDS + 1
    assert judge.idle == [] and gone(first)
    assert judge.equal("x+1", "1+x")[0] and judge.idle[0].process.pid != first


def test_a_dead_worker_is_replaced(judge):
    judge.equal("x", "y")
    pid = judge.idle[0].process.pid
    os.kill(pid, signal.SIGKILL)
    judge.idle[0].process.wait()
    assert judge.equal("x+2", "2+x")[0] and judge.idle[0].process.pid != pid


def test_a_worker_that_is_killed_at_work_gives_no_verdict(judge):
    judge.equal("x", "y")
    worker = judge.idle[0]
    timer = threading.Timer(0.3, worker.process.kill)
    timer.start()
    assert judge.equal("\\sqrt{2}", "9^{9^{9^9}}") == (False, f"{NAME}: no verdict, its process ended")
    timer.join()


def test_memory_is_limited(judge):
    judge.equal("x", "y")
    limits = Path(f"/proc/{judge.idle[0].process.pid}/limits").read_text()
    sizes = {line[:26].strip(): line[26:].split()[:2] for line in limits.splitlines()[1:]}
    assert sizes["Max address space"] == [str(2 * 1024**3)] * 2
    assert sizes["Max file size"] == sizes["Max core file size"] == ["0", "0"]


def test_verdicts_are_remembered_and_workers_reused(judge, monkeypatch):
    asked = []
    ask = Worker.ask
    monkeypatch.setattr(Worker, "ask", lambda self, *pair: (asked.append(pair), ask(self, *pair))[1])
    for _ in range(3):
        assert judge.equal("a+b", "b+a")[0]
    assert asked == [("a+b", "b+a")] and len(judge.idle) == 1
    judge.equal("a+b", "b+c")
    assert len(asked) == 2 and len(judge.idle) == 1
    monkeypatch.setattr(math_judge, "MAX_REMEMBERED", 2)
    judge.equal("a+b", "b+d")
    assert len(judge.remembered) == 1


def test_threads_get_workers_of_their_own(judge):
    found = {}

    def ask(number):
        found[number] = judge.equal(f"x+{number}", f"{number}+x")[0]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(6), True) and 1 <= len(judge.idle) <= math_judge.MAX_WORKERS


def test_a_judge_that_cannot_start_says_so(monkeypatch, tmp_path):
    (tmp_path / "math_verify.py").write_text("raise ImportError('broken')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(UserError, match=r"cannot be loaded \(ImportError: broken\): install it with pip install"):
        Judge().equal("x", "y")


SCRIPT = """
import sys, time
from tasks.math_ import TASK
from tasks._math.judge import JUDGE
row = {"problem": "p", "solution": "It is $\\\\boxed{2\\\\sqrt{3}}$.", "level": "Level 3"}
assert TASK.verify(TASK.from_row(row), "\\\\boxed{\\\\sqrt{12}}").correct
print(JUDGE.idle[0].process.pid, flush=True)
if sys.argv[1] == "busy":
    JUDGE.equal("\\\\sqrt{2}", "9^{9^{9^9}}")
if sys.argv[1] == "wait":
    time.sleep(60)
if sys.argv[1] == "fail":
    raise SystemExit(3)
"""


@pytest.mark.parametrize("how", ["end", "fail", "wait", "busy"])
def test_no_process_is_left_behind(how):
    """At the end, after an error, and when the caller is killed while its worker waits or works."""
    caller = subprocess.Popen([sys.executable, "-c", SCRIPT, how], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert caller.stdout is not None
    pid = int(caller.stdout.readline())
    if how in ("wait", "busy"):
        assert alive(pid)
        time.sleep(0.3 * (how == "busy"))
        caller.kill()
    caller.wait(60)
    caller.stdout.close()
    assert gone(pid)


def test_exact_tasks_start_no_worker():
    script = """
import random, sys
from tasks.math_ import TASK
from tasks._math.judge import JUDGE
for level in TASK.levels:
    problem = TASK.generate(random.Random(1), level)
    for answer in ("1", "\\\\sqrt{2}", "x+1", "9**9**9"):
        TASK.verify(problem, f"<answer>{answer}</answer>")
row = TASK.from_row({"problem": "p", "solution": "It is $\\\\boxed{12}$."})
assert TASK.verify(row, "\\\\boxed{12.0}").correct and not TASK.verify(row, "\\\\boxed{13}").correct
assert not JUDGE.idle and not JUDGE.remembered
print({"math_verify", "sympy", "latex2sympy2_extended"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n", done.stderr
