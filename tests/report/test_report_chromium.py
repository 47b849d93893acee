"""The report in a real browser, opened from disk: silent, without network, its browser of completions at work."""

from __future__ import annotations

import json

import pytest

from bench.report.html.content import Choice, load_choice, make_report
from bench.report.html.page import write_page
from tests.helpers.chromium import CHROMIUM, DRIVER, browser
from tests.helpers.synthetic import two_tasks, write_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver"),
]
HOSTILE = "</pre></script><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">"
STATE = """
const value = (id) => document.getElementById(id).selectedOptions[0].textContent;
return {a: value("b-a"), b: value("b-b"), count: document.getElementById("b-count").textContent,
  id: document.querySelector("#b-item h3")?.textContent,
  verdicts: [...document.querySelectorAll(".side")].map((s) => s.classList.contains("right")),
  texts: [...document.querySelectorAll(".side .text")].map((t) => t.textContent),
  marks: [...document.querySelectorAll(".side mark")].map((m) => m.textContent)};
"""
CHOOSE = """
const select = document.getElementById(arguments[0]);
if (select.tagName === "INPUT") select.value = arguments[1];
else select.value = [...select.options].find((o) => o.textContent === arguments[1]).value;
select.dispatchEvent(new Event(select.tagName === "INPUT" ? "input" : "change"));
"""
WALK = """
const seen = [];
for (;;) {
  seen.push([...document.querySelectorAll(".side")].map((s) => s.classList.contains("right")));
  const next = document.getElementById("b-next");
  if (next.disabled) return seen;
  next.click();
}
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chromium")
    two_tasks(folder / "runs", text=lambda method, n, right: f"{method} {n} {right} {HOSTILE}")
    choice = Choice(folder / "runs")
    out = write_page(make_report(load_choice(choice), choice), folder / "report.html")
    with browser(folder / "profile") as opened:
        opened.console(), opened.requests()
        opened.open(out)
        yield opened


def test_silent_and_alone(page):
    page.look(1280, 900)
    assert page.console() == []
    asked = [url for url in page.requests() if not url.startswith(("data:", "chrome:"))]
    assert len(asked) == 1 and asked[0].startswith("file://") and asked[0].endswith("/report.html")
    assert page.run("return document.title") == "Post-training methods compared"


def test_hostile_completions_are_text(page):
    found = page.run(STATE)
    assert len(found["texts"]) == 2 and all(HOSTILE in text for text in found["texts"])
    assert page.run("return document.querySelectorAll('.side img, .side script, .side pre').length") == 0
    assert page.run("return document.title") == "Post-training methods compared"
    assert page.console() == []


def test_own_code_alone_may_run(page):
    """The policy forbids what an injection would need; the console says so, which shows that it is looked at."""
    page.run("const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s)")
    page.run("document.body.setAttribute('onclick', 'window.ran = 1'); document.body.click()")
    page.run("const i = new Image(); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i)")
    assert page.run("return window.ran ?? 0") == 0
    assert len([line for line in page.console() if "Content Security Policy" in line]) >= 3
    assert not [url for url in page.requests() if url.startswith("http")]


def test_filters_choose_items_by_both_verdicts(page):
    page.run(CHOOSE, "b-table", page.run("return document.getElementById('b-table').options[0].textContent"))
    page.run(CHOOSE, "b-a", "uft")
    page.run(CHOOSE, "b-b", "base")
    page.run(CHOOSE, "b-filter", "all items")
    verdicts = [tuple(pair) for pair in page.run(WALK)]
    assert len(verdicts) == 40 and len(set(verdicts)) >= 3
    tests = {
        "A right, B wrong": lambda a, b: a and not b,
        "both wrong": lambda a, b: not a and not b,
        "both right": lambda a, b: a and b,
        "verdicts differ": lambda a, b: a != b,
    }
    for name, test in tests.items():
        page.run(CHOOSE, "b-filter", name)
        expected = [pair for pair in verdicts if test(*pair)]
        assert expected and page.run(STATE)["count"] == f"1 of {len(expected)} items"
        assert [tuple(pair) for pair in page.run(WALK)] == expected
    page.run(CHOOSE, "b-filter", "all items")


def test_search_marks_what_it_finds_and_says_when_there_is_nothing(page):
    page.run(CHOOSE, "b-text", "UFT 17 ")
    found = page.run(STATE)
    assert found["count"] == "1 of 1 items" and found["id"].endswith("/17") and found["marks"] == ["uft 17 "]
    page.run(CHOOSE, "b-text", "no such words")
    assert page.run(STATE)["count"] == "no such item"
    page.run(CHOOSE, "b-text", "")


def test_seed_and_completion_change_what_is_shown(page):
    before = page.run(STATE)
    page.run(CHOOSE, "b-seed", "2")
    page.run(CHOOSE, "b-draw", "sample 1")
    heads = page.run("return [...document.querySelectorAll('.side h3')].map((h) => h.textContent)")
    assert heads == ["A: uft, seed 2", "B: base, seed 2"]
    page.run(CHOOSE, "b-table", page.run("return document.getElementById('b-table').options[1].textContent"))
    assert page.run(STATE)["id"].split("/")[0] != before["id"].split("/")[0]


def test_keys_step_through_items(page):
    page.run(
        "document.getElementById('completions').scrollIntoView({behavior: 'instant'}); document.activeElement.blur()"
    )
    ids = [page.run(STATE)["id"]]
    for key in ("j", "\ue014", "k", "\ue012"):  # the last two: the arrows of the protocol
        page.press(key)
        ids.append(page.run(STATE)["id"])
    assert [id.rpartition("/")[2] for id in ids] == ["0", "1", "2", "1", "0"]
    page.run("document.getElementById('b-text').focus()")
    page.press("j")
    assert page.run("return document.getElementById('b-text').value") == "j"
    page.run(CHOOSE, "b-text", "")


def test_the_first_tab_leads_past_the_contents(page):
    page.run("window.scrollTo(0, 0); document.activeElement.blur()")
    page.call("/refresh", {})
    page.press("\ue004")
    assert page.run("return document.activeElement.className") == "skip"
    page.press("\ue007")
    assert page.run("return document.activeElement.id") == "main"


@pytest.mark.parametrize(("width", "height", "dark"), [(390, 844, False), (390, 844, True), (1280, 900, True)])
def test_the_page_fits_the_window_in_both_schemes(page, width, height, dark):
    page.look(width, height, dark)
    assert page.run("return document.documentElement.scrollWidth") <= width
    ground = page.run("return getComputedStyle(document.body).backgroundColor")
    ink = page.run("return getComputedStyle(document.querySelector('.axis text')).fill")
    assert (sum(map(int, ground[4:-1].split(","))) < 200) == dark
    assert (sum(map(int, ink[4:-1].split(","))) > 400) == dark
    small = (
        "return [...document.querySelectorAll('button')].filter((b) => b.offsetParent && b.offsetHeight < 24).length"
    )
    assert page.run(small) == 0


def test_print_shows_tables_whole_and_no_controls(page):
    page.look(1280, 900)
    page.devtools("Emulation.setEmulatedMedia", media="print")
    assert page.run("return getComputedStyle(document.querySelector('nav')).display") == "none"
    assert page.run("return getComputedStyle(document.getElementById('completions')).display") == "none"
    assert page.run("return getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    page.devtools("Emulation.setEmulatedMedia", media="")
    folded = "return document.querySelectorAll('main details:not([open])').length"
    before = page.run(folded)
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert before > 0 and page.run(folded) == 0
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run(folded) == before


def test_a_long_completion_says_what_was_cut(page, tmp_path):
    write_run(tmp_path / "runs", "sft", num_items=2, text=lambda m, n, r: "start" + "\u202e" + "y" * 50_000 + "end")
    choice = Choice(tmp_path / "runs")
    page.open(write_page(make_report(load_choice(choice), choice), tmp_path / "report.html"))
    found = page.run(STATE)
    assert found["texts"][0].startswith("start⟨U+202E⟩yyy") and found["texts"][0].endswith("yyend")
    assert "[46,009 characters cut]" in found["texts"][0] and page.console() == []
    assert json.dumps(found["a"]) == '"sft"'
