"""Named optimizers: what they do, and that their state survives a checkpoint to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.engine.optimizers import apply_update, make_optimizer, restore_state, set_rate, state_tensors
from bench.plan import optimizers
from bench.plan.optimizers import check_optimizer
from bench.types import UserError
from tests.helpers.engine import method
from tests.helpers.runs import make_job, write_model

SIZES = ((64, 128), (7,))  # the first is quantised, in blocks of 256; the second is too small to be


def weights() -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(size)) for size in SIZES]


def give_gradients(parameters: list[torch.nn.Parameter], seed: int) -> None:
    torch.manual_seed(seed)
    for p in parameters:
        p.grad = torch.randn_like(p)


@pytest.mark.parametrize("name", ["adamw", "adamw8bit"])
def test_state_survives_to_the_bit(name: str, tmp_path: Path) -> None:
    if name == "adamw8bit":
        pytest.importorskip("torchao", reason="needs the extra optim")
    chosen = method("sft", weight_decay=0.1)
    one = weights()
    first = make_optimizer(name, one, chosen)
    for number in range(3):
        give_gradients(one, number)
        set_rate(first, 0.01 * (number + 1))
        apply_update(first)
    save_file(state_tensors(first), tmp_path / "state")
    two = [torch.nn.Parameter(p.detach().clone()) for p in one]
    second = make_optimizer(name, two, chosen)
    restore_state(second, load_file(tmp_path / "state"))
    for parameters, optimizer in ((one, first), (two, second)):
        give_gradients(parameters, 9)
        set_rate(optimizer, 0.02)
        apply_update(optimizer)
    assert all(torch.equal(a, b) for a, b in zip(one, two))
    left, right = state_tensors(first), state_tensors(second)
    assert left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)
    codes = [key for key in left if key.endswith("codes")]
    assert [left[key].dtype for key in codes] == ([torch.uint8] * 2 if name == "adamw8bit" else [])


def test_eight_bits_follow_the_formula() -> None:
    """First update of AdamW by hand: its moments are the gradient's, so each weight moves by the rate and its decay."""
    pytest.importorskip("torchao", reason="needs the extra optim")
    parameters, chosen = weights(), method("sft", weight_decay=0.1)
    before = [p.detach().clone() for p in parameters]
    optimizer = make_optimizer("adamw8bit", parameters, chosen)
    give_gradients(parameters, 1)
    set_rate(optimizer, 0.01)
    apply_update(optimizer)
    for p, old in zip(parameters, before):
        assert p.grad is not None
        assert torch.allclose(p, old * (1 - 0.01 * 0.1) - 0.01 * p.grad.sign(), atol=1e-5)
    set_rate(optimizer, 0.0)
    unmoved = [p.detach().clone() for p in parameters]
    apply_update(optimizer)
    assert all(torch.equal(p, old) for p, old in zip(parameters, unmoved))


def test_optimizers_are_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"optimizer 'adam'.*adamw"):
        check_optimizer("adam")
    model = write_model(tmp_path / "model")
    monkeypatch.setattr(optimizers, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs the package torchao, which is not installed: pip install"):
        make_job(model, tmp_path, "sft", optimizer="adamw8bit")
    monkeypatch.setattr(optimizers, "find_spec", lambda name: object())
    plain, other = (make_job(model, tmp_path, "sft", optimizer=name).plan for name in ("adamw", "adamw8bit"))
    assert "optimizer" not in plain.identity(set()) and other.identity(set())["optimizer"] == "adamw8bit"
    assert plain.comparison != other.comparison


def test_the_reference_has_a_place(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    makes: Any = lambda **how: make_job(model, tmp_path, "sft", **how)  # noqa: E731
    with pytest.raises(UserError, match="reference 'host'"):
        makes(reference="host")
    with pytest.raises(UserError, match="about a GPU's memory"):
        makes(reference="offload")
    assert makes(packing=True).plan.run_id == makes().plan.run_id
    timed = [makes(budget="5s", packing=packing).plan for packing in (None, False, True)]
    assert timed[0].run_id == timed[1].run_id != timed[2].run_id
    assert "packing" not in timed[0].identity(set())
