"""Atomic save and exact resume: weights, optimizer state, data position, ledger, size and digest of every record.

A checkpoint is a folder whose ``state.json`` holds the SHA-256 of its other files and of the records up to it, and a
seal over itself.  The last two are kept: one that was damaged is passed over for the one before it.

No state of a random generator is among them.  Every draw has a seed of its own, hashed from the run's seed, the stage
and the step, so a step that is made again draws what it would have drawn.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
import shutil
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from bench.engine.adapters import own_parameters
from bench.engine.optimizers import restore_state, state_tensors
from bench.engine.ranks import ALONE, Ranks
from bench.engine.sharding import like
from bench.engine.tensor_files import give_parts, write_tensors
from bench.foreign import say
from bench.store.files import Fence, rename, sync, write_atomic
from bench.store.run_folder import CorruptRun, read_json, seal_of
from bench.types import UserError

PREFIX = "checkpoint-"
SECONDS = 30.0  # between two checkpoints at least, unless the environment says otherwise
SHARE = 1 / 20  # of the time that saving may take
INTERVAL = "BENCH_CHECKPOINT_SECONDS"
LAYOUT = 1  # of state.json; a checkpoint of another one cannot be resumed from
POLICY, OPTIMIZER, REFERENCE = "policy.safetensors", "optimizer.safetensors", "reference.safetensors"
KEPT = "selected.safetensors"  # the weights of the best validation so far
MEMORY = "memory.safetensors"  # what the method knows of earlier steps


def interval(last: float = 0.0) -> float:
    """Seconds between two checkpoints, the last of which took ``last`` seconds to save.

    UserError for a setting of the environment that is no number.
    """
    text = os.environ.get(INTERVAL, "")
    try:
        seconds = float(text or max(SECONDS, last / SHARE))
    except ValueError:
        seconds = math.nan
    if math.isnan(seconds):
        raise UserError(f"{INTERVAL}='{text}': expected a number of seconds, such as 30 or, after every step, 0")
    return seconds


def weights(model: Any) -> dict[str, torch.Tensor]:
    """What training changes, where it is: parameters by name (shared ones once), of the adapter if there is one."""
    return {name: p.detach() for name, p in own_parameters(model).items()}


def load_weights(model: Any, path: Path) -> None:
    """Copy saved parameters into a model in place, one by one."""
    with torch.no_grad(), safe_open(path, framework="pt") as file:
        for name, p in own_parameters(model).items():
            p.copy_(like(p, file.get_tensor(name)))


def copy_weights(model: Any, saved: Mapping[str, torch.Tensor]) -> None:
    """Copy parameters by name into a model in place."""
    with torch.no_grad():
        for name, p in own_parameters(model).items():
            p.copy_(saved[name])


class Written:
    """A reference model as it was when a checkpoint got it; it is not kept alive by that."""

    def __init__(self, model: Any) -> None:
        self.model, self.versions = weakref.ref(model), self.versions_of(model)

    @staticmethod
    def versions_of(model: Any) -> list[int]:
        return [p._version for p in model.parameters()]  # torch counts the changes in place of every tensor

    def is_still(self, model: Any) -> bool:
        return self.model() is model and self.versions == self.versions_of(model)


@dataclass(frozen=True)
class Saved:
    """A whole checkpoint: SHA-256 of its files by name, and of each record file what it held then."""

    path: Path
    state: dict[str, Any]
    files: Mapping[str, str]
    records: Mapping[str, Mapping[str, Any]]
    reference: Written | None = field(default=None, compare=False)  # whose weights the file of the reference holds


Check = Callable[[Mapping[str, Mapping[str, Any]]], None]  # raises CorruptRun unless these records are there


def _folders(path: Path) -> list[Path]:
    """The checkpoints of a run directory, whole or not, the newest first; no other file that looks like one."""
    found = [p for p in path.glob(f"{PREFIX}*") if re.fullmatch(r"\d+", p.name.removeprefix(PREFIX)) and p.is_dir()]
    return sorted(found, key=_number, reverse=True)


def _number(path: Path) -> int:
    return int(path.name.removeprefix(PREFIX))


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save(
    path: Path,
    model: Any,
    optimizer: torch.optim.Optimizer | None,
    reference: Any | None,
    state: dict[str, Any],
    previous: Saved | None = None,
    selected: bool = False,
    records: Mapping[str, Mapping[str, Any]] | None = None,
    fence: Fence | None = None,
    ranks: Ranks = ALONE,
    memory: Mapping[str, torch.Tensor] | None = None,
) -> Saved:
    """Write under another name and rename when all of it is on the disk: a kill never costs ``previous``.

    ``previous`` is the last whole checkpoint.  It stays beside the new one, and all others go first, so that there are
    never more than two.  ``selected``: these weights are the best validated so far; otherwise those of the previous
    checkpoint are handed on.  ``records``: what the record files hold by now; ``fence``: the right to write there.
    ``ranks``: all call this, and the first writes whole tensors one by one, so that any number of ranks can go on.
    """
    if not ranks.first:
        return follow(path, model, optimizer, state, ranks)
    # The numbers count up and never repeat, so that no checkpoint has to make room for its successor.
    old = _folders(path)
    final = path / f"{PREFIX}{_number(old[0]) + 1 if old else 1}"
    part = path / f"part-{PREFIX}{fence.token if fence else ''}"
    if fence is not None:
        fence.check()  # now: what a later owner saves is not among the old ones
    for folder in [*old, part]:
        if previous is None or folder != previous.path:
            remove(folder)
    part.mkdir()
    files = {POLICY: write_tensors(weights(model), part / POLICY)}
    if optimizer is not None:
        files[OPTIMIZER] = write_tensors(state_tensors(optimizer), part / OPTIMIZER)
    if reference is not None:
        files[REFERENCE] = save_reference(reference, part, previous)
    if memory:
        files[MEMORY] = write_tensors(memory, part / MEMORY)
    best = Saved(part, state, files, {}) if selected else previous
    if best is not None and (kept := best.files.get(POLICY if selected else KEPT)):
        hand_on(best.path / (POLICY if selected else KEPT), part / KEPT)
        files[KEPT] = kept
    content = {"layout": LAYOUT, "state": state, "files": files, "records": records or {}}
    write_atomic(part / "state.json", {**content, "seal": seal_of(content)})
    sync(part)
    rename(part, final, fence)
    sync(path)
    ranks.of_first([final.name, files])
    return Saved(final, state, files, records or {}, None if reference is None else Written(reference))


def follow(
    path: Path, model: Any, optimizer: torch.optim.Optimizer | None, state: dict[str, Any], ranks: Ranks
) -> Saved:
    """``save`` on a rank that does not write: hand over what it has, and learn what was written."""
    give_parts(weights(model))
    if optimizer is not None:
        give_parts(state_tensors(optimizer))
    name, files = ranks.of_first(None)
    return Saved(path / name, state, files, {})


def save_reference(reference: Any, part: Path, previous: Saved | None) -> str:
    """Write the reference model, or hand on what the previous checkpoint has of it; the file's SHA-256."""
    if previous is None or previous.reference is None or not previous.reference.is_still(reference):
        return write_tensors(weights(reference), part / REFERENCE)
    hand_on(previous.path / REFERENCE, part / REFERENCE)
    return previous.files[REFERENCE]


