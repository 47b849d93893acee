"""What to run: methods, tasks, seeds and budget become a list of fully resolved run plans, each with its own id."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields as dataclass_fields
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from bench.plan import registry
from bench.plan.budget import Budget
from bench.plan.execution import Execution
from bench.plan.lora import Lora
from bench.plan.origins import Scaled, Tuned
from bench.plan.pipelines import PIPELINE, overlap_of, split_shares
from bench.types import UserError

MAX_WHOLE, MAX_ROWS = 1_000_000, 100_000  # of a method's field; examples of one step, and rollouts of one step
PROTOCOL = 2  # raised by any change of the rules; tables never mix protocols
STAGE = re.compile(r"(?P<name>[^:@+\s]+)(:(?P<variant>[^:@+\s]+))?(@(?P<share>[0-9.]+))?")
SWITCHED = ("ood_items", "reworded_items", "other_items", "skill_items")  # sizes of splits that 0 switches off
# Values with which a field leaves no trace in the hashes of a plan.
OFF: dict[str, Any] = {"ood_level": "", "others": [], "skills": [], "split_by": "", "chat_digest": ""}
OFF |= {"lora": None, "optimizer": "adamw"}
PER_EXAMPLE = ("group_size", "num_samples", "num_hybrids")  # fields that multiply the rows of a step
DECAYS = ("constant", "linear", "cosine")
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


class Stage(BaseModel):
    """One method with its resolved hyper-parameters and its share of the budget.

    ``overlap``: share of the second stage's examples that the first one has too (bench/plan/pipelines.py).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    share: float
    fields: dict[str, Any]
    overlap: float | None = None  # every stage has all examples

    @model_serializer(mode="wrap")
    def without_trace(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Its fields; an overlap that is not set leaves no trace in a plan and its hashes."""
        return {k: v for k, v in fields(self).items() if k != "overlap" or v is not None}


class Evaluation(BaseModel):
    """Fixed items and samples per item; validation at equal fractions of the budget, all other splits at the end.

    ``ood_items``, ``reworded_items``, ``other_items`` (of each other task) and ``skill_items`` (of each base skill) are
    judged like the test split, with ``test_samples``; 0 switches one off.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    val_items: int = 200
    val_samples: int = 4
    test_items: int = 500
    test_samples: int = 4
    ood_items: int = 200
    reworded_items: int = 200
    other_items: int = 100
    skill_items: int = 100
    fractions: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)


