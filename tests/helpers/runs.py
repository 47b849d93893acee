"""Tiny jobs of a second on a random model, and what their records and weights hold: shared by the tests of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from bench.plan.spec import Evaluation
from bench.store.job import Job
from bench.store.run_folder import RECORDS, read_json, read_lines
from bench.study.jobs import Spec, plan_jobs
from tests.helpers.engine import TOKENIZER, small_model

NOWHERE = {"ood_items": 0, "reworded_items": 0, "other_items": 0, "skill_items": 0}  # no splits besides val and test
SIZES = {"val_items": 8, "val_samples": 2, "test_items": 8, "test_samples": 2}
EVALUATION = Evaluation(**SIZES, **NOWHERE, fractions=(0.25, 0.5, 1.0))
NOWHERE_OPTIONS = ("--ood-items", "0", "--reworded-items", "0", "--other-items", "0", "--skill-items", "0")
SHORT_OPTIONS = (*NOWHERE_OPTIONS, "--no-preflight")
ROLLOUTS = ("batch_size=4", "group_size=2", "lr=0.01", "num_updates=2", "kl_coef=0.1")
SETTINGS = {
    "uft": (*ROLLOUTS, "demo_coef=0.1", "entropy_coef=0.01"),
    "grpo": ROLLOUTS,
    "sft": ("batch_size=4", "lr=0.01"),
    "s3ft": ("batch_size=4", "lr=0.01"),
    "relift": ("batch_size=4", "group_size=2", "lr=0.01", "num_updates=2", "max_tokens=24", "buffer_size=5"),
    "self_rewarding_ppo": ("batch_size=4", "group_size=2", "lr=0.01", "num_updates=1"),
    "base": (),
}


def write_model(path: Path, context: int = 256) -> Path:
    """A random model directory; with large weights, so that every update changes what it writes."""
    model = small_model(1, 0.3, hidden_size=32, num_attention_heads=1, num_key_value_heads=1, intermediate_size=64)
    model.config.max_position_embeddings = context
    model.save_pretrained(path)
    TOKENIZER.save_pretrained(path)
    return path


def make_job(model: Path, results: Path, method: str = "uft", budget: str = "12steps", **changes: Any) -> Job:
    """One tiny run of a method or pipeline."""
    names = [part.partition("@")[0] for part in method.split("+")]
    options: dict[str, Any] = {
        "settings": [f"{name}.{setting}" for name in names for setting in SETTINGS[name]],
        "model": str(model),
        "budget": budget,
        "level": "3",
        "template": "compact",
        "train_size": 40,
        "max_new_tokens": 24,
        "evaluation": EVALUATION,
        "device": "cpu",
        "micro_batch_tokens": 256,
        "results": results,
        **changes,
    }
    return plan_jobs(Spec([method], ["countdown"], **options))[0]


def timeless(value: Any) -> Any:
    """The value without wall times: keys that begin with ``seconds``."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if not k.startswith("seconds")}
    return [timeless(v) for v in value] if isinstance(value, list) else value


def outcome(path: Path) -> dict[str, Any]:
    """All that a finished run leaves, but wall times: records, ledger, plan and the bytes of its weights."""
    found: dict[str, Any] = {name: timeless(read_lines(path / name)) for name in RECORDS}
    found["ledger"] = timeless(read_json(path / "done.json")["ledger"])
    found["plan"] = read_json(path / "plan.json")
    weights = load_file(path / "policy" / "model.safetensors")
    found["weights"] = {name: value.numpy().tobytes() for name, value in weights.items()}
    return found


def differences(left: dict[str, Any], right: dict[str, Any]) -> list[str]:
    """Where two outcomes differ: names of parts, with the first differing record."""
    found = []
    for name in left.keys() | right.keys():
        a, b = left.get(name), right.get(name)
        if a != b and name.endswith(".jsonl"):
            where = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
            found.append(f"{name}: {len(a)} and {len(b)} records, first difference at {where}")
        elif a != b:
            found.append(name)
    return found


def files(path: Path) -> dict[str, tuple[int, bytes]]:
    """Time of change and content of every file below a directory."""
    return {str(p.relative_to(path)): (p.stat().st_mtime_ns, p.read_bytes()) for p in path.rglob("*") if p.is_file()}
