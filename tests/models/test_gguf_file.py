"""What a GGUF file holds arrives unchanged, or the import says what would be lost."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.models import gguf_file
from bench.models.importing import add_model
from bench.types import UserError
from tests.helpers.gguf_file import TEMPLATE, Layout, gguf_name, write_gguf


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def imported(tmp_path: Path, **layout: Any) -> tuple[Path, Any]:
    """The folder of the import, and the model whose weights were written."""
    original = write_gguf(tmp_path / "some.gguf", Layout(**layout))
    return add_model(str(tmp_path / "some.gguf")), original


@pytest.mark.parametrize(
    ("rule", "digits", "lines", "blanks"),
    [
        ("gpt-2", ["1234"], ["Ċ", "Ċ", "1"], ["Ġ", "Ġ", "1"]),  # GPT-2's words: " ?\p{N}+", and \s+(?!\S) leaves one
        ("smollm", ["1", "2", "3", "4"], ["ĊĊ", "1"], ["ĠĠ", "1"]),  # \p{N} first: the blanks end their piece
        ("llama-bpe", ["123", "4"], ["ĊĊ", "1"], ["Ġ", "Ġ", "1"]),  # \p{N}{1,3}, and \s*[\r\n]+ before \s+(?!\S)
    ],
)
def test_text_is_cut_by_the_rule_that_the_file_names(
    rule: str, digits: list[str], lines: list[str], blanks: list[str], tmp_path: Path
) -> None:
    made, _ = imported(tmp_path, rule=rule)
    tokenizer = AutoTokenizer.from_pretrained(made)
    for text, tokens in (("1234", digits), ("\n\n1", lines), ("  1", blanks)):
        assert tokenizer.convert_ids_to_tokens(tokenizer(text).input_ids) == tokens


@pytest.mark.parametrize(("rule", "said"), [(None, "a rule that it does not name"), ("hm-7", "the rule 'hm-7'")])
def test_an_unknown_rule_is_refused(rule: str | None, said: str, tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match=rf"'some.gguf' cuts text by {said}.*Import the original model"):
        imported(tmp_path, rule=rule)
    assert not list(folder.iterdir())


def test_added_tokens_stay_whole_and_the_template_is_kept(tmp_path: Path) -> None:
    made, _ = imported(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(made)
    ids = tokenizer("a<think>b<|end|>").input_ids
    assert tokenizer.convert_ids_to_tokens(ids) == ["a", "<think>", "b", "<|end|>"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a<think>b"
    assert tokenizer.chat_template == TEMPLATE


@pytest.mark.parametrize("begins", [True, False])
def test_bos_stands_before_a_text_if_the_file_says_so(begins: bool, tmp_path: Path) -> None:
    made, _ = imported(tmp_path, settings={"tokenizer.ggml.add_bos_token": begins})
    tokenizer = AutoTokenizer.from_pretrained(made)
    assert tokenizer.convert_ids_to_tokens(tokenizer("b").input_ids) == ["<|start|>"] * begins + ["b"]


def test_a_tied_head_stays_tied(tmp_path: Path) -> None:
    made, original = imported(tmp_path, tied=True)
    assert "lm_head.weight" not in load_file(made / "model.safetensors")
    model: Any = AutoModelForCausalLM.from_pretrained(made)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    ids = torch.arange(3, 40).unsqueeze(0)
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, original(ids).logits, atol=1e-5, rtol=0)


def eight_bits(row: np.ndarray) -> np.ndarray:
    """What is left of a row in Q8_0: per 32 numbers a half-precision scale and whole numbers up to 127."""
    blocks = row.reshape(-1, 32)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    whole = np.trunc(blocks / scale + np.copysign(np.float32(0.5), blocks))
    return (whole * scale.astype(np.float16).astype(np.float32)).reshape(row.shape)


def test_packed_weights_are_what_their_blocks_say(tmp_path: Path) -> None:
    made, original = imported(tmp_path, packed="Q8_0")
    found = load_file(made / "model.safetensors")
    assert found.keys() == original.state_dict().keys()
    for name, tensor in original.state_dict().items():
        array = tensor.numpy()
        expected = np.stack([eight_bits(row) for row in array]) if array.ndim == 2 else array
        np.testing.assert_allclose(found[name].numpy(), expected, atol=1e-7, err_msg=name)


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ({"extra": ("rope_freqs.weight",)}, "rope_freqs.weight"),  # Llama 3.1 has its scaled positions there
        ({"extra": ("blk.0.attn_output.bias",)}, "expected the same"),
        ({"without": (gguf_name("model.layers.1.mlp.up_proj.weight"),)}, "expected the same"),  # would be random
        ({"settings": {"llama.rope.scaling.type": "linear"}}, r"scales its positions \(linear\)"),
    ],
)
def test_what_would_be_lost_is_refused(layout: dict[str, Any], said: str, tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match=rf"'some.gguf' .*{said}"):
        imported(tmp_path, **layout)
    assert not list(folder.iterdir())


def test_scaled_positions_that_scale_nothing_are_fine(tmp_path: Path) -> None:
    made, _ = imported(tmp_path, settings={"llama.rope.scaling.type": "none"})
    config = json.loads((made / "config.json").read_text())
    assert config["rope_parameters"]["rope_type"] == "default"


@pytest.mark.parametrize("damage", ["magic", "cut", "early", "empty", "length"])
def test_a_damaged_file_leaves_nothing_behind(damage: str, tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "some.gguf"
    write_gguf(path)
    whole = path.read_bytes()
    endless = whole[:8] + struct.pack("<Q", 1 << 60) + whole[16:]  # so many tensors
    damaged = {"magic": b"GGML" + whole[4:], "cut": whole[:-4000], "early": whole[:40], "empty": b"", "length": endless}
    path.write_bytes(damaged[damage])
    with pytest.raises(UserError, match="is no GGUF model that transformers reads"):
        add_model(str(path))
    assert not list(folder.iterdir())


def test_the_disk_must_have_room(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr(gguf_file.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(UserError, match=r"the model takes 0\.0 GB, and 0\.0 GB are free in .*models"):
        imported(tmp_path)
    assert not list(folder.iterdir())
