"""The report as one HTML file that loads nothing: templates, style and script of this folder, and a strict policy."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from bench.report.html.content import Report
from bench.report.safe_text import json_block, visible
from bench.store.targets import write_file

FOLDER = Path(__file__).parent / "templates"


@cache
def templates() -> Any:
    """Templates that write out unseen characters in every value and then escape it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def seen(value: Any) -> Any:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    loader = FileSystemLoader(FOLDER)
    return Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, finalize=seen, trim_blocks=True, lstrip_blocks=True
    )


def source_hash(text: str) -> str:
    """The name of an inline style or script in a content security policy: a digest of exactly its text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def content_policy(style: str, script: str) -> str:
    """A policy under which nothing is loaded, and nothing but this style and script is applied."""
    return (
        f"default-src 'none'; style-src {source_hash(style)}; script-src {source_hash(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def render_page(report: Report, heading: str, made: datetime) -> str:
    """The page as text; ``made`` is shown as its date."""
    from markupsafe import Markup

    style, script = ((FOLDER / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    values = {
        "report": report,
        "heading": heading,
        "made": made.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "policy": Markup(content_policy(style, script).replace("'", "&#39;")),
        "style": Markup(style),
        "script": Markup(script),
        "data": Markup(json_block(report.completions)),
    }
    return str(templates().get_template("report.html").render(values))


def write_page(report: Report, out: Path, heading: str = "Post-training methods compared") -> Path:
    """Write the page; the folder is made if it is missing."""
    write_file(out, render_page(report, heading, datetime.now(UTC)))
    return out