def remove(folder: Path) -> None:
    """Drop a folder that nobody needs; what a file system does not give up yet goes the next time."""
    shutil.rmtree(folder, ignore_errors=True)


def hand_on(source: Path, target: Path) -> None:
    """Give a file a second name (a hard link); copy it where the file system has no links."""
    # A link costs nothing, however large the weights are.  It is safe because neither name is ever written again.
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    sync(target)


def read(folder: Path) -> Saved:
    """A checkpoint whose files are those that were written; CorruptRun otherwise."""
    content = read_json(folder / "state.json")
    if content.get("layout") != LAYOUT:
        raise CorruptRun("state.json was written by another version of bench")
    if content.get("seal") != seal_of(content):
        raise CorruptRun("state.json was changed")
    for name, digest in content["files"].items():
        check_file(folder / name, digest)
    return Saved(folder, content["state"], content["files"], content["records"])


def check_file(path: Path, digest: str) -> None:
    """CorruptRun unless the file has this SHA-256."""
    if not path.exists():
        raise CorruptRun(f"{path.name} is missing")
    if file_sha256(path) != digest:
        raise CorruptRun(f"{path.name} was changed")


def last_good(path: Path, check: Check | None = None) -> Saved | None:
    """The newest whole checkpoint whose records are there too; None if there is no checkpoint at all.

    CorruptRun if there are some, but none is whole.  Nothing is changed.
    """
    faults: list[str] = []
    for folder in _folders(path):
        try:
            saved = read(folder)
            if check is not None:
                check(saved.records)
        except (CorruptRun, OSError) as fault:
            faults.append(f"{folder.name}: {fault}")
            continue
        if faults:
            say(f"warning: {'; '.join(faults)}: resumed from {folder.name}", error=True)
        return saved
    if faults:
        raise CorruptRun("; ".join(faults))
    return None


def last_good_for_all(path: Path, check: Check, ranks: Ranks) -> Saved | None:
    """``last_good`` as the first rank finds it, for all ranks: none goes on before all have read it."""
    saved = last_good(path, check) if ranks.first else None
    name = ranks.of_first(None if saved is None else saved.path.name)
    if name is not None and not ranks.first:
        saved = read(path / name)
    ranks.objects(None)
    return saved


def restore_optimizer(saved: Saved, optimizer: torch.optim.Optimizer) -> None:
    """Give an optimizer its saved state; one that had none when it was saved stays as it is."""
    if OPTIMIZER not in saved.files:
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    tensors: dict[str, torch.Tensor] = {}
    with safe_open(saved.path / OPTIMIZER, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - not a mapping
            value = file.get_tensor(name)
            # Moments go to their device one by one; where counters belong the optimizer decides.
            tensors[name] = like(parameters[int(name.partition(".")[0])], value) if value.dim() else value
    restore_state(optimizer, tensors)


def restore_stage(saved: Saved, optimizer: torch.optim.Optimizer, memory: dict[str, torch.Tensor]) -> None:
    """Give an optimizer its saved state, and fill ``memory`` with what the method knew then."""
    restore_optimizer(saved, optimizer)
    if MEMORY in saved.files:
        memory.update(load_file(saved.path / MEMORY))


def clear(path: Path) -> None:
    """Drop all checkpoints of a finished run."""
    for folder in [*_folders(path), path / f"part-{PREFIX}"]:
        remove(folder)
