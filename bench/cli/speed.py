"""`bench speed`: the same work by bench and by other programs, in alternating turns."""

from __future__ import annotations

from typing import Annotated

import typer

from bench.cli.options import Device, Execute, Json, Limit, Output
from bench.foreign import say, say_json


def speed(
    model: Annotated[
        str, typer.Option(help="tiny, one of 'bench models', a directory, or random weights: shape:qwen2.5-0.5b.")
    ] = "tiny",
    parts: Annotated[
        str | None, typer.Option(help="sft, grpo, grpo-update, sample, evaluate, verify, problems; all if left out.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="trl, hf, vllm, lm-eval, math-verify, reasoning-gym; all if left out.")
    ] = None,
    rows: Annotated[
        int, Limit(min=8, max=65_536, metavar="N", help="Rows of a step, a call or an evaluation: groups of eight.")
    ] = 32,
    tokens: Annotated[int, Limit(min=2, max=100_000, metavar="N", help="Tokens of a completion.")] = 32,
    seconds: Annotated[float, Limit(min=0, max=86_400, help="Of turns for each part; at least three are taken.")] = 20,
    threads: Annotated[int, Execute(min=1, max=1024, metavar="N", help="Torch threads of each side.")] = 1,
    device: Device = "auto",
    profile: Annotated[bool, Output("--profile", help="Say which operators take the time of each side.")] = False,
    as_json: Json = False,
) -> None:
    """Measure bench beside TRL, transformers, vLLM, lm-eval, math-verify and reasoning-gym.

    A process for each side, taking turns on the same weights, token ids and lengths: rates per second of the processor
    and by the clock, ratios turn by turn, memory, and the share of the machine's matrix rate. What is not installed is
    named.
    """
    from bench.speed.measure import measure
    from bench.speed.sides import chosen_parts, chosen_rivals, pairs
    from bench.speed.table import lines
    from bench.speed.work import GROUP, Sizes
    from bench.study.jobs import choose_device
    from bench.types import UserError

    chosen = pairs(chosen_parts(parts), chosen_rivals(against))
    if rows % GROUP:
        raise UserError(
            f"--rows {rows} is not valid: expected a multiple of {GROUP}, since {GROUP} rows share a prompt"
        )
    sizes = Sizes(rows, tokens, seconds, threads, choose_device(device))
    record = measure(model, chosen, sizes, profile, lambda text: say(text, error=True))
    if as_json:
        say_json(record)
    else:
        say(lines(record))
