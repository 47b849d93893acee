"""Demonstrations are the tokens that the model's own tokenizer makes of the whole text, steps end at its characters."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from bench.engine.encoding import encode, render
from bench.plan import registry
from bench.types import Demonstration, Example
from tasks import common
from tests.helpers.gguf_file import TEMPLATE, byte_letters
from tests.helpers.real_model import smollm2
from tests.tasks.samples import DATA

BYTES = {letter: byte for byte, letter in enumerate(byte_letters())}
REAL = {"math": DATA / "math_levels_3_to_5.parquet", "countdown": DATA / "countdown_train.parquet"}
# Which rows a test takes, by file and template: each one, or each so-manieth (all of them take minutes: docs/log.md).
EVERY = {("math", "plain"): 2, ("math", "chat"): 16, ("countdown", "plain"): 40, ("countdown", "chat"): 160}
SPECIAL = ["<|end|>", "<|start|>"]


@cache
def trained() -> Any:
    """A byte-level BPE of this test's own, learned from the project's pages and demonstrations of other problems."""
    texts = [path.read_text() for path in Path(__file__).parents[2].glob("docs/*.md")]
    for name in registry.names("tasks"):
        task = registry.task(name)
        texts += [
            e.prompt + e.demonstration.text for e in common.load_examples(task, "val", 40, task.default_level, "plain")
        ]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    letters = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=3000, special_tokens=SPECIAL, initial_alphabet=letters)
    )
    core.post_processor = processors.TemplateProcessing(single="<|start|> $A", special_tokens=[("<|start|>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", bos_token="<|start|>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


@cache
def real() -> Any:
    return AutoTokenizer.from_pretrained(smollm2())


TOKENIZERS = {"own": trained, "smollm2": real}


@cache
def from_file(task: str, template: str) -> list[Example]:
    split = common.from_file(registry.task(task), REAL[task], template)
    return [e for part in split.values() for e in part][:: EVERY[task, template]]


@cache
def drawn(task: str, template: str) -> list[Example]:
    """Some problems of each level."""
    chosen = registry.task(task)
    return [e for level in chosen.levels for e in common.load_examples(chosen, "test", 3, level, template)]


def faults(tokenizer: Any, raw: Example, template: str) -> list[str]:
    """What is wrong with the tokens of an example, by the tokenizer's output for the whole text alone."""
    example = encode(tokenizer, raw, template)
    text = render(tokenizer, raw.prompt, template)
    chat = template == "chat"
    whole = tokenizer(text + raw.demonstration.text, add_special_tokens=not chat).input_ids
    found = []
    if [*example.prompt_ids, *example.demo_ids] != [*whole, tokenizer.eos_token_id]:
        found.append("tokens")
    if list(example.prompt_ids) != tokenizer(text, add_special_tokens=not chat).input_ids:
        found.append("prompt")
    tokens = tokenizer.convert_ids_to_tokens(example.demo_ids[:-1])
    if bytes(BYTES[letter] for token in tokens for letter in token) != raw.demonstration.text.encode():
        found.append("text")
    ends = list(accumulate(map(len, tokens)))  # in bytes: a letter of a token stands for one
    for end, border in zip(
        example.step_ends, accumulate(len(s.encode()) for s in raw.demonstration.steps), strict=True
    ):
        within = (0, *ends)[end] <= border < (*ends, border + 1)[end]
        if not within:
            found.append("step")
    return found if list(example.step_ends) == sorted(example.step_ends) else [*found, "order"]


def wrong(tokenizer: Any, examples: Iterable[Example], template: str) -> list[tuple[str, list[str]]]:
    return [(e.id, found) for e in examples if (found := faults(tokenizer, e, template))]


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("task", REAL)
def test_demonstrations_of_real_files(task: str, name: str) -> None:
    """No demonstration is one that the tokenizer would not write; none has a token across its border to the prompt."""
    if not REAL[task].exists():
        pytest.skip("the data set is not on this machine")
    tokenizer = TOKENIZERS[name]()
    for template in ("plain", "chat"):
        examples = from_file(task, template)
        assert len(examples) > 30 and wrong(tokenizer, examples, template) == []


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("task", registry.names("tasks"))
def test_demonstrations_of_generated_problems(task: str, name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    for template in ("plain", "chat"):
        assert wrong(tokenizer, drawn(task, template), template) == []


def test_a_prompt_keeps_the_end_of_sequence_that_its_text_has() -> None:
    """Only one that the tokenizer adds is taken away; the truth is the tokenizer's own reading of the whole text."""
    tokenizer, closing = trained(), copy.deepcopy(trained())
    closing._tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|end|>", special_tokens=[("<|end|>", 0)]
    )
    for text in ("Add 1 and 2.<|end|>", "<|end|>", "Add 1 and 2.", "<|end|><|end|>"):
        raw = Example("x", text, Demonstration((" It is 3.",), ""), {})
        own = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
        assert list(encode(tokenizer, raw).prompt_ids) == tokenizer(text).input_ids
        assert list(encode(closing, raw).prompt_ids) == own
        assert closing(text).input_ids == [*own, 0]


def test_a_token_across_the_border_of_the_prompt_is_cut_and_nothing_else() -> None:
    """The one case that cannot be as in the whole text: a completion begins after the prompt's own tokens."""
    tokenizer = trained()
    prompt, steps = "What is the num", ("ber of the prob", "lem, and the answer")
    whole = tokenizer.convert_ids_to_tokens(tokenizer(prompt + "".join(steps)).input_ids)
    assert "Ġnumber" in whole and "Ġproblem" in whole
    raw = Example("x", prompt, Demonstration(steps, ""), {})
    found = encode(tokenizer, raw)
    apart = tokenizer.convert_ids_to_tokens(found.demo_ids)
    assert list(found.prompt_ids) == tokenizer(prompt).input_ids
    assert apart == [*tokenizer.backend_tokenizer.encode("".join(steps), add_special_tokens=False).tokens, "<|end|>"]
    assert "Ġproblem" in apart, "the border of two steps cuts no token"
    assert found.step_ends[0] == apart.index("Ġproblem"), "a token across a border belongs to the next step"
