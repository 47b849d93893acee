"""Options of commands that start runs: where, how many at a time, and what stays."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated

from bench.cli.options import DryRun, Execute, Output, Workers
from bench.plan.registry import check_choice
from bench.store.run_folder import KEEPS, LAST, NONE
from bench.types import UserError

if TYPE_CHECKING:
    from bench.schedule.placement import Placement


@dataclass(frozen=True)
class Placing:
    """Where runs are started, and how many at a time."""

    executor: Annotated[str, Execute(help="local, ray (a running cluster) or slurm.")] = "local"
    workers: Workers = 0
    devices: Annotated[str | None, Execute(help="CUDA devices: all (also if not given), 0-3, 0,2 or UUIDs.")] = None
    per_device: Annotated[
        int | None, Execute(min=1, max=64, metavar="N", help="Runs at a time on one CUDA device; 1 if not given.")
    ] = None

    address: Annotated[str | None, Execute(metavar="TEXT", help="Of the Ray cluster: auto, or HOST:PORT.")] = None
    partition: Annotated[str | None, Execute(metavar="NAME", help="Of Slurm; its default if not given.")] = None
    time: Annotated[str | None, Execute(metavar="HH:MM", help="Limit of one Slurm job; a run may take several.")] = None
    slurm: Annotated[list[str] | None, Execute(metavar="TEXT", help="OPTION=VALUE of sbatch, repeatable.")] = None

    def placement(self) -> Placement:
        """The choice; UserError if it cannot be followed."""
        from bench.schedule.placement import Placement

        same = {field.name: getattr(self, field.name) for field in fields(Placing)}
        placement = Placement(**{**same, "slurm": self.slurm or ()})
        placement.check()
        return placement


@dataclass(frozen=True)
class Keeping:
    """Which trained models stay."""

    keep: Annotated[str | None, Output(help="Policy of a run that stays: none, selected or, by default, last.")] = None
    save_policy: Annotated[bool | None, Output(help="The same as --keep last, or none.")] = None

    @property
    def policy(self) -> str:
        """Which policy is kept; UserError for an unknown one, and for two answers."""
        if self.keep is None:
            return NONE if self.save_policy is False else LAST
        check_choice(self.keep, KEEPS, "policy to keep")
        if self.save_policy is not None:
            raise UserError("--keep and --save-policy answer the same question: expected one of them")
        return self.keep


@dataclass(frozen=True)
class Starting(Placing, Keeping):
    """How runs are started and whether their models are kept."""

    preflight: Annotated[bool, Execute(help="First check what no passport of this stack covers yet (seconds).")] = True
    dry_run: DryRun = False
