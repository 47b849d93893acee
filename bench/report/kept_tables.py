"""Tables of large results folders, kept in the user's cache and shown again while nothing behind them has changed.

A table is found again by a digest of the content of every file that it was made from, of the code and of the options.
All these files are read each time, so that a change is seen whatever it does to sizes and times; what is saved is to
parse them and to work the statistics out.  Small folders keep nothing: there the digest would save little.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.analysis.field_origin import option_values, presets_of, recipe_presets
from bench.models import user_cache
from bench.plan import registry
from bench.store import passport
from bench.store.files import replace_bytes
from bench.store.run_folder import RECORDS, VERDICTS, CorruptRun, content_size, digest_of, read_content

FEWEST = 500  # directories from which tables are kept
MOST = 32  # tables in the cache
WHOLE = ("done.json", "plan.json", "env.json", VERDICTS)  # read for a table; of the other files the sizes are looked at
LIBRARIES = ("numpy", "scipy", "pydantic", "rich", "jinja2")
MODEL, COMMAND = re.compile(rb'"model": ?("(?:[^"\\]|\\.)*")'), re.compile(rb'"command": ?(\[[^\]]*\])')


def tables_folder() -> Path:
    """Where tables are kept: the user's cache folder."""
    return user_cache("tables")


def table_key(results: Path, options: dict[str, Any]) -> str | None:
    """A digest of all that the tables of a folder depend on; None for a folder that is too small to keep them."""
    runs = sorted_folders(results)
    if len(runs) < FEWEST:
        return None
    try:
        about = [str(results), os.getcwd(), options, code_digest(), *store_digest(results, runs)]
    except (OSError, ValueError, CorruptRun):
        return None  # what cannot be read is for the command to name
    return digest_of(json.dumps(about, sort_keys=True).encode())


def store_digest(results: Path, runs: Sequence[str]) -> tuple[str, str]:
    """A digest of the files of all runs and of the passports, and what models and recipes of these runs preset."""
    total = hashlib.blake2b(digest_size=20)
    models: set[bytes] = set()
    commands: set[bytes] = set()
    for run in runs:
        found: dict[str, bytes] = {}
        for name, content in contents(run):
            total.update(f"{run}/{name}\0{-1 if content is None else len(content)}\0".encode() + (content or b""))
            found[name] = content or b""
        for name in RECORDS:
            total.update(f"{content_size(f'{run}/{name}')}\0".encode())
        models |= set(MODEL.findall(found["plan.json"]))
        commands |= set(COMMAND.findall(found["env.json"]))
    for file in sorted((results / passport.FOLDER).glob("*.json")):
        total.update(f"{file.name}\0".encode() + file.read_bytes())
    return total.hexdigest(), presets(models, commands)


def sorted_folders(results: Path) -> list[str]:
    """The folders in a results folder, hidden ones too, as paths in order."""
    with os.scandir(results) as entries:
        return sorted(entry.path for entry in entries if entry.is_dir())


def contents(run: str) -> Iterator[tuple[str, bytes | None]]:
    """The files of a run that a table is made from, None where there is none."""
    found = {name: bytes_of(f"{run}/{name}") for name in WHOLE}
    yield from found.items()
    done = found["done.json"]
    if done is not None and not (f'"{VERDICTS}"'.encode() in done and b'"sizes"' in done):
        for name in RECORDS:  # a run from before there were packed verdicts, or sizes in its done marker
            yield name, read_content(Path(run, name))


def bytes_of(path: str) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def code_digest() -> str:
    """A digest of the program, of installed methods and tasks, and of what figures depend on besides."""
    program = hashlib.blake2b(digest_size=16)
    for file in sorted((registry.ROOT / "bench").rglob("*")):  # templates of pages too
        if file.is_file() and file.suffix != ".pyc":
            content = file.read_bytes()
            program.update(f"{file.relative_to(registry.ROOT)}\0{len(content)}\0".encode() + content)
    versions = [platform.python_version(), *(metadata.version(name) for name in LIBRARIES)]
    return f"{program.hexdigest()} {passport.source_digest()} {versions}"


def presets(models: set[bytes], commands: set[bytes]) -> str:
    """What models and recipes preset on this machine, which decides what a table calls declared."""
    given = [[str(word) for word in json.loads(text)] for text in commands]
    names = {json.loads(text) for text in models} | {m for words in given for m in option_values(words, "--model")}
    recipes = {name for words in given for name in option_values(words, "--recipe")}
    found: dict[str, Any] = {f"model {name}": asdict(known) if (known := presets_of(name)) else None for name in names}
    found |= {f"recipe {name}": recipe_presets(name) for name in recipes}
    return json.dumps(found, sort_keys=True, default=sorted)  # of the rest, sets alone are no JSON


def kept_table(key: str) -> str | None:
    """The text that was kept under a key; None without one, and for a damaged file."""
    with suppress(OSError, ValueError):
        digest, _, text = (tables_folder() / key).read_bytes().partition(b"\n")
        if digest_of(text) == digest.decode():
            return text.decode()
    return None


def keep_table(key: str, text: str) -> None:
    """Keep a text, and the last MOST of all; a cache that cannot be written costs the work each time, no more."""
    with suppress(OSError, UnicodeError):  # half a character of a run's own words
        folder = tables_folder()
        folder.mkdir(parents=True, exist_ok=True)
        content = text.encode()
        replace_bytes(folder / key, digest_of(content).encode() + b"\n" + content)
        for old in sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime)[:-MOST]:
            old.unlink()