class Other(BaseModel):
    """Another task, or a base skill with its form in place of the level, on which the trained model is judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    task: str
    level: str
    version: int


class RunPlan(BaseModel):
    """Everything that is compared: it determines a run's records up to rounding, and its hash is the run's id.

    ``tuned`` and ``scaled`` say where settings came from, which determines nothing: they are in no hash.  ``execution``
    is there only where it is compared too: under a budget in seconds, and in all plans of protocol 1, whose ids contain
    it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    protocol: int = PROTOCOL
    method: str
    stages: tuple[Stage, ...]
    task: str
    task_version: int
    level: str
    template: str
    chat_digest: str = ""  # of what a chat template writes around a prompt; empty: the template is none
    data: str = "generated"
    data_digest: str = ""
    split_by: str = ""  # near duplicates by this key of the task are kept in one split; empty: only equal problems are
    model: str
    model_digest: str
    seed: int
    budget_unit: str
    budget_limit: float
    train_size: int
    max_new_tokens: int
    temperature: float = 1.0
    max_grad_norm: float = 1.0
    optimizer: str = "adamw"
    lora: Lora | None = None  # trained in place of the model's weights
    evaluation: Evaluation
    ood_level: str = ""
    others: tuple[Other, ...] = ()
    skills: tuple[Other, ...] = ()
    tuned: Tuned | None = None
    scaled: Scaled | None = None
    execution: Execution | None = None

    @property
    def run_id(self) -> str:
        return stable_hash(self.identity(set()))

    @property
    def comparison(self) -> str:
        """Hash of all that must be equal for two runs to stand in one table: everything but method and seed."""
        return stable_hash(self.identity({"method", "stages", "seed"}))

    @cached_property
    def compared(self) -> dict[str, Any]:
        """The fields of which hashes are made, as JSON has them: worked out once, since every table asks for them."""
        return self.model_dump(mode="json", exclude={"tuned", "scaled", "execution"})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> RunPlan:
        """A changed copy, without what was worked out from the old fields."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("compared", None)
        return copy

    def identity(self, without: set[str]) -> dict[str, Any]:
        """The fields that are hashed; what is switched off leaves no trace: older plans keep their hashes."""
        fields = {k: v for k, v in self.compared.items() if k not in without}
        fields |= self.execution.identity() if self.execution else {}
        fields["evaluation"] = {k: v for k, v in fields["evaluation"].items() if v or k not in SWITCHED}
        return {k: v for k, v in fields.items() if k not in OFF or v != OFF[k]}

    @property
    def problems(self) -> str:
        """Where the problems come from, in words, with the key by which they are split if there is one."""
        return f"{self.data}, split by {self.split_by}" if self.split_by else self.data

    @staticmethod
    def restore(record: Mapping[str, Any]) -> RunPlan:
        """From plan.json; what was planned before there were these splits has none of them."""
        if record.get("protocol") == 1:
            flat = {name: record[name] for name in Execution.model_fields if name in record}
            record = {**{k: v for k, v in record.items() if k not in flat}, "execution": flat}
        evaluation = record.get("evaluation")
        if isinstance(evaluation, Mapping):
            record = {**record, "evaluation": {**dict.fromkeys(SWITCHED, 0), **evaluation}}
        return RunPlan.model_validate(record)

    def record(self) -> dict[str, Any]:
        """The plan as plan.json has it."""
        return self.model_dump(mode="json", exclude={n for n in ("scaled", "execution") if getattr(self, n) is None})

    @property
    def budget(self) -> Budget:
        return Budget(self.budget_unit, self.budget_limit)

    @property
    def directory(self) -> str:
        label = re.sub(r"[^A-Za-z0-9_.+@-]+", "-", f"{self.method}-{self.task}-{Path(self.model).name}").strip("-")
        return f"{label[:80]}-s{self.seed}-{self.run_id}"


def stable_hash(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def parse_overrides(items: Sequence[str]) -> dict[str, dict[str, str]]:
    """``uft.demo_coef=0`` to {"uft": {"demo_coef": "0"}}; UserError on any other form, and for a field set twice."""
    overrides: dict[str, dict[str, str]] = {}
    for item in items:
        match = re.fullmatch(r"([^.=\s]+)\.([^.=\s]+)=(.+)", item)
        if match is None:
            raise UserError(f"malformed setting '{item}': expected METHOD.FIELD=VALUE, for example uft.demo_coef=0")
        if match[1] != PIPELINE:
            registry.check_choice(match[1], registry.names("methods"), "method")
        fields = overrides.setdefault(match[1], {})
        if match[2] in fields:
            twice = f"set twice, to {fields[match[2]]} and to {match[3]}"
            raise UserError(f"{match[1]}.{match[2]} is {twice}: expected once")
        fields[match[2]] = match[3]
    return overrides


def coerce(method: str, name: str, value: Any, default: Any) -> Any:
    """A field's value in the type of its default; UserError when it does not fit."""
    kind = type(default)
    try:
        if kind is bool:
            return {"true": True, "false": False, "1": True, "0": False}[str(value).lower()]
        if kind is tuple:
            parts = value.split(",") if isinstance(value, str) else value
            return tuple(finite(type(d)(part)) for d, part in zip(default, parts, strict=True))
        return finite(kind(value))
    except (ValueError, KeyError, TypeError, OverflowError):
        expected = f"{len(default)} numbers separated by a comma" if kind is tuple else KINDS[kind]
        shown = ",".join(map(str, default)) if kind is tuple else default
        raise UserError(f"{method}.{name}: '{value}' is not valid: expected {expected}, for example {shown}") from None


