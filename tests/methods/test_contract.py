"""What every file in methods/ owes: imports, size, module constants, and no field or variant without effect."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from bench import types
from bench.plan import registry
from bench.study import search_space
from methods import base, common
from tests.methods.batches import Scripted, by_index, collect, draw, example, fixture
from tests.methods.probes import PROBES

FILES = sorted(f for f in Path(common.__file__).parent.glob("*.py") if f.stem != "__init__")
METHODS = [f.stem for f in FILES if f.stem != "common"]
STANDARD = {"__future__", "collections.abc", "dataclasses", "functools", "math", "random", "typing"}
STAGE_FIELDS = {"demo_share"}  # optional, read by bench.engine.trainer.Stage: tests/engine/test_disjoint.py
TRAINER_FIELDS = {"lr", "warmup", "decay", "weight_decay", "betas", "batch_size", "num_updates"}
OWN: list[ModuleType] = [registry.module("methods", name) for name in METHODS]
FUNCTIONS = ("reference_temperatures", "ascent_loss")
REQUESTS = {request.name: request.default for request in dataclasses.fields(types.Requests)}


def allowed(module: str, name: str | None) -> bool:
    """Whether ``import module`` or ``from module import name`` is open to a method."""
    if module in STANDARD or module == "bench.types" or module.partition(".")[0] == "torch":
        return True
    if module == "methods":
        return name == "common" or name in METHODS
    if module == "methods.common":
        return True
    return module.partition(".")[0] == "methods" and name is not None and name.islower()  # functions, no classes


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_imports(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            assert all(allowed(alias.name, None) for alias in node.names), ast.unparse(node)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None
            assert all(allowed(node.module, alias.name) for alias in node.names), ast.unparse(node)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("bench.engine.trainer", "train"),
        ("transformers", None),
        ("os", None),
        ("methods.grpo", "GRPO"),
        ("bench.plan", "budget"),
    ],
)
def test_other_imports_are_refused(module: str, name: str | None) -> None:
    assert not allowed(module, name)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_sizes_and_inheritance(file: Path) -> None:
    text = file.read_text()
    assert len(text.splitlines()) <= 300 and text.isascii()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None and node.end_lineno - node.lineno < 40, node.name
        if isinstance(node, ast.ClassDef):
            assert not node.bases, f"{node.name} inherits"


@pytest.mark.parametrize("name", METHODS)
def test_module_constants(name: str) -> None:
    module = registry.module("methods", name)
    method: Any = module.METHOD
    names = [f.name for f in dataclasses.fields(method())]
    with pytest.raises(dataclasses.FrozenInstanceError):
        method().lr = 1.0
    assert module.__doc__ and method().__doc__ and module.EQUATION.isascii() and module.EQUATION.strip()
    assert set(names) >= TRAINER_FIELDS
    for text in (module.EQUATION, module.EVIDENCE, module.DATA_FLOW, *module.PUBLISHED):
        assert text.strip() and text.isascii() and text != "not stated"
    assert "\n" not in module.EVIDENCE and "charged" in module.DATA_FLOW and isinstance(module.PUBLISHED, tuple)
    assert list(module.SYMBOLS) == names
    assert all(text and "\n" not in text for text in module.SYMBOLS.values())
    assert set(module.SEARCH) <= set(names)
    ends = [
        {k: search_space.axis(k, values).value(share)} for k, values in module.SEARCH.items() for share in (0.0, 0.999)
    ]
    for overrides in (*module.VARIANTS.values(), *ends):
        assert overrides and method(**overrides) is not None
    variants = [method(**overrides) for overrides in module.VARIANTS.values()]
    assert len({method(), *variants}) == len(variants) + 1, "two variants are the same"


def test_trainer_fields_are_those_of_the_protocol() -> None:
    declared = set(types.Method.__annotations__) | {n for n, v in vars(types.Method).items() if isinstance(v, property)}
    assert declared == TRAINER_FIELDS == registry.OPTIMIZER_FIELDS


@pytest.mark.parametrize("module", OWN, ids=lambda m: m.__name__.partition(".")[2])
def test_what_a_method_asks_for_is_known_to_the_engine(module: ModuleType) -> None:
    for settings in ({}, *module.VARIANTS.values()):
        method = module.METHOD(**settings)
        named = {name for name in dir(method) if name.startswith(("uses_", "reference_", "candidate_", "ascent_"))}
        assert named <= set(REQUESTS), "a misspelt request would be ignored"
        for name, value in dataclasses.asdict(types.Requests.of(method)).items():
            assert type(value) is type(REQUESTS[name]) or name in FUNCTIONS, (name, value)


def test_a_method_that_says_nothing_asks_for_nothing() -> None:
    assert types.Requests.of(object()) == types.Requests()
    assert not any(value for name, value in REQUESTS.items() if name not in ("reference_mix", "candidate_temperature"))
    assert registry.OPTIONAL["methods"]["SEARCH"] == {"lr": common.LEARNING_RATES}


def probe(method: Any) -> list[Any]:
    """Everything but the trainer's fields that tells two settings of a method apart."""
    asks = types.Requests.of(method)
    seen: list[Any] = [dataclasses.replace(asks, num_demos=0, demo_share=0.0, **dict.fromkeys(FUNCTIONS))]
    if asks.reference_temperatures is not None:
        logits = 3.0 * torch.randn(20, 9, generator=torch.Generator().manual_seed(0))
        seen.append(asks.reference_temperatures(logits).tolist())
    made = fixture([(3, 2), (0, 4), (5, 1), (2, 3)], [1.5, -1.0, 2.0, -0.5], old_shift=0.5, ref_shift=0.5)
    if asks.uses_reference_kl:
        made.ref_logits = made.logits.detach().flip(0)
    if asks.num_candidates:
        made.candidates = draw(made, asks.num_candidates, asks.candidate_temperature)
    if asks.ascent_step:
        made.moved = 1 + 0.3 * made.logits.detach().flip(0)
    for splits, made.progress in (([[0, 1, 2, 3]], 0.0), ([[0, 1], [2, 3]], 0.1), ([[0, 1, 2, 3]], 0.8)):
        loss, gradient = made.gradient(method, splits)
        seen += [loss.item(), gradient.tolist()]
    examples = [example(n, name=str(n)) for n in (1, 3, 5, 12)]
    for progress in (0.0, 0.1, 0.3, 0.5, 0.8, 1.0):
        seen += [collect(method, examples, progress, seed) for seed in range(3)]
    for rewards in ((0.0, 0.0), (1.0, 0.0)):  # no rollout is correct, or only the first one
        seen.append(method.collect(examples, Scripted(reward=lambda e, p, i, rewards=rewards: rewards[i > 0])))
    if isinstance(method, types.Preparer):
        many = [example(1 + i % 5, name=str(i)) for i in range(24)]
        for rewards in ((1.0, 0.0), (0.0, 1.0), (0.0, 0.0)):  # of own answers and of those that continue a prefix
            ctx = Scripted(reward=lambda e, p, i, rewards=rewards: rewards[bool(p)])
            seen += [method.prepare(many, ctx), ctx.calls, ctx.greedy]
        seen.append(method.prepare_worst_case(examples, 10))
        scored = method.prepare(many, Scripted(reward=lambda e, p, i: float(i % 2)))
        seen += [method.collect(scored[:8], Scripted(reward=by_index, drift=-0.2)), method.worst_case(scored, 40)]
    ctx, different = Scripted(), [example(1 + i % 4, 3 + i, name=str(i)) for i in range(20)]
    seen.append(method.collect(different, ctx))
    if ctx.memory:  # it remembers from step to step
        seen += [method.collect(different, ctx) for _ in range(3)]
        seen.append({name: value.double().sum().item() for name, value in ctx.memory.items()})
    return [*seen, method.worst_case(examples, 40)]


