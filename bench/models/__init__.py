"""Where a model comes from: embedded, imported, a directory or the hub.  Imports no torch."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bench.foreign import parse_json
from bench.models import hub
from bench.types import UserError

GGUF = "GGUF weights are imported first: bench models add"
TOKENIZERS = {"tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "spiece.model", "vocab.txt"}
TINY = Path(__file__).parent / "tiny"
FOLDER_VARIABLE = "BENCH_MODELS"
WEIGHTS = hub.WEIGHTS


def user_cache(kind: str) -> Path:
    """The user's cache folder for models, rates or tables; UserError for a user without a home folder."""
    try:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # a container that runs under a number that no account has
        raise UserError("this user has no home folder: set XDG_CACHE_HOME to a folder for caches") from None
    return Path(cache) / "bench" / kind


def models_folder() -> Path:
    """Where ``bench models add`` puts models: ``$BENCH_MODELS``, else ``bench/models`` in the user's cache folder."""
    if named := os.environ.get(FOLDER_VARIABLE):
        return Path(named).expanduser()
    return user_cache("models")


def local_models() -> dict[str, Path]:
    """The embedded model and every imported one by name; a folder without a configuration is none."""
    folder = models_folder()
    imported = sorted(folder.iterdir()) if folder.is_dir() else []
    found = {p.name: p for p in imported if p.name[0] != "." and (p / "config.json").is_file()}
    return {"tiny": TINY} | found | {"tiny": TINY}  # a folder of that name does not stand in for the embedded model


@dataclass(frozen=True)
class Located:
    """A model where it was found: its name in plans, its folder, and the commit of one that is the hub's."""

    name: str
    path: str
    commit: str = ""

    @property
    def digest(self) -> str:
        """What stands for its weights, tokenizer and configuration: a hash of the files, or the hub's commit."""
        return f"{self.name}@{self.commit}" if self.commit else model_digest(self.path)

    def fetch(self) -> Located:
        """The same model with its weights on this machine; UserError if they cannot be had."""
        if self.commit:
            check_directory(hub.fetch_weights(self.name, self.commit), f"hub model '{self.name}'")
        return self


def model_path(name: str) -> str:
    """The folder of a model with its weights; UserError if there is none."""
    return locate(name).fetch().path


def locate(name: str) -> Located:
    """``tiny`` is the embedded model, an imported one has its name, a directory is named after itself.

    ``org/model`` and ``org/model@revision`` are the hub's, and a commit at once; their weights are not fetched yet.
    UserError for anything else.
    """
    known = local_models()
    if name in known:
        return Located(name, str(known[name]))
    if Path(name).is_dir():
        check_directory(Path(name), f"model directory '{name}'")
        return Located(Path(name).resolve().name, name)
    if Path(name).is_file():
        hint = f". {GGUF} {name}" if name.endswith(".gguf") else ""
        raise UserError(f"model '{name}' is a file: expected the directory of a Hugging Face causal LM{hint}")
    if not hub.NAME.fullmatch(name) or Path(name).parent.is_dir() or Path(name).is_symlink():
        close = get_close_matches(name.lower(), known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UserError(
            f"model '{name}' does not exist: {hint}expected {', '.join(known)} (bench models), a directory, "
            "or a hub name such as org/model or org/model@revision"
        )
    found, commit, folder = hub.resolve(name)
    return Located(found, str(folder), commit)


def check_directory(path: Path, what: str) -> None:
    """UserError, with what to do, unless a directory has a configuration, safetensors weights and a tokenizer."""
    files = {file.name for file in path.iterdir()}

    def ends(*suffixes: str) -> bool:
        return any(name.endswith(suffixes) for name in files)

    if ends(".gguf") and not ends(".safetensors"):
        raise UserError(f"{what} has its weights in GGUF alone. {GGUF} {next(path.glob('*.gguf'))}")
    if "config.json" not in files:
        adapter = "; it is an adapter: merge it into its model first" if "adapter_config.json" in files else ""
        raise UserError(f"{what} has no config.json: expected a Hugging Face causal LM{adapter}")
    if not ends(".safetensors"):
        if ends(".bin", ".pt", ".pth", ".ckpt"):
            raise UserError(
                f"{what} has its weights as a pickle, which bench does not read, since it may run code: "
                "save them as safetensors (model.save_pretrained)"
            )
        raise UserError(f"{what} has a config.json but no weights: expected model.safetensors")
    if not files & TOKENIZERS:
        raise UserError(f"{what} has no tokenizer: expected tokenizer.json (tokenizer.save_pretrained writes it)")


def model_settings(path: str) -> dict[str, Any]:
    """A model directory's own defaults (``bench.json``: template, completion length, tuned hyper-parameters)."""
    file = Path(path) / "bench.json"
    return json_object(file) if file.exists() else {}


def json_object(file: Path) -> dict[str, Any]:
    """What a file of settings holds; UserError if it is no JSON object."""
    try:
        value = parse_json(file.read_bytes())
        if not isinstance(value, dict):
            raise ValueError(f"it is a {type(value).__name__}")
        return value
    except (OSError, ValueError) as error:
        raise UserError(f"'{file}' is not a JSON object: {error}") from None


def model_digest(path: str) -> str:
    """Hash of a local model's weights, tokenizer and configuration."""
    total = hashlib.blake2b(digest_size=16)
    for file in sorted(Path(path).iterdir()):
        if file.suffix in {".safetensors", ".json"} and file.name != "bench.json":
            total.update(file.name.encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 22):  # a shard may be larger than the memory
                    total.update(block)
    return total.hexdigest()
