"""Foreign text, which may hold anything: read as JSON, and shown to a terminal that it must not steer."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping
from typing import Any

RED, PLAIN = "\x1b[31m", "\x1b[0m"
MAX_DEPTH = 100  # of JSON: what is nested deeper is no record of anything, and would end other code's recursion


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; ValueError for a text that is none, or whose value is nested too deep."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from None
    openings = text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")
    if openings > MAX_DEPTH and too_deep(value):
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    return value


def too_deep(value: Any) -> bool:
    """Whether a JSON value has more than MAX_DEPTH containers within each other."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [part for outer in level if isinstance(outer, dict | list) for part in parts(outer)]
    return bool(level)


def parts(container: dict[str, Any] | list[Any]) -> Any:
    return container.values() if isinstance(container, Mapping) else container


# --- to a terminal: no text can move the cursor, change colours or turn the line around -----------------------------


def neutral(text: str) -> str:
    """The text with every unprintable character but line breaks as its escape, such as \\x1b or \\u202e."""
    return "\n".join(line if line.isprintable() else escaped(line) for line in text.split("\n"))


def one_line(text: str) -> str:
    """A neutral text without line breaks."""
    return neutral(text).replace("\n", "\\n")


def escaped(line: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in line)


def say(text: object = "", end: str = "\n", error: bool = False, red: bool = False) -> None:
    """Print a neutral text, on standard error if it is no result, red only on a terminal.

    Everything that is printed goes through here or through ``say_json``.
    """
    stream = sys.stderr if error else sys.stdout
    shown = neutral(str(text))
    print(f"{RED}{shown}{PLAIN}" if red and stream.isatty() else shown, end=end, file=stream, flush=error)


def say_json(value: Any) -> None:
    """Print a value as JSON, in ASCII."""
    print(ascii_json(value))


def ascii_json(value: Any, **options: Any) -> str:
    """A value as JSON in printable ASCII; ``json`` escapes all other characters but DEL."""
    return json.dumps(value, indent=1, **options).replace("\x7f", "\\u007f")


def replace_unencodable() -> None:
    """From now on "?" stands for a character that standard output or error cannot encode, instead of an exception."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
