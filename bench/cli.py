"""The command line: reads options, builds a Spec, prints results.  Imports nothing heavy before a command needs it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.cli_eval import evaluate
from bench.cli_tasks import emit, show_tasks
from bench.store import DEFAULT_RESULTS
from bench.types import UserError

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compare post-training methods for language models under identical budgets on verifiable tasks.",
)
UsageError: Any = typer.BadParameter.__base__  # older releases of typer take it from click, newer ones hold a copy
PARITY = DEFAULT_RESULTS.parent / "published" / "parity"
FORMATS = ("table", "markdown", "csv", "json", "latex")

Results = Annotated[Path, typer.Option(help="Folder of run directories.")]
Format = Annotated[str, typer.Option(help=f"One of {', '.join(FORMATS)}.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output (same as --format json).")]


def check_format(format: str, as_json: bool) -> str:
    if format not in FORMATS:
        from bench.registry import nearest

        raise nearest(format, FORMATS, "format")
    return "json" if as_json else format


def parse_seeds(text: str) -> list[int]:
    """``3`` means seeds 0, 1, 2; ``0,4,7`` means these."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"malformed seeds '{text}': expected a number of seeds (3) or a list (0,1,2)") from None
    seeds = list(range(numbers[0])) if len(numbers) == 1 and "," not in text else numbers
    if not seeds or min(seeds) < 0:
        raise UserError(f"malformed seeds '{text}': expected at least one seed, none negative")
    return list(dict.fromkeys(seeds))


@app.command()
def run(
    methods: Annotated[str, typer.Option(help="Comma-separated: uft,sft, variants uft:r3, pipelines sft@0.3+grpo.")],
    task: Annotated[str, typer.Option(help="Comma-separated task names.")] = "countdown",
    seeds: Annotated[str, typer.Option(help="Number of seeds, or a list such as 0,1,2.")] = "3",
    model: Annotated[str, typer.Option(help="tiny (embedded), a directory, or a hub name.")] = "tiny",
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
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Longest completion, in tokens.")] = None,
    micro_batch_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens of one forward and backward.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
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


@app.command()
def leaderboard(
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    split: Annotated[str, typer.Option(help="test, val, ood, reworded or other:TASK.")] = "test",
    results: Results = DEFAULT_RESULTS,
    format: Format = "table",
    as_json: Json = False,
) -> None:
    """Print the tables of all finished runs in a results folder."""
    shape = check_format(format, as_json)
    from bench import registry
    from bench.command import print_board
    from bench.records import load_results

    if not results.exists():
        raise UserError(f"results folder '{results}' does not exist: run 'bench run' first or give --results")
    known = ("test", "val", "ood", "reworded", *(f"other:{name}" for name in registry.built_in("tasks")))
    if split not in known:
        raise registry.nearest(split, known, "split")
    records, bad = load_results(results, split)
    print_board([r for r in records if task is None or r.task == task], bad, shape)


@app.command()
def preflight(
    model: Annotated[str, typer.Option(help="tiny (embedded), a directory, or a hub name.")] = "tiny",
    methods: Annotated[
        str | None, typer.Option(help="Comma-separated, as for run; all that train if left out.")
    ] = None,
    task: Annotated[str, typer.Option(help="Task whose problems are used.")] = "countdown",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    results: Results = DEFAULT_RESULTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the passport itself.")] = False,
) -> None:
    """Check on this machine what a correct implementation satisfies, and write the passport of its stack.

    Masks, losses, gradients over micro-batches, schedules, sampler, evaluation; exit code 1 if any check fails.
    """
    from bench.preflight import command, default_spec

    sys.exit(command(default_spec(model, task, device, results), methods, as_json))


@app.command()
def plot(
    out: Annotated[Path, typer.Argument(help="Figure to write: .svg, .pdf or .png.")],
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    results: Results = DEFAULT_RESULTS,
) -> None:
    """Draw the learning curves of all finished runs: validation accuracy against the share of the budget spent."""
    from bench.curves import plot as draw
    from bench.records import load_results

    if not results.exists():
        raise UserError(f"results folder '{results}' does not exist: run 'bench run' first or give --results")
    records, _ = load_results(results, "val")
    for path in draw([r for r in records if task is None or r.task == task], out):
        print(path)


@app.command("methods")
def show_methods(
    name: Annotated[str | None, typer.Argument(help="One method, in full.")] = None,
    as_json: Json = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The page of docs/methods.md; all without NAME.")
    ] = False,
) -> None:
    """List the registered methods, or show one: equation, data flow, fields, defaults, variants and parity.

    --json without NAME gives the sheets of all methods.
    """
    from bench import catalogue, registry

    names = registry.names("methods")
    if markdown:
        from bench.method_pages import page, pages

        print(page(catalogue.method_sheet(name)) if name else pages(), end="")
        return
    if name is not None:
        sheet = catalogue.method_sheet(name)
        emit(sheet, as_json, catalogue.method_text(sheet))
        return
    if as_json:
        emit(catalogue.method_sheets(), True, "")
        return
    lines = [f"{n:<14} {registry.summary('methods', n)}" for n in names]
    lines += ["", "Join methods to a pipeline that shares the budget: sft+grpo, sft@0.3+grpo."]
    print("\n".join([*lines, "One method in full: bench methods NAME."]))


app.command("tasks")(show_tasks)
app.command("eval")(evaluate)


@app.command()
def pretrain(
    out: Annotated[Path, typer.Argument(help="Directory for the model, tokenizer and recipe.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the weights and of the corpus.")] = 0,
    scale: Annotated[float, typer.Option(min=0.0, help="Length of every stage, as a share of the recipe.")] = 1.0,
) -> None:
    """Make the embedded base model from nothing (about 20 minutes of one core); resumes when started again."""
    from bench.command import pretrain_with_bar

    pretrain_with_bar(out, seed, scale)


@app.command()
def parity(
    methods: Annotated[
        str, typer.Option(help="Comma-separated: sft, dft, grpo (all of its losses) or one, such as grpo:dapo.")
    ] = "sft,dft,grpo",
    model: Annotated[str, typer.Option(help="tiny (embedded), a directory, or a hub name.")] = "tiny",
    steps: Annotated[int, typer.Option(min=1, help="Training steps of each comparison.")] = 20,
    out: Annotated[Path, typer.Option(help="Folder of the records, one JSON file per comparison.")] = PARITY,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records instead of the table.")] = False,
) -> None:
    """Train in TRL and here from the same weights and rows and compare losses; exit code 1 if they differ.

    Needs the extra trl. Its figures never enter leaderboards.
    """
    from bench import parity as referee
    from bench.plan import split_names

    sys.exit(referee.show(referee.run(split_names(methods), model, steps, out), as_json))


def main() -> None:
    """Entry point: bad input ends with one line and exit code 2."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except UsageError as error:  # of the options themselves
        command = f" (see '{error.ctx.command_path} --help')" if error.ctx else ""
        print(f"error: {' '.join(error.format_message().split()).rstrip('.')}{command}", file=sys.stderr)
        code = 2
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
