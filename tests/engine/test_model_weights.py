"""A model whose files do not hold all of its weights is refused before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.engine.model_faults import check_files
from bench.engine.policy import load_model
from bench.types import UserError
from tests.helpers.runs import write_model


def changed(path: Path, weights: dict[str, torch.Tensor]) -> str:
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    return str(path)


def test_weights_that_are_missing_or_of_another_shape(tmp_path: Path) -> None:
    """transformers would fill them in at random: one run id would stand for a new model each time."""
    model = write_model(tmp_path / "model")
    weights = load_file(model / "model.safetensors")
    assert load_model(str(model))
    name = next(name for name in weights if "mlp.up_proj" in name)
    with pytest.raises(UserError, match=rf"lacks weights of its architecture: {name}"):
        load_model(changed(model, {key: value for key, value in weights.items() if key != name}))
    with pytest.raises(UserError, match=r"another shape|size mismatch|mismatch"):
        load_model(changed(model, {**weights, name: weights[name][:5].clone()}))


def test_an_index_that_names_files_elsewhere(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    check_files(str(model))
    index = model / "model.safetensors.index.json"
    for named in ("../../etc/passwd", "model-00001-of-00002.safetensors"):
        index.write_text(json.dumps({"weight_map": {"a": named}}))
        with pytest.raises(UserError, match="no file of this folder"):
            check_files(str(model))
    index.write_text("[]")
    with pytest.raises(UserError, match="no map of weights to files"):
        check_files(str(model))
