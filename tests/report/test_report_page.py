"""The HTML report: its parts say what the tables say, foreign text stays text, what is left out is said."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bench.analysis.sentences import signed_points
from bench.report.grids import percent
from bench.report.html import completions
from bench.report.html.charts import make_chart, ticks
from bench.report.html.content import Choice, load_choice, make_report
from bench.report.html.page import write_page
from bench.report.html.settings import command_line
from bench.report.safe_text import bounded, json_block, visible
from bench.types import UserError
from tests.helpers.commands import call
from tests.helpers.synthetic import two_tasks, write_run

HOSTILE = "</script><script>alert(1)</script><!--</pre><img src=x onerror=alert(1)>&amp;\x00\x1b[31m\u202ered\u2028"
VOID = {"meta", "link", "br", "input"}


class Reader(HTMLParser):
    """Open elements must close in order; collects headings, ids, attributes, text by tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[int] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another element"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(results: Path, out: Path, **changes: Any) -> str:
    choice = Choice(results, **changes)
    return write_page(make_report(load_choice(choice), choice), out).read_text()


def data(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="completions-data">(.*?)</script>', text, re.S)
    assert found
    return json.loads(found[1])


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return two_tasks(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def text(results, tmp_path_factory):
    return page(results, tmp_path_factory.mktemp("page") / "deep" / "report.html")


def test_every_row_and_pair_of_the_board_is_there(results, text):
    board = load_choice(Choice(results)).board
    assert {t.record.task for t in board.tables} == {"countdown", "logic"}
    plain = re.sub(r"<[^>]*>", "", text)
    for table in board.tables:
        for row in table.rows:
            shown = f"{percent(row.accuracy.mean)} [{percent(row.accuracy.low)}, {percent(row.accuracy.high)}]"
            assert shown in plain
        for pair in table.pairs:
            assert (
                f"{signed_points(pair.difference.mean)}p " in plain
                and f"{signed_points(-pair.difference.mean)}p " in plain
            )
    assert text.count('<td class="self">') == sum(len(t.rows) for t in board.tables)
    assert "All tasks, model tiny" in text and "Across 2 tasks, model tiny" in text


def test_the_page_is_sound_html_with_headings_in_order(text):
    reader = Reader(text)
    steps = list(pairwise(reader.headings))
    assert reader.headings[0] == 1 and all(b <= a + 1 for a, b in steps)
    assert reader.all("html")[0]["lang"] == "en"
    assert all("scope" in attributes for attributes in reader.all("th"))
    ids = [a["id"] for _, a in reader.tags if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a["href"] for a in reader.all("a")]
    assert links[0] == "#main" and all(link[1:] in ids for link in links if link)
    figures = [a for a in reader.all("svg") if a.get("aria-hidden") != "true"]
    assert len(figures) == 3 and all(a["role"] == "img" and a["aria-labelledby"] for a in figures)


def test_nothing_is_loaded_and_only_the_own_code_may_run(text):
    reader = Reader(text)
    policy = next(a["content"] for a in reader.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    style, script = (
        re.search(pattern, text, re.S)[1] for pattern in ("<style>(.*?)</style>", "<script>(.*?)</script>")
    )
    for part in (style, script):
        assert f"'sha256-{b64encode(hashlib.sha256(part.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy and "http" not in policy
    assert not any("src" in a or "style" in a or any(k.startswith("on") for k in a) for _, a in reader.tags)
    assert [a["href"] for a in reader.all("link")] == ["data:,"]
    assert "http://" not in text and "https://" not in text and "@import" not in text and "url(" not in text


def test_hostile_text_stays_text(tmp_path):
    def hostile(method: str, n: int, right: bool) -> str:
        return HOSTILE + "x" * (1_000_000 if n == 0 else 0) + "the end"

    write_run(tmp_path, "sft", text=hostile, num_items=3, data=HOSTILE, env={"versions": {HOSTILE: HOSTILE}})
    write_run(tmp_path, "base", text=hostile, num_items=3, data=HOSTILE)
    text = page(tmp_path, tmp_path / "report.html")
    Reader(text)
    assert text.count("<script") == 2 and text.count("</script>") == 2 and "<img" not in text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e]", text)
    found = data(text)
    first = found["tables"][0]["runs"][0]["items"][0][0]
    head, tail = found["strings"][first[0]], found["strings"][first[1]]
    assert head.startswith("</script><script>alert(1)</script><!--</pre><img") and tail.endswith("xthe end")
    assert "\u2400\u241b[31m\u27e8U+202E\u27e9red\u27e8U+2028\u27e9" in head
    assert first[3] == len(HOSTILE) + 1_000_000 + len("the end") - 4000 and len(text) < 400_000
    assert "Prompts are not shown: the problems come from a data file" in found["tables"][0]["notes"]


def test_unseen_characters_are_written_out():
    assert visible("a\tb\n\r\x7f\x9b\u200b\ud800\U000e0041") == (
        "a\tb\n\u240d\u2421\u27e8U+009B\u27e9\u27e8U+200B\u27e9\u27e8U+D800\u27e9\u27e8U+E0041\u27e9"
    )
    assert visible("naïve 数学 🙂 x²") == "naïve 数学 🙂 x²"
    assert bounded("abc") == ("abc", "", 0)
    assert bounded("a" * 3000 + "b" * 10 + "c" * 1000) == ("a" * 3000, "c" * 1000, 10)
    value = {"<!--": "</script>&\u2028é"}
    assert json.loads(json_block(value)) == value and json_block(value).isascii()
    assert not set("<>&") & set(json_block(value))


def test_completions_are_those_of_the_records(results, text):
    found = data(text)
    block = next(b for b in found["tables"] if b["name"].startswith("countdown"))
    assert [run["method"] for run in block["runs"]].count("uft") == 3 and len(block["items"]) == 40
    run = next(r for r in block["runs"] if (r["method"], r["seed"]) == ("uft", 1))
    path = next(p for p in results.iterdir() if p.name.startswith("uft-countdown-tiny-s1"))
    lines = [json.loads(line) for line in (path / "items.jsonl").read_text().splitlines()]
    tests = {line["id"]: line for line in lines if line["split"] == "test"}
    for (id, prompt, _), draws in zip(block["items"], run["items"]):
        assert found["strings"][prompt].startswith("countdown ")
        for draw, record in zip(draws, (tests[id]["greedy"], tests[id]["samples"][0]), strict=True):
            assert (found["strings"][draw[0]], found["strings"][draw[2]]) == (record["text"], record["reason"])
            assert (draw[3], draw[4] & 1, draw[5]) == (0, record["correct"], 9)
    assert [id.rpartition("/")[2] for id, *_ in block["items"]][:12] == [str(n) for n in range(12)]


def test_what_is_left_out_is_said(results, tmp_path, monkeypatch):
    text = page(results, tmp_path / "a.html", items=5, seeds=1, tasks=("logic",))
    assert "the first 5 of 40 items, 1 seed at most per method" in text and "Completions of 4 of 12 runs" in text
    assert "countdown" not in text.replace("--task countdown", "")
    monkeypatch.setattr(completions, "MAX_RUNS", 9)
    text = page(results, tmp_path / "b.html")
    assert "Completions of 8 of 24 runs" in text and "1 seed at most" in text
    monkeypatch.setattr(completions, "MAX_RUNS", 6)
    assert [len(b["runs"]) for b in data(page(results, tmp_path / "c.html"))["tables"]] == [4, 2]
    monkeypatch.setattr(completions, "MAX_BYTES", 3000)
    cut = data(page(results, tmp_path / "d.html", seeds=1))["tables"]
    assert 1 <= len(cut[0]["items"]) < 20
    assert data(page(results, tmp_path / "e.html", items=0))["tables"][0]["items"] == []


def test_records_of_runs_that_are_not_shown_stay_closed(results, tmp_path, monkeypatch):
    opened = []
    real = completions.read_content
    monkeypatch.setattr(completions, "read_content", lambda path: opened.append(path.parent.name) or real(path))
    page(results, tmp_path / "a.html", seeds=1)
    assert len(opened) == 8 and all("-s0-" in name for name in opened)


def test_broken_runs_are_named_and_broken_records_do_not_stop_the_page(tmp_path):
    two_tasks(tmp_path / "runs", seeds=1)
    (next((tmp_path / "runs").glob("sft-logic*")) / "plan.json").write_text("{<b>")
    text = page(tmp_path / "runs", tmp_path / "report.html")
    assert "1 run could not be read and is in no table" in text and "plan.json" in text and "<b>" not in text


def test_settings_that_differ_are_marked(results):
    found = make_report(load_choice(Choice(results)), Choice(results)).sections[0].settings
    assert set(found.methods) == {"sft", "uft", "sft+grpo"}
    knobs = {k.name: k for k in found.knobs}
    betas = dict(zip(found.methods, knobs["betas"].values))
    assert knobs["betas"].differs and betas["sft+grpo"] == f"{betas['sft']} / {betas['uft']}"
    assert not knobs["batch_size"].differs and knobs["batch_size"].usual == "256"
    assert "demo_coef" not in knobs  # only one method has it
    assert [k.differs for k in found.knobs] == sorted((k.differs for k in found.knobs), reverse=True)


def test_commands_can_be_pasted():
    words = ["/somewhere/bench/__main__.py", "run", "--set", "uft.lr=1e-4", "--data", "my rows.jsonl"]
    assert command_line(words) == "bench run --set uft.lr=1e-4 --data 'my rows.jsonl'"
    assert command_line(None) == "unknown" and command_line(["python", "x.py"]) == "python x.py"


def test_chart_by_hand():
    drawn = make_chart({"a": [(0, 0, 0, 0), (100, 50, 40, 60)], "base": []}, {"a": 0, "base": -1}, ("T", "x", "y"))
    assert [label for _, label in drawn.x_ticks] == ["0", "20", "40", "60", "80", "100"]
    assert [label for _, label in drawn.y_ticks] == ["0", "20", "40", "60"]
    a = drawn.series[0]
    assert a.line == "52,276 614,54.3" and a.points[1][:2] == pytest.approx((614, 276 - 266 * 50 / 60))
    assert a.band == "52,276 614,98.7 614,10 52,276"
    assert drawn.series[1].line == "" and "a: 0.0 at 0, 50.0 at 100." in drawn.text
    assert ticks(0, 0.93) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(3, 3)[0] <= 3 < ticks(3, 3)[-1]


def test_a_crowd_gets_whiskers_side_by_side():
    lines = {str(n): [(50.0, 10.0 * n, 10.0 * n - 1, 10.0 * n + 1)] for n in range(6)}
    drawn = make_chart(lines, {name: n for n, name in enumerate(lines)}, ("T", "x", "y"))
    xs = [s.points[0][0] for s in drawn.series]
    assert drawn.crowded and [round(b - a, 6) for a, b in pairwise(xs)] == [4] * 5
    assert all(s.whiskers.startswith(f"M{s.points[0][0]:g} ") for s in drawn.series)


@pytest.mark.slow
def test_command_writes_page_and_figures(results, tmp_path, capsys):
    arguments = ("report", "--results", results, "--out", tmp_path / "r.html", "--task", "logic")
    code, out, err = call(capsys, *arguments, "--figures", tmp_path / "f", "--figure-format", "svg,pdf,png")
    assert (code, err) == (0, "")
    written = [Path(line) for line in out.splitlines()]
    kinds = [f"{kind}-logic.{format}" for kind in ("curves", "accuracy", "pairs") for format in ("svg", "pdf", "png")]
    assert [p.name for p in written] == ["r.html", *kinds]
    starts = {".svg": b"<?xml", ".pdf": b"%PDF", ".png": b"\x89PNG"}
    assert all(p.read_bytes().startswith(starts[p.suffix]) for p in written[1:])
    call(capsys, *arguments, "--figures", tmp_path / "again")
    again = list((tmp_path / "again").iterdir())
    assert len(again) == 3 and all(p.read_bytes() == (tmp_path / "f" / p.name).read_bytes() for p in again)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--task", "countdwn"), "unknown task of these runs 'countdwn': did you mean countdown? expected one of "),
        (("--figure-format", "gif"), "unknown figure format 'gif': "),
        (("--items", "-1"), "'--items'"),
    ],
)
def test_bad_input_is_one_line(results, capsys, tmp_path, arguments, expected):
    code, out, err = call(capsys, "report", "--results", results, "--out", tmp_path / "r.html", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1) and expected in err
    assert not (tmp_path / "r.html").exists()


def test_an_empty_store_is_said(tmp_path, capsys):
    for folder, words in ((tmp_path, "no finished runs in"), (tmp_path / "none", "does not exist")):
        code, _, err = call(capsys, "report", "--results", folder, "--out", tmp_path / "r.html")
        assert code == 2 and words in err and err.count("\n") == 1
    with pytest.raises(UserError, match="no finished runs"):
        load_choice(Choice(tmp_path))
