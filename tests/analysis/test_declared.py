"""What a method declares, read from its source, is what its module says."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.analysis.declared_fields import declared, declared_in_module, declared_in_source
from bench.plan import registry
from bench.types import UserError
from benchmarks import scale
from tests.helpers.commands import ENV, ROOT

READ = {
    name for name in registry.built_in("methods") if name not in ("r3", "rft_cosine", "stage", "dr_grpo")
}  # those are partials
METHOD = """
@dataclass(frozen=True)
class One:
    lr: float = {default}
    betas: tuple[float, float] = (0.9, -0.5)
    {extra}

METHOD = {method}
VARIANTS: dict[str, dict[str, object]] = {variants}
"""
USUAL = {"default": "1e-3", "extra": "", "method": "One", "variants": "{'a': {'lr': 2.0}}"}


@pytest.mark.parametrize("name", registry.built_in("methods"))
def test_the_source_says_what_the_module_says(name):
    found = declared_in_source((registry.ROOT / "methods" / f"{registry.built_in('methods')[name]}.py").read_text())
    assert (found is not None) == (name in READ)
    assert declared(name) == declared_in_module(name)
    assert found is None or (list(found.defaults), found) == (
        list(declared_in_module(name).defaults),
        declared_in_module(name),
    )


def test_only_literals_are_read():
    found = declared_in_source(METHOD.format(**USUAL))
    assert (
        found is not None
        and found.defaults == {"lr": 1e-3, "betas": (0.9, -0.5)}
        and found.variants == {"a": {"lr": 2.0}}
    )
    others = (
        {"default": "LR"},
        {"extra": "steps: int"},
        {"method": "partial(One)"},
        {"variants": "{n: {} for n in X}"},
    )
    assert [declared_in_source(METHOD.format(**{**USUAL, **other})) for other in others] == [None] * 4
    assert declared_in_source(METHOD.format(**USUAL).replace("class One", "class One(Base)")) is None


def test_unknown_methods_are_bad_input():
    with pytest.raises(UserError, match="unknown method 'sftt': did you mean sft"):
        declared("sftt")


def test_a_table_of_stored_runs_loads_no_torch(tmp_path):
    scale.make(scale.planned(20, tmp_path / "runs"), tmp_path / "runs")
    script = "import sys; from bench.cli import main\ntry: main()\nexcept SystemExit: print('torch' in sys.modules)"
    command = [sys.executable, "-c", script, "leaderboard", "--results", str(tmp_path / "runs")]
    done = subprocess.run(command, env=ENV, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.endswith("\nFalse\n") and "countdown" in done.stdout, done.stderr
