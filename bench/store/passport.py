"""The passport of a stack: which code, model, device and library versions passed which preflight checks.

A run is stamped with its stack's identity, and the leaderboard looks for the passport of that stack.  The identity
covers the code that can change a run, no more: a sentence in a report cannot.  The checks of ``bench/audit`` cannot
either, so a passport stays valid when they change.  It notes which version of them made each check, and ``bench run``
makes the checks of other versions again before it starts.  Imports no torch but to name a GPU.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.plan import registry
from bench.plan.execution import vllm_version
from bench.plan.spec import Stage, stable_hash
from bench.store.files import write_atomic
from bench.store.job import Job
from bench.store.run_folder import CorruptRun, read_json

FOLDER = "passports"
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy")
# All that a run's process (bench/engine/worker.py) can load, and nothing else: tests/store/test_passport.py compares.
RUN_CODE = (
    *("bench/*.py", "bench/stats/__init__.py", "bench/stats/clusters.py", "bench/stats/pass_rates.py"),
    *("bench/models/__init__.py", "bench/models/chat.py", "bench/models/hub.py"),
    *("bench/plan/*.py", "bench/store/*.py", "bench/engine/*.py", "methods/*.py", "tasks/**/*.py"),
)
OTHER_CODE = {  # matched by RUN_CODE, but not loaded by a run
    *(
        "bench/__main__.py",
        "bench/plan/optimizers.py",
        "bench/plan/recipes.py",
        "bench/store/stored_run.py",
        "bench/store/targets.py",
        "bench/engine/pretrain.py",
        "bench/engine/tokenizer.py",
    ),
}
CHECKS_CODE = ("bench/audit/*.py",)
# Sizes of a step, as those of registry.OPTIMIZER_FIELDS: no part of the loss of a batch.
SIZES = {"group_size", "num_demos", "num_candidates"}
PASSED, NONE, FAILED, OTHER = STATES = ("passed", "none", "failed", "other methods")


def source_files(root: Path, patterns: Sequence[str]) -> list[str]:
    """The files below ``root`` that the patterns name and a run or a check can load, sorted."""
    names = {file.relative_to(root).as_posix() for pattern in patterns for file in root.glob(pattern)}
    return sorted(names - OTHER_CODE)


def files_digest(root: Path, patterns: Sequence[str]) -> hashlib.blake2b:
    """Running hash of the names and contents of these files."""
    total = hashlib.blake2b(digest_size=16)
    for name in source_files(root, patterns):
        content = (root / name).read_bytes()
        total.update(f"{name}\0{len(content)}\0".encode() + content)
    return total


def checks_digest(root: Path = registry.ROOT) -> str:
    """Hash of the code of the preflight checks."""
    return files_digest(root, CHECKS_CODE).hexdigest()


def source_digest(root: Path = registry.ROOT) -> str:
    """Hash of the code that can change a run: RUN_CODE, and the modules that installed packages offer.

    Of an installed package only the files count that its entry points name, not what these import.
    """
    total = files_digest(root, RUN_CODE)
    for package in ("methods", "tasks"):
        for name, sources in sorted(registry.installed(package).items()):
            for source in sorted(sources, key=str):
                total.update(f"{package} {name} {source}\0".encode())
                total.update(module_text(source.module))
    return total.hexdigest()


def module_text(path: str) -> bytes:
    """Contents of a module's file, without importing it; empty for one that is not there (nothing can run it)."""
    try:
        spec = registry.find_module(path)
    except (ImportError, ValueError):  # ValueError: an empty name
        return b""
    file = Path(spec.origin) if spec is not None and spec.origin is not None else None
    return file.read_bytes() if file is not None and file.is_file() else b""


def method_settings(fields: Mapping[str, Any]) -> str:
    """Hash of those fields of a method that its loss depends on: all but the optimizer's and the sizes of a step."""
    return stable_hash({k: v for k, v in fields.items() if k not in registry.OPTIMIZER_FIELDS | SIZES})


def stack_identity(model_digest: str, device: str, sampler: str = "torch") -> dict[str, Any]:
    """All that decides whether the engine computes what it should: source, model, device and versions.

    ``sampler``: the engine that samples, which leaves no trace where it is torch.
    """
    where = "cpu"
    if device == "cuda":
        import torch

        where = torch.cuda.get_device_name()
    return {
        "source": source_digest(),
        "model": model_digest,
        "device": where,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in LIBRARIES},
        **({"sampler": vllm_version()} if sampler == "vllm" else {}),
    }


def stack_key(stack: Mapping[str, Any]) -> str:
    return stable_hash(dict(stack))


def stamp(job: Job, earlier: Sequence[str] = ()) -> dict[str, Any]:
    """What the environment record of a run says of its stack, and of the ``earlier`` ones that it was begun on."""
    stack = stack_identity(job.plan.model_digest, job.execution.device, job.execution.sampler)
    key = stack_key(stack)
    return {"stack": stack, "stack_key": key, "earlier_stack_keys": [k for k in earlier if k != key]}


