"""`bench preflight`: the identities of a correct implementation, measured on the user's own stack in seconds.

The checks are in bench/audit/checks_*.py, what they mean in docs/preflight.md.
"""

from __future__ import annotations

import sys
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.audit import checks_batches, checks_training, checks_values
from bench.audit.stack import Check, Stack
from bench.foreign import say, say_json
from bench.plan import registry
from bench.plan.execution import Execution
from bench.plan.spec import parse_method, parse_overrides, resolve
from bench.store import passport
from bench.store.files import check_writable
from bench.store.job import Job
from bench.study.jobs import Spec, execution_of, split_names, task_format
from bench.study.jobs import choose_device as choose_device
from bench.study.preflight_time import Preflight, check_seconds, note_preflight
from bench.types import UserError

MAX_NEW_TOKENS = 32
GENERAL: dict[str, Callable[[Stack], Check]] = {
    "packing": checks_batches.packing,
    "padding": checks_batches.padding,
    "mask": checks_batches.mask,
    "prefix": checks_batches.prefix,
    "round trip": checks_values.round_trip,
    "hand-computed loss": checks_values.hand_computed,
    "reference and old policy": checks_training.reference_and_old_policy,
    "optimizer": checks_training.optimizer,
    "learning rate": checks_values.learning_rate,
    "eos": checks_values.eos,
    "sampler": checks_values.sampler,
    "evaluation": checks_values.evaluation,
    "constant reward": checks_values.constant_reward,
}
Report = Callable[[int, int, str], None]  # checks done, of how many, the next one's name


def trained(methods: str | None) -> list[str]:
    """NAME or NAME:VARIANT of the methods to check, each once: those in pipelines too, without those that do not train.

    By default all that are registered, without variants; UserError for an unknown one.
    """
    texts = list(registry.names("methods")) if methods is None else split_names(methods, "method")
    if not texts:
        raise UserError("no methods given: for example --methods uft,sft")
    chosen: dict[str, None] = {}
    for text in texts:
        _, stages = parse_method(text, {}, {})
        labels = [part.partition("@")[0].strip() for part in text.split("+")]
        chosen |= dict.fromkeys(label for label, stage in zip(labels, stages) if stage.fields["batch_size"] > 0)
    return list(chosen)


def guarded(name: str, function: Callable[[Stack], Check], stack: Stack, method: str = "") -> Check:
    """The outcome of a check; one that raises has failed, with the error and where it was raised as its detail."""
    try:
        check = function(stack)
    except Exception as error:  # whatever a broken engine raises is a finding
        text = " ".join(str(error).split())[:200]
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}, line {last.lineno}"
        check = Check(name, False, None, 0.0, f"{type(error).__name__}: {text} ({place})")
    settings = passport.method_settings(stack.fields[method]) if method else ""
    code = passport.checks_digest()
    return replace(check, name=name, method=method, task=stack.task.name, settings=settings, code=code)


def run_checks(stack: Stack, methods: Sequence[str], names: Sequence[str] = tuple(GENERAL)) -> Iterator[Check]:
    """The general checks of these names, then one check per method, each on the same weights."""
    before = stack.weights()
    todo = [(name, GENERAL[name], "") for name in names]
    todo += [
        (f"micro-batches {method}", partial(checks_batches.micro_batches, name=method), method) for method in methods
    ]
    for name, function, method in todo:
        check = guarded(name, function, stack, method)
        if not check.passed:  # a broken engine may leave anything behind, weights that are not numbers too
            stack.policy.model.load_state_dict(before)
            stack.policy.model.zero_grad(set_to_none=True)
        yield check


def make_stack(spec: Spec, where: str, path: str, methods: Sequence[str]) -> Stack:
    """The user's model and task with the hyper-parameters that ``bench run`` would use; UserError for bad input."""
    from bench.models import model_settings

    defaults = model_settings(path)
    level, template = task_format(spec, spec.tasks[0], defaults)
    overrides = parse_overrides(spec.settings)
    fields = {}
    for label in methods:
        name, _, variant = label.partition(":")
        preset = defaults.get("methods", {}).get(name, {})
        fields[label] = resolve(name, variant or None, preset, overrides.get(name, {}))
    for name in overrides.keys() - {label.partition(":")[0] for label in methods}:
        raise UserError(f"--set names '{name}', which is not among the methods {', '.join(methods)}")
    return load_stack(path, execution_of(spec, where), spec.tasks[0], level, template, fields)


def load_stack(
    path: str, how: Execution, task: str, level: str, template: str, fields: dict[str, dict[str, Any]]
) -> Stack:
    """A model and its tokenizer with a task and the resolved hyper-parameters of methods, by label."""
    import torch
    from transformers.utils import logging

    from bench.engine.planned import planned_engine
    from bench.engine.policy import Policy, load_model

    torch.set_num_threads(how.threads)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    engine = planned_engine(how.sampler, path, how.device, how.sample_rows)
    policy = Policy(*load_model(path, how.device), packing=how.packing, engine=engine)
    return Stack(policy, registry.task(task), level, template, fields, MAX_NEW_TOKENS)


def examine(spec: Spec, methods: Sequence[str], report: Report) -> tuple[dict[str, Any], list[Check]]:
    """The passport as written to the results folder, and the checks made now."""
    from bench.models import locate

    model, where = locate(spec.model), choose_device(spec.device)
    registry.task(spec.tasks[0])
    check_writable(spec.results)
    identity = passport.stack_identity(model.fetch().digest, where, spec.sampler)
    return record(make_stack(spec, where, model.path, methods), identity, spec.results, methods, report)


