"""Chat templates: the same prompt every day, a digest in the plan, and none of it without a chat template."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import transformers.utils.chat_template_utils as templates

from bench.engine.encoding import encode
from bench.models.chat import chat_digest, chat_prefix, render_chat
from bench.types import Demonstration, Example
from tests.helpers.engine import TOKENIZER
from tests.helpers.runs import make_job, write_model

# The three ways in which published templates come by a date: asked of a function, a variable with a default of its
# own, and a variable that falls back on the function.
DATED = {
    "function": "{% set now = strftime_now('%Y-%m-%d') %}Today is {{ now }}. {{ messages[0]['content'] }}>",
    "variable": "{% if not date_string is defined %}{% set date_string = '26 Jul 2024' %}{% endif %}"
    "Today Date: {{ date_string }} {{ messages[0]['content'] }}>",
    "either": "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    "{%- set date_string = strftime_now('%d %b %Y') %}{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}"
    "{%- endif %}Today Date: {{ date_string }} {{ messages[0]['content'] }}>",
}
WRITTEN = {
    "function": "Today is 2025-01-01. p>",
    "variable": "Today Date: 01 Jan 2025 p>",
    "either": "Today Date: 01 Jan 2025 p>",
}


@pytest.fixture
def tokenizer(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(TOKENIZER, "chat_template", None)
    return TOKENIZER


@pytest.mark.parametrize("kind", DATED)
def test_a_template_that_asks_for_the_date_gets_the_same_one_every_day(
    kind: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer.chat_template = DATED[kind]
    seen = set()
    for year in (2025, 2026):

        class Clock(datetime):
            @classmethod
            def now(cls, tz: Any = None, year: int = year) -> datetime:
                return datetime(year, 3, 4)

        monkeypatch.setattr(templates, "datetime", Clock)
        plain = tokenizer.apply_chat_template([{"role": "user", "content": "p"}], tokenize=False)
        seen.add(plain)
        assert render_chat(tokenizer, "p") == WRITTEN[kind] != plain
    assert len(seen) == (1 if kind == "variable" else 2)  # what the template does by itself


def test_a_date_changes_no_tokens_of_an_example(tokenizer: Any) -> None:
    tokenizer.chat_template = DATED["either"].replace(">", "<bos>")
    example = Example("1", "3 4", Demonstration(("3",), "4"), {})
    assert tokenizer.decode(encode(tokenizer, example, "chat").prompt_ids).startswith("Today Date: 01 Jan 2025")


def test_the_digest_is_of_all_that_is_written_around_a_prompt(tokenizer: Any) -> None:
    digests = set()
    for before, after in (("a ", ">"), ("b ", ">"), ("a ", "<")):
        tokenizer.chat_template = f"{before}{{{{ messages[0]['content'] }}}}{after}"
        digests.add(chat_digest(tokenizer))
    assert len(digests) == 3 and chat_prefix(tokenizer) == "a "


def test_a_plan_has_the_digest_only_with_the_template_chat(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    before = {t: make_job(model, tmp_path / "runs", template=t).plan for t in ("compact", "plain")}
    (model / "chat_template.jinja").write_text("<bos>{{ messages[0]['content'] }}>")
    plans = {t: make_job(model, tmp_path / "runs", template=t).plan for t in ("compact", "plain", "chat")}
    assert [plans[t].run_id for t in before] == [plan.run_id for plan in before.values()]
    assert [plan.chat_digest != "" for plan in plans.values()] == [False, False, True]
    assert "chat_digest" not in plans["plain"].identity(set()) and "chat_digest" in plans["chat"].identity(set())
    (model / "chat_template.jinja").write_text("<bos>[{{ messages[0]['content'] }}>")
    other = make_job(model, tmp_path / "runs", template="chat").plan
    assert other.model_digest == plans["chat"].model_digest and other.comparison != plans["chat"].comparison
