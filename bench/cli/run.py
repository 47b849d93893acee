"""`bench run`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bench.cli.options import Device, Format, Json, Model, Results, check_format, parse_seeds
from bench.store import DEFAULT_RESULTS
from bench.types import UserError


def run(
    methods: Annotated[str, typer.Option(help="Comma-separated: uft,sft, variants uft:r3, pipelines sft@0.3+grpo.")],
    task: Annotated[str, typer.Option(help="Comma-separated task names.")] = "countdown",
    seeds: Annotated[str, typer.Option(help="Number of seeds, or a list such as 0,1,2.")] = "3",
    model: Model = "tiny",
    budget: Annotated[
        str | None, typer.Option(help="2e14flops, 3Mtokens, 300s, 200steps or 500rollouts, for every run.")
    ] = None,
    level: Annotated[str | None, typer.Option(help="Difficulty level of the task.")] = None,
    template: Annotated[str | None, typer.Option(help="Prompt format: compact, plain or chat.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Problems from a parquet, JSONL or Arrow file, a folder, or owner/name@split.")
    ] = None,
    columns: Annotated[str | None, typer.Option(help="Other names of columns: answer=solution,nums=numbers.")] = None,
    skip_broken: Annotated[bool, typer.Option(help="Leave unreadable rows of --data out.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="METHOD.FIELD=VALUE, repeatable.")] = None,
    train_size: Annotated[int | None, typer.Option(min=1, help="Examples in the training pool.")] = None,
    test_items: Annotated[int, typer.Option(min=2, help="Held-out problems of the final evaluation.")] = 500,
    test_samples: Annotated[int, typer.Option(min=1, help="Samples per held-out problem.")] = 4,
    val_items: Annotated[int, typer.Option(min=2, help="Problems of each validation.")] = 200,
    ood_items: Annotated[int, typer.Option(min=0, help="Problems of a harder level at the end; 0: none.")] = 200,
    reworded_items: Annotated[int, typer.Option(min=0, help="Test problems in other words; 0: none.")] = 200,
    other_items: Annotated[int, typer.Option(min=0, help="Problems of each other task; 0: none.")] = 100,
    skill_items: Annotated[int, typer.Option(min=0, help="Problems of each base skill; 0: none.")] = 100,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Longest completion, in tokens.")] = None,
    micro_batch_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of one forward and backward.")] = None,
    device: Device = "auto",
    threads: Annotated[int, typer.Option(min=1, help="Torch threads per run.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Runs at a time; 0: as many as fit the cores.")] = 0,
    results: Results = DEFAULT_RESULTS,
    save_policy: Annotated[bool, typer.Option(help="Keep the trained model of every run.")] = True,
    dry_run: Annotated[bool, typer.Option(help="Print the runs and what they will cost, start nothing.")] = False,
    format: Format = "table",
    as_json: Json = False,
) -> None:
    """Train every method on every task with every seed under one budget, evaluate, and print the leaderboard.

    Finished runs are reused, interrupted ones resume: the same command is safe to repeat.
    """
    shape = check_format(format, as_json)
    from bench.data import Source, parse_columns
    from bench.plan import Spec, jobs, split_names
    from bench.spec import Evaluation

    evaluation = Evaluation(
        val_items=val_items,
        val_samples=test_samples,
        test_items=test_items,
        test_samples=test_samples,
        ood_items=ood_items,
        reworded_items=reworded_items,
        other_items=other_items,
        skill_items=skill_items,
    )
    spec = Spec(
        methods=split_names(methods),
        tasks=split_names(task),
        seeds=parse_seeds(seeds),
        model=model,
        budget=budget,
        level=level,
        template=template,
        data=Source(data, parse_columns(columns), skip_broken) if data else None,
        train_size=train_size,
        max_new_tokens=max_new_tokens,
        settings=set_ or (),
        evaluation=evaluation,
        device=device,
        threads=threads,
        micro_batch_tokens=micro_batch_tokens,
        results=results,
    )
    if not spec.methods or not spec.tasks:
        raise UserError("no methods or no tasks given: for example --methods uft,sft --task countdown")
    from bench.command import plan_and_run

    try:
        code = plan_and_run(spec, jobs(spec), workers, save_policy, dry_run, shape)
    except KeyboardInterrupt:
        print("interrupted: the same command reuses finished runs and resumes the others", file=sys.stderr)
        code = 130
    sys.exit(code)