def record(
    stack: Stack, identity: Mapping[str, Any], results: Path, methods: Sequence[str], report: Report
) -> tuple[dict[str, Any], list[Check]]:
    """Make all checks of a stack and write its passport: the passport, and the checks made now."""
    begin = perf_counter()
    upcoming = [*GENERAL, *(f"micro-batches {name}" for name in methods), "done"]
    made: list[Check] = []
    report(0, len(upcoming) - 1, upcoming[0])
    for check in run_checks(stack, methods):
        made.append(check)
        report(len(made), len(upcoming) - 1, upcoming[len(made)])
    key = passport.stack_key(identity)
    new = {
        "key": key,
        "stack": dict(identity),
        "checks": [asdict(c) for c in made],
        "seconds": round(perf_counter() - begin, 2),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    passport.save_passport(results, new)
    merged = passport.read_passport(results, key)
    assert merged is not None
    return merged, made


def cover(jobs: Sequence[Job], report: Report) -> list[Check]:
    """Check what the passports of these jobs' stacks do not vouch for yet, by today's checks; the checks that failed.

    Jobs that are done are left alone: their stack was another one, or is covered already.
    """
    failed = []
    for group, identity, fields in unvouched(jobs):
        job = group[0]
        plan, results = job.plan, job.path.parent
        level = registry.task(plan.task).default_level if plan.level == "file" else plan.level
        stack = load_stack(job.model_path, job.execution, plan.task, level, plan.template, fields)
        begin = perf_counter()
        made = record(stack, identity, results, sorted(fields), report)[1]
        note_preflight(job, len(made), perf_counter() - begin)
        failed += [c for c in made if not c.passed]
    return failed


def ahead(jobs: Sequence[Job]) -> Preflight | None:
    """The preflight that these runs will have to wait for; None where their passports know all of them."""
    checks, seconds = 0, 0.0
    unknown = False
    for group, _, fields in unvouched(jobs):
        number, each = len(GENERAL) + len(fields), check_seconds(group[0])
        checks, seconds, unknown = checks + number, seconds + number * (each or 0.0), unknown or each is None
    return Preflight(checks, None if unknown else seconds) if checks else None


def is_covered(jobs: Sequence[Job]) -> bool:
    """Whether the passports of these jobs' stacks vouch for all of them."""
    return next(unvouched(jobs), None) is None


def unvouched(jobs: Sequence[Job]) -> Iterator[tuple[list[Job], dict[str, Any], dict[str, dict[str, Any]]]]:
    """Jobs of one model, device, sampler and task with their stack's identity, and the methods that are to be checked.

    These are hyper-parameters by label.  Jobs of which the passports know everything are left out.
    """
    groups: dict[tuple[str, str, str, str], list[Job]] = defaultdict(list)
    for job in jobs:
        if not job.done:
            groups[job.model_path, job.execution.device, job.execution.sampler, job.plan.task].append(job)
    for (_, where, sampler, task), group in groups.items():
        results = group[0].path.parent
        identity = passport.stack_identity(group[0].plan.model_digest, where, sampler)
        key = passport.stack_key(identity)
        stages = [s for job in group for s in job.plan.stages if s.fields["batch_size"] > 0]
        now = passport.checks_digest()
        stages = [s for s in stages if passport.stages_state(results, [key], task, [s], now) != passport.PASSED]
        if fields := {f"{s.name}:{passport.method_settings(s.fields)}": dict(s.fields) for s in stages}:
            yield group, identity, fields


def checks_table(made: Sequence[Check]) -> str:
    """One line per check with its measured value and tolerance, details of failed ones below."""
    width = max(len(c.name) for c in made)
    lines = [f"{'check':<{width}}  {'measured':>9}  {'tolerance':>9}  result"]
    for c in made:
        measured = "error" if c.measured is None else f"{c.measured:.1e}" if c.measured else "0"
        tolerance = "" if c.measured is None else f"{c.tolerance:.0e}" if c.tolerance else "0"
        lines.append(f"{c.name:<{width}}  {measured:>9}  {tolerance:>9}  {'passed' if c.passed else 'FAILED'}")
    return "\n".join([*lines, *(f"{c.name}: {c.detail}" for c in made if not c.passed)])


@contextmanager
def progress() -> Iterator[Report]:
    """A bar on standard error, on terminals only, that a Report moves."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("preflight"), BarColumn(), TextColumn("{task.completed:.0f} of {task.total:.0f}"))
    console = Console(stderr=True)
    now = TextColumn("{task.fields[now]}", markup=False)
    with Progress(*columns, now, console=console, transient=True, disable=not console.is_terminal) as bar:
        shown = bar.add_task("preflight", total=1, now="loading the model")

        def report(done: int, total: int, now: str) -> None:
            bar.update(shown, completed=done, total=total, now=now)

        yield report


def run_preflight(spec: Spec, methods: str | None, as_json: bool) -> int:
    """Check, print and write the passport; 0 if every check of this call passed, else 1."""
    with progress() as report:
        merged, made = examine(spec, trained(methods), report)
    good = sum(c.passed for c in made)
    if as_json:
        say_json(merged)
    else:
        say(checks_table(made))
        again = {(c.name, c.task, c.settings) for c in made}
        earlier = [c for c in merged["checks"] if not c["passed"] and passport.known_by(c) not in again]
        for c in earlier:
            say(f"failed in an earlier preflight of this stack: {c['name']} on {c['task']}: {c['detail']}")
        say(f"passport {merged['key']}: {good} of {len(made)} checks passed in {merged['seconds']:.1f} s")
    sys.stdout.flush()
    return 0 if good == len(made) else 1


def default_spec(model: str, task: str, device: str, results: Path, settings: Sequence[str] = ()) -> Spec:
    return Spec(methods=(), tasks=(task,), model=model, device=device, results=results, settings=settings)
