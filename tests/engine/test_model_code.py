"""A model folder's own Python code is never run, whatever standard input says."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.helpers.commands import COMMAND, ENV
from tests.helpers.runs import write_model

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
Path(r"{marker}").write_text("ran")
class Config(LlamaConfig): model_type = "{kind}"
class Model(LlamaForCausalLM): config_class = Config
class Words(PreTrainedTokenizerFast): pass
"""


def add_code(model: Path, marker: Path, file: str, auto_map: dict[str, object], kind: str, only: bool) -> None:
    """Name the code in one of the folder's configurations; ``only``: transformers has no class of its own for it."""
    (model / "code.py").write_text(CODE.format(marker=marker, kind=kind))
    config = json.loads((model / file).read_text())
    if only:
        config |= {"tokenizer_class": "Words"} if file == "tokenizer_config.json" else {"model_type": kind}
    (model / file).write_text(json.dumps({**config, "auto_map": auto_map}))


TOKENIZER = ("tokenizer_config.json", {"AutoTokenizer": [None, "code.Words"]})
MODEL = ("config.json", {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"})
PREFLIGHT, RUN = ["preflight", "--methods", "sft"], ["run", "--methods", "sft", "--dry-run"]


# Every pair of a command, a file and a class of its own or none, in half as many processes as all triples.
@pytest.mark.parametrize(
    ("command", "file", "auto_map", "only"),
    [(PREFLIGHT, *TOKENIZER, True), (PREFLIGHT, *MODEL, False), (RUN, *TOKENIZER, False), (RUN, *MODEL, True)],
)
def test_code_of_a_model_folder_is_not_run(
    tmp_path: Path, command: list[str], file: str, auto_map: dict[str, object], only: bool
) -> None:
    model, marker = write_model(tmp_path / "model"), tmp_path / "ran"
    add_code(model, marker, file, auto_map, "unheard-of", only)
    sizes = ["--budget", "12steps", "--template", "compact", "--level", "3", "--max-new-tokens", "24"]
    whole = [*COMMAND, *command, "--model", str(model), "--results", str(tmp_path / "runs")]
    whole += sizes if command[0] == "run" else []
    done = subprocess.run(whole, env=ENV, input="y\n" * 100, capture_output=True, text=True, timeout=200)
    assert not marker.exists(), "the folder's code was run"
    if done.returncode:
        (line,) = done.stderr.strip().splitlines()
        assert done.returncode == 2 and line.startswith("error: ") and str(model) in line
        assert "code" in line and "does not run" in line
    else:
        assert not only
