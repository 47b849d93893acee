"""A GGUF file as a model directory: float32 weights, and the tokenizer that the model was trained with.

transformers reads the file.  What it passes over in silence is checked here, since a model that is nearly right trains
and scores without complaint: rows that found no place, weights that came from nowhere, scaled positions, text that is
split by another rule before the merges.  https://github.com/huggingface/transformers/pull/48656 has its tokenizers,
https://github.com/ggml-org/llama.cpp (src/llama-vocab.cpp) the rules by name.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from contextlib import redirect_stderr
from io import StringIO
from math import prod
from pathlib import Path
from typing import Any

from bench.types import UserError

CONVERSION = 1  # raised whenever the same file gives other weights or another tokenizer
NEEDED = ("gguf", "accelerate")
EXTRA = "pip install 'posttrain-bench[gguf]'"
ORIGINAL = "Import the original model, by its directory or hub name"
RULE = "tokenizer.ggml.pre"
# Cuts of GPT-2's words, with each digit apart before that or without; transformers makes the latter of any rule that it
# does not know.
DIGITS_APART = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
WORDS_ALONE = {"gpt-2", "gpt2", "mpt", "olmo", "jais", "trillion", "granite-docling"}


def convert(source: Path, made: Path) -> dict[str, Any]:
    """Write a GGUF file's weights as float32 safetensors, with its tokenizer; returns what is known of the origin.

    UserError if a package is missing, if the file is damaged, or if anything of it would be lost.
    """
    missing = [module for module in NEEDED if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(f"GGUF files need {' and '.join(missing)}: {EXTRA}")
    fields, sizes = read_header(source)
    check_space(made, 4 * sum(sizes.values()))
    with redirect_stderr(StringIO()):  # progress bars that no setting of transformers switches off
        model, tokenizer = load(source)
        check_weights(source, model, sizes)
        check_positions(source, model, fields)
        split_as_trained(source, tokenizer, fields)
        begin_as_trained(tokenizer, fields)
        save_plain(model, made)
        tokenizer.save_pretrained(made)
    with source.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"file": source.name, "sha256": digest, "conversion": CONVERSION}


def damaged(source: Path, error: Exception) -> UserError:
    reason = (str(error).splitlines() or [""])[0]
    return UserError(f"'{source.name}' is no GGUF model that transformers reads: {type(error).__name__}: {reason}")


def read_header(source: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The file's settings, without its long lists, and the number of weights of each tensor by name."""
    import gguf

    try:
        reader = gguf.GGUFReader(str(source))
        short = {name: field for name, field in reader.fields.items() if len(field.data) <= 1}
        fields = {name: field.contents() for name, field in short.items()}
        return fields, {str(t.name): prod(map(int, t.shape)) for t in reader.tensors}
    except Exception as error:  # whatever the bytes happen to provoke: a wrong magic number, a length, a type
        raise damaged(source, error) from None


def load(source: Path) -> tuple[Any, Any]:
    """Model and tokenizer by transformers' own readers; UserError if they cannot make sense of the file."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where: dict[str, Any] = {"gguf_file": source.name, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(source.parent), **where)
        return AutoModelForCausalLM.from_pretrained(str(source.parent), dtype=torch.float32, **where), tokenizer
    except Exception as error:  # the same
        raise damaged(source, error) from None


def check_space(made: Path, size: int) -> None:
    """UserError unless the disk takes this many bytes, before hours of work."""
    free = shutil.disk_usage(made).free
    if size > free:
        raise UserError(f"the model takes {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in {made.parents[1]}")


def check_weights(source: Path, model: Any, sizes: dict[str, int]) -> None:
    """UserError unless the model has all numbers of the file and none beside them: others are random, or left out."""
    read, held = sum(parameter.numel() for parameter in model.parameters()), sum(sizes.values())
    if read != held:
        odd = sorted(name for name in sizes if not name.startswith(("blk.", "token_embd", "output")))
        hint = f", among them {', '.join(odd[:3])}" if odd else ""
        raise UserError(
            f"'{source.name}' holds {held:,} weights{hint}, and transformers' {type(model).__name__} has {read:,}: "
            f"expected the same. {ORIGINAL}"
        )


def check_positions(source: Path, model: Any, fields: dict[str, Any]) -> None:
    """UserError if the file scales its positions and the model that was read does not."""
    scaling = {value for name, value in fields.items() if name.endswith(".rope.scaling.type")} - {"none"}
    rope = getattr(model.config, "rope_parameters", None) or {}
    if scaling and rope.get("rope_type", "default") == "default":
        raise UserError(
            f"'{source.name}' scales its positions ({min(scaling)}), which transformers does not read there. {ORIGINAL}"
        )


def split_as_trained(source: Path, tokenizer: Any, fields: dict[str, Any]) -> None:
    """Cut text before the merges as the file says; UserError for a rule that is known neither here nor there."""
    from tokenizers import pre_tokenizers

    rule, backend = fields.get(RULE), tokenizer.backend_tokenizer
    taken = json.loads(backend.to_str())["pre_tokenizer"]
    plain = taken is not None and taken["type"] == "ByteLevel" and taken["use_regex"]
    if fields.get("tokenizer.ggml.model") != "gpt2" or rule in WORDS_ALONE or not (plain or rule in DIGITS_APART):
        return
    if rule not in DIGITS_APART:
        said = f"by the rule '{rule}', which is not known here" if rule else "by a rule that it does not name"
        raise UserError(f"'{source.name}' cuts text {said}: its tokens would be others than in training. {ORIGINAL}")
    digits, words = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, words])


def begin_as_trained(tokenizer: Any, fields: dict[str, Any]) -> None:
    """Put the BOS token before a text exactly if the file says so; a file that is silent leaves it to transformers."""
    from tokenizers import processors

    wanted, bos = fields.get("tokenizer.ggml.add_bos_token"), tokenizer.bos_token
    ids = tokenizer("a").input_ids
    if wanted is None or bos is None or wanted == (ids[:1] == [tokenizer.bos_token_id]):
        return
    text = f"{bos} $A" if wanted else "$A"
    special = [(bos, tokenizer.bos_token_id)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=text, special_tokens=special)


def save_plain(model: Any, made: Path) -> None:
    """Save the weights; those loaded from GGUF are marked as quantised, and such a model refuses to be saved."""
    import torch

    config = type(model.config).from_dict({**model.config.to_dict(), "quantization_config": None})
    del config.quantization_config
    with torch.device("meta"):  # a second copy would cost as much memory again
        plain = type(model)(config)
    plain.load_state_dict(model.state_dict(), assign=True)
    plain.tie_weights()
    plain.save_pretrained(made)
