"""What can be wrong with a model before anything runs: tokens without a row, weights that are no numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from bench.foreign import parse_json
from bench.types import UserError


def check_vocabulary(path: str, model: Any, tokenizer: Any) -> None:
    """UserError if the tokenizer has tokens for which the embedding has no row."""
    rows = model.get_input_embeddings().weight.shape[0]
    added = tokenizer.added_tokens_decoder  # classes add special tokens of their own that no text holds
    last = max(tokenizer.eos_token_id, *(i for i in tokenizer.get_vocab().values() if i not in added))
    if last >= rows:
        raise UserError(
            f"the tokenizer of model '{path}' has token ids up to {last} and its embedding only {rows} rows: "
            "expected a tokenizer of this model, or an embedding resized to it (model.resize_token_embeddings)"
        )


def check_files(path: str) -> None:
    """UserError if a safetensors file of a model directory is absent, damaged, or holds NaN or infinite weights."""
    for name in sorted({*shards(Path(path)), *(file.name for file in Path(path).glob("*.safetensors"))}):
        file = Path(path) / name
        if Path(name).name != name or not file.is_file():
            raise UserError(f"cannot load model '{path}': its weights '{name}' are no file of this folder")
        try:
            with safe_open(file, framework="pt") as tensors:
                names = tensors.keys()
                check_finite(path, ((name, tensors.get_tensor(name)) for name in names))
        except (SafetensorError, OSError) as error:
            raise UserError(f"cannot load model '{path}': {file.name}: {error}") from None


def check_complete(path: str, report: Mapping[str, Any]) -> None:
    """UserError if weights were missing in the files or of another shape, by transformers' report of the loading.

    transformers fills them in at random, so that one run id would stand for a new model each time.
    """
    absent = sorted(map(str, report.get("missing_keys", ())))
    other = sorted(str(entry[0] if isinstance(entry, tuple) else entry) for entry in report.get("mismatched_keys", ()))
    for names, what in ((absent, "lacks weights of its architecture"), (other, "has weights of another shape")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise UserError(f"model '{path}' {what}: {names[0]}{more}")


def shards(path: Path) -> set[str]:
    """The files that the index of a model in several files names; none without an index or a readable one."""
    index = path / "model.safetensors.index.json"
    try:
        named = parse_json(index.read_bytes())["weight_map"].values() if index.is_file() else ()
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UserError(f"cannot load model '{path}': {index.name} has no map of weights to files") from None
    return {str(name) for name in named}


def check_finite(path: str, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
    """UserError that names the first tensor with a NaN or infinite weight."""
    for name, weight in weights:
        if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
            raise UserError(f"model '{path}' has weights that are NaN or infinite, in {name}: expected finite ones")
