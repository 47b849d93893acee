"""What can be wrong with a model before anything runs: tokens without a row, weights that are no numbers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

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
    """UserError if a safetensors file of a model directory is damaged or holds NaN or infinite weights."""
    for file in sorted(Path(path).glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as tensors:
                names = tensors.keys()
                check_finite(path, ((name, tensors.get_tensor(name)) for name in names))
        except (SafetensorError, OSError) as error:
            raise UserError(f"cannot load model '{path}': {file.name}: {error}") from None


def check_finite(path: str, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
    """UserError that names the first tensor with a NaN or infinite weight."""
    for name, weight in weights:
        if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
            raise UserError(f"model '{path}' has weights that are NaN or infinite, in {name}: expected finite ones")