@pytest.mark.parametrize("module", OWN, ids=lambda m: m.__name__.partition(".")[2])
def test_no_field_is_dead(module: ModuleType) -> None:
    probes = PROBES[module.__name__.partition(".")[2]]
    fixed = set(module.FIXED)
    names = {f.name for f in dataclasses.fields(module.METHOD())}
    assert fixed <= names and names - TRAINER_FIELDS - STAGE_FIELDS - fixed == set(probes)
    for name, (settings, value) in probes.items():
        assert not fixed & set(settings), name
        before = module.METHOD(**settings)
        assert probe(dataclasses.replace(before, **{name: value})) != probe(before), name


@pytest.mark.parametrize("module", OWN, ids=lambda m: m.__name__.partition(".")[2])
def test_no_variant_is_dead(module: ModuleType) -> None:
    default = probe(module.METHOD())
    assert probe(module.METHOD()) == default, "the probe itself is not repeatable"
    for name, overrides in module.VARIANTS.items():
        if not set(overrides) <= TRAINER_FIELDS:
            assert probe(module.METHOD(**overrides)) != default, name


def test_base_never_trains() -> None:
    method = base.Base()
    assert method.batch_size == 0
    assert method.collect([example()], Scripted()) == []
    assert method.worst_case([example()], 10) == types.Rows()
    loss, gradient = fixture([(2, 2)]).gradient(method)
    assert loss.item() == 0 and not torch.any(gradient)
