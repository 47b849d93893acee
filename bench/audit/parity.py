"""Our losses against TRL's: the same weights, rows, rewards and optimizer, compared update by update.

Our side is ``bench.engine.trainer.Stage`` itself; it records the rows of every step, which
``bench.audit.trl_referee`` replays in TRL.  What is compared, and why some differences are not rounding:
docs/parity.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.audit.parity_cases import CASES, Case, ExactRewards, choose
from bench.foreign import say, say_json
from bench.models import locate, model_settings
from bench.plan import machine, registry
from bench.store.files import check_writable
from bench.types import Context, Example, Task, Trajectory, UserError

MEASURES = ("loss", "grad_norm")
MAX_GRAD_NORM = 1.0
MAX_POOL = 4000
WITHIN, EXCEEDED, VOID = "within tolerance", "exceeds tolerance", "no gradient: nothing was compared"


@dataclass
class Recorder:
    """A method that keeps the rows it collects."""

    method: Any
    steps: list[list[Trajectory]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.method, name)

    def collect(self, examples: Sequence[Example], ctx: Context) -> list[Trajectory]:
        rows: list[Trajectory] = self.method.collect(examples, ctx)
        self.steps.append(rows)
        return rows


# --- comparison ----------------------------------------------------------------------------------------------


def largest(values: Sequence[float]) -> float:
    """The largest value; infinite where one is not a number."""
    return max(values) if all(map(math.isfinite, values)) else math.inf


def differences(steps: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Largest absolute difference of each measure over the steps."""
    return {name: largest([abs(step[name]["ours"] - step[name]["trl"]) for step in steps]) for name in MEASURES}


def verdict(steps: Sequence[Mapping[str, Any]], tolerance: Mapping[str, float]) -> str:
    """EXCEEDED if any difference is above its tolerance, VOID if our side never had a gradient, else WITHIN."""
    gaps = differences(steps)
    if any(gaps[name] > tolerance[name] for name in MEASURES):
        return EXCEEDED
    return WITHIN if any(step["grad_norm"]["ours"] for step in steps) else VOID


# --- our side ------------------------------------------------------------------------------------------------


def load_model_pair(path: str) -> tuple[Any, Any]:
    """Model in float32 and tokenizer; UserError if the model has dropout, which TRL trains with and bench does not."""
    from bench.engine.policy import load_model

    model, tokenizer = load_model(path)
    for name, value in model.config.to_dict().items():
        if "drop" in name and isinstance(value, float) and value > 0:
            raise UserError(f"model has dropout ({name} {value}), expected none: set it to 0 in its config.json")
    return model, tokenizer


def parity_examples(
    policy: Any, task: Task, case: Case, count: int, template: str, max_new_tokens: int
) -> list[Example]:
    """Tokenised training problems; UserError if one may not fit the model's context."""
    from tasks import common

    if template not in task.templates:
        template = "plain"
    examples = [policy.encode(e, template) for e in common.load_examples(task, "train", count, case.level, template)]
    need = max(len(e.prompt_ids) + max(len(e.demo_ids), max_new_tokens) for e in examples)
    window = getattr(policy.model.config, "max_position_embeddings", None)
    if window is not None and need > window:
        raise UserError(f"model has a context of {window} tokens, this comparison may need {need}: use another model")
    return examples


def train_here(
    case: Case, method: Any, model: Any, tokenizer: Any, steps: int, template: str, max_new_tokens: int
) -> tuple[list[dict[str, Any]], list[list[Trajectory]]]:
    """Train ``model`` in place by the loop of every run; what it logs, and the rows of each step."""
    from bench.engine.policy import Policy
    from bench.engine.trainer import Stage
    from bench.plan.budget import Budget, Meter

    task = registry.task("countdown")
    policy = Policy(model, tokenizer)
    policy.meter = Meter(policy.architecture, Budget("steps", steps * method.num_updates))
    recorder: Any = Recorder(method)
    count = min(steps * method.batch_size, MAX_POOL)
    stage = Stage(
        policy,
        recorder,
        ExactRewards(task) if case.exact_rewards else task,  # type: ignore[arg-type]
        parity_examples(policy, task, case, count, template, max_new_tokens),
        seed=0,
        name=f"0:{case.method}",
        max_new_tokens=max_new_tokens,
        temperature=1.0,
        max_grad_norm=MAX_GRAD_NORM,
        micro_batch_tokens=case.micro_batch_tokens,
        sample_rows=256,
    )
    logged = []
    while (record := stage.run_step()) is not None:
        logged.append(record)
    return logged, recorder.steps


# --- both sides ----------------------------------------------------------------------------------------------


