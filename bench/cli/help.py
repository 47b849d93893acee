"""How commands are registered, so that their help pages read well at any width."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption

FEW = 8  # options that need no panels


class Command(TyperCommand):
    """A command whose options stand in panels only if there are many; ``--help`` is in the last one."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        options = [parameter for parameter in self.params if isinstance(parameter, TyperOption)]
        for option in options if len(options) <= FEW else []:
            option.rich_help_panel = None

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)
        if option is not None and self.params:
            option.rich_help_panel = getattr(self.params[-1], "rich_help_panel", None)  # type: ignore[attr-defined]
        return option


def register(app: typer.Typer, name: str, function: Callable[..., None], panel: str | None = None) -> None:
    """Add a command; the paragraphs of its docstring wrap to the terminal instead of keeping their line breaks."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    app.command(name, cls=Command, help=text, rich_help_panel=panel)(function)