def stack_keys(env_path: Path) -> list[str]:
    """Keys of every stack that a run was made on, the last one first; empty for a run that has no stamp.

    Raises CorruptRun if the environment record cannot be read.
    """
    if not env_path.exists():
        return []
    env = read_json(env_path)
    return [str(k) for k in (env.get("stack_key"), *env.get("earlier_stack_keys", [])) if k]


def passport_file(results: Path, key: str) -> Path:
    return results / FOLDER / f"{key}.json"


def read_passport(results: Path, key: str) -> dict[str, Any] | None:
    """The passport of a stack; None without one, and for a file that cannot be read: it vouches for nothing."""
    path = passport_file(results, key)
    try:
        now = path.stat()
        passport = passport_at(path, now.st_ino, now.st_mtime_ns, now.st_size)
    except (CorruptRun, OSError):
        return None
    return whole(passport, key)


@lru_cache(maxsize=64)
def passport_at(path: Path, *version: int) -> dict[str, Any]:
    """A passport's file, parsed once per version of it: a store of many runs has few stacks."""
    return read_json(path)


def known_by(check: Mapping[str, Any]) -> tuple[str, str, str]:
    """What tells a check from others of its stack: name, task and the settings of its method."""
    return check["name"], check["task"], check.get("settings", "")


def merge_passports(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """The new passport, with those checks of the old one (same stack) that were not made again.

    ``passed`` and ``methods`` cover all that are kept.
    """
    made = {known_by(c) for c in new["checks"]}
    kept = [c for c in old["checks"] if known_by(c) not in made] if old else []
    checks = sorted([*kept, *new["checks"]], key=lambda c: (c["method"] != "", *known_by(c)))
    methods = sorted({c["method"] for c in checks if c["method"]})
    return {**new, "checks": checks, "methods": methods, "passed": all(c["passed"] for c in checks)}


def save_passport(results: Path, passport: Mapping[str, Any]) -> Path:
    """Write a passport, merged with what the folder has of its stack."""
    path = passport_file(results, passport["key"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, merge_passports(read_passport(results, passport["key"]), passport))
    return path


def stages_state(
    results: Path, keys: Sequence[str], task: str, stages: Sequence[Stage], checks_code: str | None = None
) -> str:
    """How a run of these stages on a task and on these stacks stands: one of STATES.

    Failed: a check of the engine failed, on whatever task, or one of its methods with its settings.  Other methods: one
    of its methods was not checked with its settings, or the engine not on its task.  ``checks_code`` counts only what
    this version of the checks has made.
    """
    stacks = [found for key in keys if (found := checked(results, key, checks_code)) is not None]
    used = {(stage.name, method_settings(stage.fields)) for stage in stages}
    if any("" in found.failed or used & found.failed for found in stacks):
        return FAILED
    if not keys or len(stacks) < len(keys):
        return NONE
    return PASSED if all(used <= found.subjects and task in found.tasks for found in stacks) else OTHER


@dataclass(frozen=True)
class Checked:
    """What the checks of one passport are about: methods with their settings, and the tasks of those of the engine.

    ``failed`` has the subjects of failed checks, an empty text for one of the engine.
    """

    subjects: frozenset[tuple[str, str]]
    tasks: frozenset[str]
    failed: frozenset[tuple[str, str] | str]


def checked(results: Path, key: str, checks_code: str | None) -> Checked | None:
    """The checks of a stack that this version of them made, None for any version; None without a passport."""
    path = passport_file(results, key)
    try:
        now = path.stat()
        return checked_at(path, key, checks_code, now.st_ino, now.st_mtime_ns, now.st_size)
    except (CorruptRun, OSError):
        return None


@lru_cache(maxsize=64)
def checked_at(path: Path, key: str, checks_code: str | None, *version: int) -> Checked | None:
    """``checked``, worked out once per version of the passport's file: a store of many runs has few stacks."""
    passport = whole(passport_at(path, *version), key)
    if passport is None:
        return None
    checks = [c for c in passport["checks"] if checks_code in (None, c.get("code"))]
    return Checked(
        frozenset(subject(c) for c in checks),
        frozenset(c["task"] for c in checks if not c["method"]),
        frozenset(subject(c) if c["method"] else "" for c in checks if not c["passed"]),
    )


def whole(passport: dict[str, Any], key: str) -> dict[str, Any] | None:
    """The passport, unless it is another stack's or has no checks."""
    return passport if passport.get("key") == key and isinstance(passport.get("checks"), list) else None


def subject(check: Mapping[str, Any]) -> tuple[str, str]:
    """The method that a check is about, and the hash of its settings; a check that names none covers no run's."""
    return check["method"].partition(":")[0], check.get("settings", "")


def worst(states: Sequence[str]) -> str:
    """The state of a row from those of its runs: failed before none before other methods before passed."""
    return max(states, key=(PASSED, OTHER, NONE, FAILED).index)
