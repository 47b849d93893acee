"""Leases: one owner at a time, no clock compared with another, and a former owner that wakes can write nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.seeds import derive_seed
from bench.store.lease import FOLDER, Held, LeaseLost, Watch, acquire, latest, take, tokens
from bench.store.owner import HOST, SECONDS, SETTING
from bench.store.run_folder import check_records, is_done
from bench.store.run_store import RunStore
from bench.types import UserError
from tests.helpers.freezing import Owner, content, overtake, tiny_run

ROOT = Path(__file__).resolve().parents[2]


class Clock:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.events: list[Callable[[], object]] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.events:
            self.events.pop(0)()


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """From now on this process counts as one on the machine of that name."""
    return lambda name: monkeypatch.setenv(HOST, name)


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    first = acquire(tmp_path)
    with pytest.raises(Held, match=rf"run {tmp_path.name} is in progress in another process, on .*pid {os.getpid()}"):
        acquire(tmp_path)
    first.release()
    second = acquire(tmp_path)
    assert (first.token, second.token) == (1, 2)
    second.check()
    with pytest.raises(LeaseLost, match="was taken over by"):
        first.check()


def test_an_owner_on_another_machine_is_given_its_time(tmp_path: Path, elsewhere: Any) -> None:
    elsewhere("a")
    first = acquire(tmp_path)
    elsewhere("b")
    clock = Clock()
    second = acquire(tmp_path, clock=clock, sleep=clock.sleep)  # no sign of life comes
    assert second.token == 2 and not first.holds() and SECONDS <= clock.now - 1000 < SECONDS + 1
    elsewhere("c")
    clock = Clock()
    clock.events = [lambda: None, second.beat]
    with pytest.raises(Held, match=r"on b \(pid"):
        acquire(tmp_path, clock=clock, sleep=clock.sleep)
    assert clock.now - 1000 < 1 and second.holds()


@pytest.mark.parametrize("stamp", [0.0, 1e9, 4e9])  # 1970, 2001, 2096: the owner's clock, or the file server's
def test_no_clock_of_another_machine_decides(tmp_path: Path, elsewhere: Any, stamp: float) -> None:
    elsewhere("a")
    first = acquire(tmp_path)
    os.utime(first.path, (stamp, stamp))
    elsewhere("b")
    clock = Clock()
    watch = Watch(tmp_path, clock)
    assert not watch.is_free()
    clock.now += SECONDS - 1
    assert not watch.is_free()
    os.utime(first.path, (stamp + 0.01, stamp + 0.01))  # any change is a sign of life
    clock.now += 2
    assert not watch.is_free() and watch.heard
    for part in range(4):
        clock.now += SECONDS / 4
        assert watch.is_free() == (part == 3)


def test_a_time_in_which_nobody_could_look_is_no_silence(tmp_path: Path, elsewhere: Any) -> None:
    """A file server that was away an hour was away for all owners and observers; one that looks seldom waits longer."""
    elsewhere("a")
    first = acquire(tmp_path)
    elsewhere("b")
    clock = Clock()
    watch = Watch(tmp_path, clock)
    assert not watch.is_free()
    clock.now += 3600
    assert not watch.is_free()
    first.beat()
    assert not watch.is_free() and watch.silence == 0
    looks = 0
    while not watch.is_free():
        clock.now += 2 * SECONDS
        looks += 1
    assert looks == 2


def test_what_a_parent_has_seen_spares_the_wait(tmp_path: Path, elsewhere: Any) -> None:
    elsewhere("a")
    first = acquire(tmp_path)
    elsewhere("b")
    watch = Watch(tmp_path)
    assert not watch.is_free()
    seen = watch.seen
    os.utime(first.path, (1, 1))  # a sign of life after the parent looked
    clock = Clock()
    clock.events = [first.beat]
    with pytest.raises(Held):
        acquire(tmp_path, seen, clock, clock.sleep)
    assert not watch.is_free()
    assert acquire(tmp_path, watch.seen, clock=lambda: 0.0, sleep=lambda _: pytest.fail("it waited")).token == 2


def test_the_owner_says_how_long_it_is_waited_for(tmp_path: Path, elsewhere: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv(SETTING, "60")
    elsewhere("a")
    acquire(tmp_path)
    monkeypatch.setenv(SETTING, "1")
    elsewhere("b")
    clock = Clock()
    acquire(tmp_path, clock=clock, sleep=clock.sleep)
    assert clock.now - 1000 >= 60
    for text in ("", " ", "0", "-1", "nan", "inf", "x", "1e9"):
        monkeypatch.setenv(SETTING, text)
        if text:
            with pytest.raises(UserError, match=f"{SETTING}='{text}': expected seconds between"):
                acquire(tmp_path / "other")


HOLD = """
import sys, time
from pathlib import Path
from bench.store.lease import acquire
acquire(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_dead_process_of_this_machine_is_followed_at_once(tmp_path: Path, monkeypatch: Any) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], env=env, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(Held, match=f"pid {holder.pid}"):
            acquire(tmp_path)
        holder.send_signal(signal.SIGSTOP)  # frozen is not dead
        with pytest.raises(Held):
            acquire(tmp_path)
        holder.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
        assert Watch(tmp_path).is_free()  # nobody has waited for it yet
    assert acquire(tmp_path).token == 2
    # a process of another time that has got the same number
    claim = latest(tmp_path)
    assert claim is not None and claim.owner is not None and not claim.owner.is_dead
    monkeypatch.setattr("bench.store.owner.process_start", lambda pid: "another time")
    assert claim.owner.is_dead