def finite(value: Any) -> Any:
    """The value, unless it is an infinite float or not a number."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("not finite")
    return value


def check_sizes(name: str, values: Mapping[str, Any], trains: bool) -> None:
    """Refuse impossible values of the fields that every method has, and absurd sizes; UserError names the field."""
    registry.check_choice(values["decay"], DECAYS, f"{name}.decay")
    rules = (
        ("lr", values["lr"] >= 0, "a number from 0 on"),
        ("warmup", 0 <= values["warmup"] <= 1, "a share of the budget from 0 to 1"),
        ("weight_decay", values["weight_decay"] >= 0, "a number from 0 on"),
        ("betas", all(0 <= beta < 1 for beta in values["betas"]), "two numbers from 0 to below 1"),
        ("batch_size", (values["batch_size"] > 0) == trains, "at least 1" if trains else f"0: {name} does not train"),
        ("num_updates", values["num_updates"] >= 1, "at least 1"),
        *((field, value <= MAX_WHOLE, f"at most {MAX_WHOLE}") for field, value in values.items() if type(value) is int),
        ("batch_size", values["batch_size"] <= MAX_ROWS, f"at most {MAX_ROWS}"),
    )
    for field, fits, expected in rules:
        if not fits:
            raise UserError(f"{name}.{field}: '{values[field]}' is not valid: expected {expected}")
    rows = values["batch_size"] * max(values.get(field, 1) for field in PER_EXAMPLE)
    if rows > MAX_ROWS:
        sizes = ", ".join(f"{field} {values[field]}" for field in ("batch_size", *PER_EXAMPLE) if field in values)
        raise UserError(f"{name}: {rows} rows per step ({sizes}) are more than {MAX_ROWS}: expected smaller ones")


def resolve(name: str, variant: str | None, preset: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Hyper-parameters of a method: defaults, then the model's preset, then the variant, then the user's settings."""
    module = registry.module("methods", name)
    defaults = {f.name: getattr(module.METHOD(), f.name) for f in dataclass_fields(module.METHOD())}
    variants: dict[str, dict[str, Any]] = module.VARIANTS
    if variant is not None and variant not in variants:
        if not variants:
            raise UserError(f"unknown variant '{variant}' of {name}: it has no variants")
        raise registry.nearest(variant, variants, f"variant of {name}")
    chosen = {**preset, **(variants[variant] if variant else {}), **overrides}
    for field in chosen:
        if field in module.FIXED:
            raise UserError(f"{name}.{field} is fixed, it is part of what {name} is: see 'bench methods {name}'")
        registry.check_choice(field, defaults, f"field of {name}")
    values = {**defaults, **{k: coerce(name, k, v, defaults[k]) for k, v in chosen.items()}}
    check_sizes(name, values, trains=defaults["batch_size"] > 0)
    try:
        module.METHOD(**values)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None
    return values


def parse_method(
    text: str, presets: Mapping[str, Mapping[str, Any]], overrides: Mapping[str, Mapping[str, Any]]
) -> tuple[str, tuple[Stage, ...]]:
    """Label and stages of ``uft``, ``uft:r3``, ``sft+grpo`` or ``sft@0.3+grpo``."""
    matches = [STAGE.fullmatch(part.strip()) for part in text.split("+")]
    parts = [match for match in matches if match is not None]
    if len(parts) < len(matches):
        raise UserError(f"malformed method '{text}': expected NAME, NAME:VARIANT or a pipeline such as sft@0.3+grpo")
    for part in parts:
        registry.check_choice(part["name"], registry.names("methods"), "method")
    stages = []
    settings = set()
    if (overlap := overlap_of(text, len(parts), overrides.get(PIPELINE, {}))) is not None:
        settings |= {f"{PIPELINE}.{k}={v}" for k, v in overrides[PIPELINE].items()}
    for part, share in zip(parts, split_shares(text, [part["share"] for part in parts])):
        name = part["name"]
        values = resolve(name, part["variant"], presets.get(name, {}), overrides.get(name, {}))
        stages.append(Stage(name=name, share=share, fields=values, overlap=overlap))
        settings |= {f"{name}.{k}={v}" for k, v in overrides.get(name, {}).items()}
    if len(stages) > 1 and any(s.fields["batch_size"] == 0 for s in stages):
        raise UserError(f"method '{text}': base does not train and cannot be a stage of a pipeline")
    label = text.strip() + (f"[{','.join(sorted(settings))}]" if settings else "")
    return label, tuple(stages)
