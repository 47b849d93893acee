"""What a checkpoint costs: ``python -m benchmarks.checkpoints [--model smollm2] [--saves 4]``.

Weights, both moments of AdamW and a reference model are saved several times, as a run does it.  Printed are seconds,
processor seconds, the bytes that went to the disk, and by how much the process grew.  The second save has the best
weights so far.
"""

from __future__ import annotations

import copy
import resource
import tempfile
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from bench.engine import checkpoint
from bench.engine.policy import load_model
from bench.foreign import say
from bench.models import model_path


def written() -> int:
    """Bytes that this process has sent to disks."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("write_bytes:")).split()[1])


def main(
    model: Annotated[str, typer.Option(help="As bench run takes it.")] = "smollm2",
    saves: Annotated[int, typer.Option(min=1)] = 4,
    folder: Annotated[Path, typer.Option(help="On the disk that is to be measured.")] = Path(),
) -> None:
    torch.set_num_threads(1)
    policy, _ = load_model(model_path(model))
    reference = copy.deepcopy(policy).requires_grad_(False)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-5)
    ids = torch.arange(16).unsqueeze(0)
    policy(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        saved = None
        for number in range(saves):
            begin, processor, before = time.perf_counter(), time.process_time(), written()
            saved = checkpoint.save(Path(out), policy, optimizer, reference, {}, saved, selected=number == 1)
            used = f"{time.perf_counter() - begin:.1f} s, {time.process_time() - processor:.1f} s of processor time"
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
            amount = f"{(written() - before) / 1e6:.0f} MB written"
            say(f"save {number + 1}: {used}, {amount}, at most {most:.2f} GB of memory")
        sizes = {s.st_ino: s.st_size for s in (p.stat() for p in Path(out).rglob("*") if p.is_file())}
        say(f"{sum(sizes.values()) / 1e6:.0f} MB on the disk")


if __name__ == "__main__":
    typer.run(main)