def test_another_user_s_process_is_not_dead(tmp_path: Path, monkeypatch: Any) -> None:
    """The system does not let it be signalled, and may hide when it began."""
    first = acquire(tmp_path)

    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    for hidden in (False, True):
        if hidden:
            monkeypatch.setattr("bench.store.owner.process_start", lambda pid: "")
        assert not Watch(tmp_path).is_free()
        with pytest.raises(Held):
            acquire(tmp_path)
    assert first.holds()


def test_a_process_of_this_machine_that_is_stopped_keeps_its_run(tmp_path: Path, monkeypatch: Any) -> None:
    """No sign of life comes, and it is there; one of which the system does not say so much is lost some time."""
    first, clock = acquire(tmp_path), Clock()
    watch = Watch(tmp_path, clock)
    assert not watch.is_free()
    for _ in range(10):
        clock.now += SECONDS / 2
        assert not watch.is_free()
    assert first.holds()
    monkeypatch.setattr("bench.store.owner.process_start", lambda pid: "")
    assert watch.is_free()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b'{"id": "x"}', b'"released"'])
def test_a_lease_that_cannot_be_read_is_one_of_an_unknown_machine(tmp_path: Path, text: bytes) -> None:
    acquire(tmp_path)
    (tmp_path / FOLDER / "1.json").write_bytes(text)
    clock = Clock()
    assert acquire(tmp_path, clock=clock, sleep=clock.sleep).token == 2 and clock.now - 1000 >= SECONDS


@pytest.mark.parametrize(
    ("name", "value"),
    [("seconds", "x"), ("seconds", float("nan")), ("seconds", 1e9), ("pid", 2**40), ("pid", -1), ("host", ["a"])],
)
def test_so_is_one_with_a_value_that_no_owner_has(tmp_path: Path, name: str, value: Any) -> None:
    file = acquire(tmp_path).path
    file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))
    claim = latest(tmp_path)
    assert claim is not None and claim.owner is None and not Watch(tmp_path).is_free()


def test_what_is_no_lease_among_them(tmp_path: Path) -> None:
    acquire(tmp_path).release()
    for name in ("007.json", "\u0663.json", "9.json~", "0.json"):
        (tmp_path / FOLDER / name).write_text("{}")
    assert tokens(tmp_path) == [1] and acquire(tmp_path).token == 2
    (tmp_path / FOLDER / "3.json").mkdir()
    (tmp_path / FOLDER / "4.json").symlink_to("nowhere")
    clock = Clock()
    assert acquire(tmp_path, clock=clock, sleep=clock.sleep).token == 5 and clock.now - 1000 >= SECONDS


def test_a_run_that_was_moved_away_and_begun_anew_is_the_new_owner_s(tmp_path: Path) -> None:
    """Both have the first lease of a folder of this name."""
    run = tmp_path / "run"
    first = acquire(run)
    run.rename(tmp_path / "away")
    assert not first.holds()
    second = acquire(run)
    assert first.token == second.token and second.holds()
    with pytest.raises(LeaseLost):
        first.check()
    second.release()
    with pytest.raises(LeaseLost), RunStore(run).own():
        run.rename(tmp_path / "away too")
        take(run, 2)
        (run / "env.json.2.part").write_text("the new owner's")
        raise OSError("anything")
    assert (run / "env.json.2.part").exists()
    with pytest.raises(LeaseLost), RunStore(run / "gone").own():
        (run / "gone").rename(tmp_path / "away as well")
        raise OSError("anything")


