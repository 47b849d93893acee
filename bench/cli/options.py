"""Options that several commands share, the panels that group them in ``--help``, and what reads them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from bench.foreign import say, say_json
from bench.plan.registry import check_choice
from bench.store.run_folder import DEFAULT_RESULTS
from bench.types import UserError

if TYPE_CHECKING:
    from bench.plan.spec import Evaluation
    from bench.study.jobs import Spec

FORMATS = ("table", "markdown", "csv", "json", "latex", "html")
PANELS = ("What to compare", "Budget and lengths", "Data", "Evaluation", "Execution", "Output")
MAX_ITEMS, MAX_SAMPLES, MAX_SEED = 100_000, 1_000, 2**63 - 1
Compare, Limit, Data, Evaluate, Execute, Output = (partial(typer.Option, rich_help_panel=panel) for panel in PANELS)

Items = partial(Evaluate, max=MAX_ITEMS, metavar="N")

Methods = Annotated[
    str, Compare(show_default=False, help="Comma-separated: uft,sft; variants uft:r3; pipelines sft@0.3+grpo.")
]
Model = Annotated[str, Compare(help="tiny (embedded), one of `bench models`, a directory, or a hub name.")]
Seeds = Annotated[str, Compare(help="Number of seeds, or a list such as 0,1,2.")]
Device = Annotated[str, Execute(help="auto, cpu or cuda.")]
Workers = Annotated[
    int,
    Execute(min=0, max=1024, metavar="N", help="Runs at a time; 0: as many as fit the cores, or all slots on CUDA."),
]
DryRun = Annotated[bool, Execute(show_default=False, help="Print the runs and their cost; start nothing.")]
Results = Annotated[Path, Output(help="Folder of run directories.")]
Format = Annotated[str, Output(help=f"One of {', '.join(FORMATS)}.")]
Json = Annotated[bool, Output("--json", help="Machine-readable output.")]


# --- groups of options: a command that takes one has an option for each of its fields -----------------------------


@dataclass(frozen=True)
class Training:
    """What is trained on what, under which budget; the options of every command that plans or starts runs."""

    recipe: Annotated[
        str | None, Compare(help="Settings by name, see 'bench recipes', or a .toml file; other options win.")
    ] = None
    task: Annotated[str, Compare(help="Comma-separated task names.")] = "countdown"
    model: Model = "tiny"
    set_: Annotated[list[str] | None, Compare("--set", metavar="TEXT", help="METHOD.FIELD=VALUE, repeatable.")] = None
    lora: Annotated[str | None, Compare(metavar="RANK[:ALPHA]", help="Train a LoRA adapter alone.")] = None
    optimizer: Annotated[str, Compare(help="adamw, or adamw8bit with moments of 8 bits.")] = "adamw"
    budget: Annotated[str | None, Limit(help="2e14flops, 3Mtokens, 300s, 200steps or 500rollouts.")] = None
    max_new_tokens: Annotated[
        int | None, Limit(min=1, max=1_000_000, metavar="N", help="Longest completion, in tokens.")
    ] = None
    micro_batch_tokens: Annotated[
        int | None, Limit(min=1, max=1_000_000, metavar="N", help="Tokens of one micro-batch.")
    ] = None
    level: Annotated[str | None, Data(help="Difficulty level of the task.")] = None
    template: Annotated[str | None, Data(help="Prompt format: compact, plain or chat.")] = None
    data: Annotated[
        str | None, Data(help="Problems from a parquet, JSONL, CSV or Arrow file, a folder, or owner/name@split.")
    ] = None
    columns: Annotated[str | None, Data(help="Other names of columns: answer=solution.")] = None
    skip_broken: Annotated[bool, Data(show_default=False, help="Leave unreadable rows of --data out.")] = False
    split_by: Annotated[
        str | None, Data(help="Keep problems that share this key in one split: see 'bench tasks show'.")
    ] = None
    train_size: Annotated[
        int | None, Data(min=1, max=1_000_000, metavar="N", help="Examples in the training pool.")
    ] = None
    device: Device = "auto"
    threads: Annotated[int, Execute(min=1, max=1024, metavar="N", help="Torch threads per run.")] = 1
    devices_per_run: Annotated[int, Execute(min=1, max=64, metavar="N", help="Devices, or processes, of a run.")] = 1
    packing: Annotated[bool | None, Execute(help="Rows end to end, not padded; on a GPU by default.")] = None
    reference: Annotated[str, Execute(help="Reference model of KL terms on a GPU: auto, device or offload.")] = "auto"
    recompute: Annotated[
        str, Execute(help="Compute activations again instead of keeping them: none, full, or auto, as memory demands.")
    ] = "auto"
    sampler: Annotated[str, Execute(help="What samples: torch, or vllm (extra).")] = "torch"
    results: Results = DEFAULT_RESULTS

    def spec(self, methods: str, seeds: str, evaluation: Evaluation, here: bool = True) -> Spec:
        """The specification of these methods and seeds; UserError without any method or task.

        ``here``: whether the runs are made on this machine.
        """
        from bench.plan.data import Source, parse_columns
        from bench.study.jobs import Spec, parse_seeds, split_names

        names, tasks = split_names(methods, "method"), split_names(self.task, "task")
        if not names or not tasks:
            raise UserError("no methods or no tasks given: for example --methods uft,sft --task countdown")
        same = {field.name: getattr(self, field.name) for field in fields(Spec) if hasattr(self, field.name)}
        for option, given in (("--columns", self.columns), ("--skip-broken", self.skip_broken)):
            if given and self.data is None:
                raise UserError(f"{option} is about a data file: give --data with it, or leave it out")
        data = None if self.data is None else Source(self.data, parse_columns(self.columns), self.skip_broken)
        own = {"methods": names, "tasks": tasks, "seeds": parse_seeds(seeds), "evaluation": evaluation, "here": here}
        return Spec(**{**same, **own, "data": data, "settings": self.set_ or (), "tell": Notes()})

    def presets(self) -> dict[str, dict[str, Any]]:
        """Hyper-parameters by method that the model or the recipe brings."""
        from bench.models import locate, model_settings
        from bench.plan.recipes import merged

        return merged(model_settings(locate(self.model).path).get("methods", {}), self.recipe)


class Notes:
    """What a command decides by itself, each thing once, for standard error: not before the input is found good."""

    def __init__(self) -> None:
        self.said: dict[str, bool] = {}
        self.shown = False

    def __call__(self, note: str) -> None:
        self.said.setdefault(note, False)
        if self.shown:
            self.show()

    def show(self) -> None:
        """Print what was held back; later notes are printed at once."""
        self.shown = True
        for note, printed in self.said.items():
            if not printed:
                say(f"note: {note}", error=True)
            self.said[note] = True


@dataclass(frozen=True)
class Batching:
    """Whether batches follow the budget."""

    batch: Annotated[
        str | None,
        Limit(metavar="TEXT", help="auto: shrink batches until a step of any method costs 1/50 of the budget."),
    ] = None

    def checked(self) -> str | None:
        """The choice; UserError if it is none."""
        if self.batch is not None:
            check_choice(self.batch, ("auto",), "batch")
        return self.batch


@dataclass(frozen=True)
class Judging:
    """How many problems and samples a trained model is judged on."""

    test_items: Annotated[int, Items(min=2, help="Held-out problems of the final evaluation.")] = 500
    test_samples: Annotated[
        int, Evaluate(min=1, max=MAX_SAMPLES, metavar="N", help="Samples per held-out problem.")
    ] = 4
    val_items: Annotated[int, Items(min=2, help="Problems of each validation.")] = 200
    ood_items: Annotated[int, Items(min=0, help="Problems of a harder level; 0: none.")] = 200
    reworded_items: Annotated[int, Items(min=0, help="Test problems in other words; 0: none.")] = 200
    other_items: Annotated[int, Items(min=0, help="Problems of each other task; 0: none.")] = 100
    skill_items: Annotated[int, Items(min=0, help="Problems of each base skill; 0: none.")] = 100

    def evaluation(self) -> Evaluation:
        """The sizes of all evaluations; a validation takes as many samples per problem as the test."""
        from bench.plan.spec import Evaluation

        sizes = {field.name: getattr(self, field.name) for field in fields(self)}
        return Evaluation(val_samples=self.test_samples, **sizes)


@dataclass(frozen=True)
class Tuning:
    """Whether methods take the best settings of earlier trials, and of which."""

    tuned: Annotated[bool, Compare("--tuned", help="Use the best settings that 'bench tune' found.")] = False
    tuning: Annotated[Path | None, Compare(help="File of 'bench tune' to use, if there are several.")] = None


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command with every parameter that is such a group replaced by one keyword per field of the group."""
    kinds = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in kinds.items() if is_dataclass(kind) and isinstance(kind, type)}
    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in groups:
            parameters += group_options(groups[parameter.name])
        else:
            parameters.append(parameter.replace(annotation=kinds[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY))

    @wraps(command)
    def flat(context: typer.Context, **given: Any) -> None:
        if given.get("recipe"):
            given |= recipe_options(given, context)
        built = {name: kind(**{f.name: given.pop(f.name) for f in fields(kind)}) for name, kind in groups.items()}
        command(**built, **given)

    parameters.sort(key=panel_place)
    parameters.insert(0, inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context))
    flat.__annotations__ = {p.name: p.annotation for p in parameters}
    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return flat