def compare_case(name: str, model_name: str, steps: int) -> dict[str, Any]:
    """Train on both sides from the same weights; the record of the comparison."""
    from bench.audit import trl_referee

    case, place = CASES[name], locate(model_name).fetch()
    path = place.path
    defaults = model_settings(path)
    limit, template = int(defaults.get("max_new_tokens", 256)), defaults.get("template", "plain")
    method = registry.build_method(case.method, dict(case.fields))
    method = replace(method, max_tokens=limit) if hasattr(method, "max_tokens") else method
    (model, tokenizer), (other, _) = load_model_pair(path), load_model_pair(path)
    start = [p.detach().clone() for p in model.parameters()]
    ours, rows = train_here(case, method, model, tokenizer, steps, template, limit)
    replay = trl_referee.Replay(other, tokenizer, method, rows, MAX_GRAD_NORM, case.rows_per_pass, limit, case.trl)
    theirs = trl_referee.train(replay)
    pairs = [
        {measure: {"ours": a[measure], "trl": b[measure]} for measure in MEASURES} | watched(part, a)
        for part, a, b in zip(rows, ours, theirs, strict=True)
    ]
    return {
        "comparison": name,
        "command": f"bench parity --model {place.name} --methods {name} --steps {steps}",
        "model": {"name": place.name, "digest": place.digest, "template": template},
        "settings": {**described(case, method), "trl": trl_referee.trl_arguments(replay)},
        "environment": parity_environment(),
        "tolerance": dict(case.tolerance),
        "max_difference": differences(pairs),
        "weights": {
            "max_difference": distance(model.parameters(), other.parameters()),
            "max_change": distance(model.parameters(), start),
        },
        "verdict": verdict(pairs, case.tolerance),
        "steps": pairs,
    }


def described(case: Case, method: Any) -> dict[str, Any]:
    """Our side's settings."""
    return {
        "method": case.method,
        "fields": asdict(method),
        "task": {"name": "countdown", "level": case.level, "exact_rewards": case.exact_rewards},
        "micro_batch_tokens": case.micro_batch_tokens,
        "max_grad_norm": MAX_GRAD_NORM,
    }


def watched(rows: Sequence[Trajectory], logged: Mapping[str, float]) -> dict[str, float]:
    """What explains a difference in GRPO: groups whose rewards are all equal, and the share of clipped tokens."""
    if "clip_share" not in logged:
        return {}
    groups: dict[int, set[float]] = {}
    for row in rows:
        groups.setdefault(row.group, set()).add(row.reward)
    flat = sum(len(rewards) == 1 for rewards in groups.values())
    return {"groups": len(groups), "equal_reward_groups": flat, "clip_share": logged["clip_share"]}


def distance(left: Any, right: Any) -> float:
    """Largest absolute difference of two lists of weights."""
    return largest([float((a.detach() - b.detach()).abs().max()) for a, b in zip(left, right, strict=True)])


def parity_environment() -> dict[str, Any]:
    """Versions and hardware, TRL's included."""
    facts = machine.machine_facts("cpu")
    facts["versions"] |= {name: metadata.version(name) for name in ("trl", "accelerate", "datasets")}
    return {**facts, "device": "cpu", "dtype": "float32", "threads": 1}


def run_parity(names: Sequence[str], model_name: str, steps: int, out: Path) -> list[dict[str, Any]]:
    """All comparisons, each written to ``out`` when it is done."""
    from bench.audit import trl_referee

    chosen = choose(names)
    locate(model_name)  # refuses unknown models before anything heavy is loaded
    trl_referee.check_installed()
    check_writable(out)
    import torch
    import transformers

    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    records = []
    for name in chosen:
        say(f"{name}: {steps} steps here, then in TRL", error=True)
        record = compare_case(name, model_name, steps)
        (out / f"{name.replace(':', '-')}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        records.append(record)
    return records


def print_parity(records: Sequence[Mapping[str, Any]], as_json: bool) -> int:
    """Print the table, or the records as JSON; 0 if every comparison is within its tolerance, else 1."""
    if as_json:
        say_json(records)
    else:
        say(parity_table(records))
    return 0 if all(record["verdict"] == WITHIN for record in records) else 1


def parity_table(records: Sequence[Mapping[str, Any]]) -> str:
    """One line per comparison: largest absolute differences over its steps, and what is allowed."""
    width = max(len(record["comparison"]) for record in records)
    lines = [f"{'':<{width}}  steps  loss differs by  allowed  gradient norm differs by  allowed  verdict"]
    for record in records:
        gaps, allowed = record["max_difference"], record["tolerance"]
        loss = f"{gaps['loss']:>15.1e}  {allowed['loss']:>7.0e}"
        norm = f"{gaps['grad_norm']:>24.1e}  {allowed['grad_norm']:>7.0e}"
        lines.append(f"{record['comparison']:<{width}}  {len(record['steps']):>5}  {loss}  {norm}  {record['verdict']}")
    return "\n".join(lines)
