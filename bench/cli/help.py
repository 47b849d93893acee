"""How commands are registered, so that their help pages read well at any width."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption

from bench.types import UserError

FEW = 8  # options that need no panels
MAY_BE_EMPTY = {"answer"}  # a completion to be judged


class Command(TyperCommand):
    """A command whose options stand in panels only if there are many; ``--help`` is in the last one."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        options = [parameter for parameter in self.params if isinstance(parameter, TyperOption)]
        for option in options if len(options) <= FEW else []:
            option.rich_help_panel = None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given, _, order = self.make_parser(ctx).parse_args(args=list(args))
        if not given.get("help"):
            check_given(given, order)
        return super().parse_args(ctx, args)

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)
        if option is not None and self.params:
            option.rich_help_panel = getattr(self.params[-1], "rich_help_panel", None)  # type: ignore[attr-defined]
        return option


def check_given(given: Mapping[str, Any], order: Sequence[Any]) -> None:
    """UserError for words that click would take silently: an empty value, an option given twice, two formats."""
    for parameter in dict.fromkeys(order):
        name = parameter.opts[0] if isinstance(parameter, TyperOption) else parameter.name.upper()
        value = given[parameter.name]
        values = value if isinstance(value, list | tuple) else [value]
        if parameter.name not in MAY_BE_EMPTY and any(isinstance(v, str) and not v.strip() for v in values):
            raise UserError(f"{name} is empty: give it a value, or leave it out")
        if isinstance(parameter, TyperOption) and not parameter.multiple and order.count(parameter) > 1:
            raise UserError(f"{name} is given {order.count(parameter)} times: expected once")
    if given.get("as_json") and given.get("format", "json") != "json":
        raise UserError(f"--json and --format {given['format']} are two formats: expected one of them")


def register(app: typer.Typer, name: str, function: Callable[..., None], panel: str | None = None) -> None:
    """Add a command; the paragraphs of its docstring wrap to the terminal instead of keeping their line breaks."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    app.command(name, cls=Command, help=text, rich_help_panel=panel)(function)