def recipe_options(given: dict[str, Any], context: typer.Context) -> dict[str, Any]:
    """The recipe's options that this command has and that the command line leaves open."""
    from bench.plan.recipes import load_recipe

    options = load_recipe(given["recipe"]).options
    typed = {name for name in given if getattr(context.get_parameter_source(name), "name", "") != "DEFAULT"}
    return {k: str(v) if k == "seeds" else v for k, v in options.items() if k in given.keys() - typed}


def panel_place(parameter: inspect.Parameter) -> int:
    """The place of an option's panel; what has none, such as an argument, comes first."""
    titles = [getattr(note, "rich_help_panel", None) for note in getattr(parameter.annotation, "__metadata__", ())]
    return max((PANELS.index(title) for title in titles if title in PANELS), default=-1)


def group_options(group: type) -> list[inspect.Parameter]:
    """The fields of a group as keywords."""
    kinds = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=kinds[f.name])
        for f in fields(group)
    ]


# --- what reads single options -------------------------------------------------------------------------------------


def check_format(format: str, as_json: bool) -> str:
    """The format to print; UserError for an unknown one."""
    check_choice(format, FORMATS, "format")
    return "json" if as_json else format


def emit(value: Any, as_json: bool, text: str) -> None:
    """Print a record as JSON, or the text that says the same to people."""
    if as_json:
        say_json(value)
    else:
        say(text)


def existing(results: Path) -> Path:
    """The results folder; UserError if there is none."""
    if not results.exists():
        raise UserError(f"results folder '{results}' does not exist: run 'bench run' first or give --results")
    if not results.is_dir():
        raise UserError(f"'{results}' is a file: expected a folder of run directories")
    return results
