"""Where a model comes from: embedded, imported, a directory or the hub.  Imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bench.types import UserError

TINY = Path(__file__).parent / "tiny"
FOLDER_VARIABLE = "BENCH_MODELS"
WEIGHTS = "*.safetensors"


def models_folder() -> Path:
    """Where ``bench models add`` puts models: ``$BENCH_MODELS``, else ``bench/models`` in the user's cache folder."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bench" / "models"


def local_models() -> dict[str, Path]:
    """The embedded model and every imported one by name; a folder without a configuration is none."""
    folder = models_folder()
    imported = sorted(folder.iterdir()) if folder.is_dir() else []
    return {"tiny": TINY} | {p.name: p for p in imported if p.name[0] != "." and (p / "config.json").is_file()}


def model_path(name: str) -> str:
    """``tiny`` is the embedded model, an imported one has its name; a directory or a hub name stands for itself."""
    known = local_models()
    if name in known:
        return str(known[name])
    if Path(name).is_dir():
        if not (Path(name) / "config.json").exists():
            raise UserError(without_config(name))
        return name
    if name.count("/") != 1 or name.startswith((".", "/", "~")) or name.endswith("/"):
        close = get_close_matches(name.lower(), known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(
            f"model '{name}' does not exist: {hint}expected {', '.join(known)} (bench models), a directory, "
            "or a hub name such as org/model"
        )
    return name


def without_config(folder: str) -> str:
    """What is wrong with a model folder that has no configuration."""
    if found := sorted(Path(folder).glob("*.gguf")):
        return f"model directory '{folder}' holds GGUF weights only: import them with 'bench models add {found[0]}'"
    return f"model directory '{folder}' has no config.json: expected a Hugging Face causal LM"


def model_settings(path: str) -> dict[str, Any]:
    """A model directory's own defaults (``bench.json``: template, completion length, tuned hyper-parameters)."""
    file = Path(path) / "bench.json"
    if not file.exists():
        return {}
    try:
        return dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"'{file}' is not a JSON object: {error}") from None


def model_digest(path: str) -> str:
    """Hash of a local model's weights, tokenizer and configuration; a hub model is named by its id."""
    if not Path(path).is_dir():
        return path
    total = hashlib.blake2b(digest_size=16)
    for file in sorted(Path(path).iterdir()):
        if file.suffix in {".safetensors", ".json"} and file.name != "bench.json":
            total.update(file.name.encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 22):  # a shard may be larger than the memory
                    total.update(block)
    return total.hexdigest()