@pytest.mark.parametrize("links", [True, False])
def test_of_many_that_take_a_run_one_gets_it(tmp_path: Path, monkeypatch: Any, links: bool) -> None:
    if not links:

        def refuse(*_: Any) -> None:
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(os, "link", refuse)
    for number in range(20):
        got: list[Any] = []
        start = threading.Barrier(4)

        def contend(run: Path = tmp_path / str(number), got: list[Any] = got, start: Any = start) -> None:
            start.wait()
            try:
                got.append(take(run, 1))
            except Held:
                got.append(None)

        threads = [threading.Thread(target=contend) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(one is not None for one in got) == 1 and os.listdir(tmp_path / str(number) / FOLDER) == ["1.json"]


def test_an_answer_that_got_lost_is_no_refusal(tmp_path: Path, monkeypatch: Any) -> None:
    """A network file system may carry out a link, lose its answer, and refuse the same link when it asks again."""
    link = os.link

    def twice(*names: Any) -> None:
        link(*names)
        link(*names)

    monkeypatch.setattr(os, "link", twice)
    assert acquire(tmp_path).token == 1


def test_signs_of_life_come_from_a_thread(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv(SETTING, "0.2")
    own = acquire(tmp_path)
    before = latest(tmp_path)
    with own.beating():
        for _ in range(200):
            threading.Event().wait(0.02)
            if latest(tmp_path) != before:
                break
    assert before is not None and latest(tmp_path).beat > before.beat  # type: ignore[union-attr]


def test_a_former_owner_s_files_go_and_others_stay(tmp_path: Path) -> None:
    left = ("env.json.1.part", "done.json.part", "part-policy-1", "part-checkpoint-", "env.json.7.part", "part-x-7")
    for name in left:
        (tmp_path / name).mkdir() if name.startswith("part-") else (tmp_path / name).write_text("half")
    (tmp_path / "part-policy-1" / "file").write_text("half")
    take(tmp_path, 1).release()
    with RunStore(tmp_path).own():
        assert {p.name for p in tmp_path.iterdir()} == {"env.json.7.part", "part-x-7", FOLDER}


def test_what_goes_wrong_after_a_loss_is_a_loss(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    with pytest.raises(LeaseLost), store.own():
        take(tmp_path, 2)
        raise OSError("anything")
    with pytest.raises(OSError, match="anything"), RunStore(tmp_path / "other").own():
        raise OSError("anything")
    assert json.loads((tmp_path / "other" / FOLDER / "1.json").read_text())["released"] is True


# --- a frozen owner that wakes ---------------------------------------------------------------------------------------


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here survives a power cut."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def expected(tmp_path: Path, fast: None) -> dict[str, bytes]:
    tiny_run(tmp_path / "undisturbed")
    check_records(tmp_path / "undisturbed")
    return content(tmp_path / "undisturbed")


@pytest.fixture
def events(tmp_path: Path, fast: None) -> list[tuple[str, int]]:
    """The lines of code that an owner comes to, in order."""
    owner = Owner(tmp_path / "traced")
    owner.wake()
    assert owner.error is None
    return owner.events


def places(events: list[tuple[str, int]], most: int) -> list[int]:
    """Events that are the first or the last time that an owner comes to a line; ``most`` of them, spread by hashing."""
    first = {line: number for number, line in reversed(list(enumerate(events)))}
    last = {line: number for number, line in enumerate(events)}
    return sorted({*first.values(), *last.values()}, key=lambda number: derive_seed("freeze", number))[:most]


def faults_of(path: Path, expected: dict[str, bytes]) -> list[str]:
    """Where a run differs from an undisturbed one."""
    check_records(path)
    found = content(path)
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))


MOST, MOST_PAIRS = int(os.environ.get("BENCH_TEST_FREEZES", "40")), int(os.environ.get("BENCH_TEST_FREEZES", "40"))


def test_an_owner_that_wakes_after_another_one_has_ended_changes_nothing(
    tmp_path: Path, expected: dict[str, bytes], events: list[tuple[str, int]]
) -> None:
    """Frozen before any line of the code that writes, a file it is about to rename or append to among them."""
    refused = 0
    for place in places(events, MOST):
        path = tmp_path / str(place)
        frozen = Owner(path, place)
        frozen.wait_until_still()
        ended = is_done(path)
        other = overtake(path)
        other.wake()
        assert other.was_refused if ended else other.error is None, (events[place], other.error)
        before = content(path)
        frozen.wake()
        assert frozen.error is None or frozen.was_refused, (events[place], frozen.error)
        refused += frozen.was_refused
        assert faults_of(path, expected) == [], events[place]
        assert content(path) == before or frozen.error is None, events[place]
    assert refused > MOST / 2


def test_an_owner_that_wakes_beside_another_one_changes_nothing(
    tmp_path: Path, expected: dict[str, bytes], events: list[tuple[str, int]]
) -> None:
    """The second one is frozen too while the first one wakes, and goes on after it."""
    for place in places(events, MOST_PAIRS):
        path = tmp_path / str(place)
        first = Owner(path, place)
        first.wait_until_still()
        second = overtake(path, derive_seed("second", place) % len(events))
        second.wait_until_still()
        first.wake()
        second.wake()
        ended = [first.error, second.error]
        assert all(owner.error is None or owner.was_refused for owner in (first, second)), (events[place], ended)
        if first.error is not None and second.error is not None:  # each was refused by the other's attempt
            tiny_run(path, overtaken(path))
        assert faults_of(path, expected) == [], (events[place], ended)


def overtaken(path: Path) -> tuple[int, int] | None:
    claim = latest(path)
    return (claim.token, claim.beat) if claim is not None else None
