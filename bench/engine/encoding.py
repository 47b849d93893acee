"""Prompt and demonstration as the tokens that the model's own tokenizer makes of the whole text.

Pieces that are tokenised apart give sequences that a model never saw: "." and "Ġ" and "Then" for "." and "ĠThen".
Methods that raise the likelihood of demonstrations would learn them, reinforcement learning would not.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from bench.models.chat import render_chat
from bench.types import Example, UserError


def render(tokenizer: PreTrainedTokenizerBase, prompt: str, template: str) -> str:
    """The text that stands before a completion; with the template "chat" by the tokenizer's chat template."""
    return render_chat(tokenizer, prompt) if template == "chat" else prompt


@lru_cache(maxsize=4)
def bare(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """The tokenizer without what it adds around a text; its offsets are exact, where a post-processor trims blanks."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(
            f"the tokenizer {type(tokenizer).__name__} cannot say which text a token covers: expected a fast one"
        )
    copy = Tokenizer.from_str(backend.to_str())
    copy.post_processor = None
    copy.no_truncation()
    copy.no_padding()
    return copy


def at_end(ids: list[int], token: int | None) -> int:
    """How many times a token stands at the end."""
    return next((n for n, i in enumerate(reversed(ids)) if i != token), len(ids))


def encode(tokenizer: PreTrainedTokenizerBase, example: Example, template: str = "plain") -> Example:
    """Fill the token fields from the tokens of the whole text, closed by EOS.

    A step ends with the last token that lies in the first steps as a whole: a token across a border belongs to the next
    step.  Where a token would lie across the border of prompt and demonstration, the prompt keeps its own tokens, since
    every completion begins after these, and the demonstration is tokenised apart.
    """
    text, words = render(tokenizer, example.prompt, template), bare(tokenizer)
    prompt = list(tokenizer(text, add_special_tokens=template != "chat").input_ids)
    before = words.encode(text, add_special_tokens=False).ids
    if at_end(prompt, tokenizer.eos_token_id) > at_end(before, tokenizer.eos_token_id):
        prompt.pop()  # some tokenizers close every text with EOS
    whole, begin, skipped = (
        words.encode(text + example.demonstration.text, add_special_tokens=False),
        len(text),
        len(before),
    )
    if whole.ids[:skipped] != before:
        whole, begin, skipped = words.encode(example.demonstration.text, add_special_tokens=False), 0, 0
    # A character of several tokens ends where its last token ends: ends never fall.
    ends = list(accumulate((end - begin for _, end in whole.offsets[skipped:]), max))
    borders = accumulate(map(len, example.demonstration.steps))
    return replace(
        example,
        prompt_ids=tuple(prompt),
        demo_ids=(*whole.ids[skipped:], tokenizer.eos_token_id),
        step_ends=tuple(bisect_right(ends, border) for border in borders),
    )
