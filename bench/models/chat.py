"""What a chat template writes around a prompt: the same every day, and with a digest."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from bench.types import UserError

TODAY = datetime(2025, 1, 1)  # what a chat template that writes the date is told, whenever a run is made
PLACE = "\x00"  # stands for the prompt


def render_chat(tokenizer: Any, prompt: str) -> str:
    """A prompt as the user's turn, up to where the completion begins; UserError without a chat template.

    A template that asks for the date gets a fixed one: prompts must not change overnight.
    """
    if not tokenizer.chat_template:
        raise UserError("this model's tokenizer has no chat template: use --template plain")
    turn = [{"role": "user", "content": prompt}]
    date = {"date_string": TODAY.strftime("%d %b %Y"), "strftime_now": TODAY.strftime}
    return str(tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False, **date))


def chat_prefix(tokenizer: Any) -> str | None:
    """What the template writes before the prompt, such as a system prompt of its own; None without a template."""
    return render_chat(tokenizer, PLACE).partition(PLACE)[0] if tokenizer.chat_template else None


def chat_digest(tokenizer: Any) -> str:
    """Hash of all that the template writes around a prompt."""
    return hashlib.blake2b(render_chat(tokenizer, PLACE).encode(), digest_size=6).hexdigest()
