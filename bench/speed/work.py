"""The work that all sides of `bench speed` do: one model on disk, and one file of token ids and sizes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.foreign import parse_json
from bench.models import TINY, locate, model_settings
from bench.plan import registry
from bench.plan.registry import check_choice
from bench.seeds import derive_seed
from bench.types import Demonstration, Example, Task, UserError

GROUP = 8  # completions that share a prompt
TASK, LEVEL = "countdown", "3"
LR = 1e-6  # small: the model should stay the model
MAX_GRAD_NORM = 1.0
SHAPE = "shape:"
# Of Qwen2.5: random weights in these sizes need no hub.
SHAPES: dict[str, dict[str, int]] = {
    "qwen2.5-0.5b": {
        **{"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14},
        **{"num_key_value_heads": 2, "vocab_size": 151_936},
    },
    "qwen2.5-1.5b": {
        **{"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12},
        **{"num_key_value_heads": 2, "vocab_size": 151_936},
    },
    "test": {
        **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
        **{"num_key_value_heads": 2, "vocab_size": 640},
    },
}
MICRO_BATCH_TOKENS = {"cpu": 2048, "cuda": 8192}  # of one forward and backward pass, on both sides
LARGE = 20e6  # bytes of weights from which one repetition makes a turn
REPEATS = 8  # below


@dataclass(frozen=True)
class Sizes:
    """What the options say: ``rows`` of a step or call, ``tokens`` of a completion, ``seconds`` for each part."""

    rows: int
    tokens: int
    seconds: float
    threads: int
    device: str


@dataclass(frozen=True)
class Work:
    """All that a side is told; token ids are lists, ``examples`` and ``tests`` records of problems.

    ``completions``, ``rewards`` and ``limits`` have one entry for each of the ``rows``; row r belongs to example
    ``r // GROUP``.  ``repeats`` of the same make one turn.
    """

    model: str
    device: str
    threads: int
    rows: int
    tokens: int
    seconds: float
    repeats: int = 1
    template: str = "plain"
    examples: Sequence[dict[str, Any]] = ()
    tests: Sequence[dict[str, Any]] = ()
    completions: Sequence[Sequence[int]] = ()
    rewards: Sequence[float] = ()
    limits: Sequence[int] = ()

    @staticmethod
    def read(path: Path) -> Work:
        return Work(**parse_json(path.read_bytes()))

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @property
    def digest(self) -> str:
        """Of everything but the place of the model: two processes with one digest have the same work."""
        record = {name: value for name, value in asdict(self).items() if name != "model"}
        return hashlib.blake2b(json.dumps(record, sort_keys=True).encode(), digest_size=8).hexdigest()

    @property
    def has_model(self) -> bool:
        return bool(self.model)

    @property
    def micro_batch_tokens(self) -> int:
        return MICRO_BATCH_TOKENS[self.device]

    @cached_property
    def demonstrations(self) -> list[Example]:
        """One example for each row, with its demonstration."""
        return [restored(record) for record in self.examples]

    @property
    def prompts(self) -> list[Example]:
        """One example for each group of rows."""
        return self.demonstrations[: self.rows // GROUP]

    @property
    def task(self) -> Task:
        return registry.task(TASK)


def restored(record: dict[str, Any]) -> Example:
    """An example from its record; its demonstration is its tokens alone."""
    ids: dict[str, Any] = {"prompt_ids": tuple(record["prompt_ids"]), "demo_ids": tuple(record["demo_ids"])}
    return Example(record["id"], record["prompt"], Demonstration((), ""), record["problem"], **ids)


def record_of(example: Example) -> dict[str, Any]:
    ids = {"prompt_ids": list(example.prompt_ids), "demo_ids": list(example.demo_ids)}
    return {"id": example.id, "prompt": example.prompt, "problem": dict(example.problem), **ids}


# --- the model ---------------------------------------------------------------------------------------------------


def check_model(name: str) -> None:
    """UserError unless there is such a model, or such a shape."""
    if name.startswith(SHAPE):
        check_choice(name.removeprefix(SHAPE), SHAPES, "shape")
    else:
        locate(name)


def model_folder(name: str, folder: Path) -> str:
    """Where a model lies; random weights of a shape are written to ``folder`` once, with the embedded tokenizer."""
    if not name.startswith(SHAPE):
        return locate(name).fetch().path
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = SHAPES[name.removeprefix(SHAPE)]
    rope = {"rope_type": "default", "rope_theta": 1e6}
    config = Qwen2Config(**sizes, rope_parameters=rope, max_position_embeddings=4096, tie_word_embeddings=True)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(TINY)).save_pretrained(folder)
    return str(folder)


# --- the token ids -----------------------------------------------------------------------------------------------


def task_work(sizes: Sizes) -> Work:
    """Work without a model."""
    return Work("", "cpu", 1, sizes.rows, sizes.tokens, sizes.seconds)


def model_work(name: str, path: str, sizes: Sizes) -> Work:
    """Problems of Countdown as this model's tokens; demonstrations are random tokens where weights are random.

    UserError where a row would not fit into the model's context.
    """
    from bench.engine.encoding import encode
    from bench.engine.policy import load_config, load_tokenizer
    from tasks.common import load_examples

    tokenizer, vocabulary = load_tokenizer(path), load_config(path).vocab_size
    random_weights = name.startswith(SHAPE)
    compact = random_weights or model_settings(path).get("template") == "compact"
    template = "compact" if compact else "plain"

    def examples(split: str) -> list[dict[str, Any]]:
        loaded = load_examples(registry.task(TASK), split, sizes.rows, LEVEL, template)
        return [record_of(encode(tokenizer, example, template)) for example in loaded]

    train, rows = examples("train"), range(sizes.rows)
    if random_weights:
        for row, record in enumerate(train):
            record["demo_ids"] = random_ids("demonstration", row, sizes.tokens, vocabulary)
    completions = [random_ids("completion", row, sizes.tokens, vocabulary) for row in rows]
    rewards = [float(row % 2) for row in rows]  # both in every group, so that no advantage is 0
    order = sorted(rows, key=lambda row: derive_seed("speed", "limit", row))
    least = max(1, sizes.tokens // 4)
    spread = [least + (sizes.tokens - least) * place // max(sizes.rows - 1, 1) for place in rows]
    limits = [limit for _, limit in sorted(zip(order, spread))]
    check_context(path, train, sizes.tokens)
    small = sum(file.stat().st_size for file in Path(path).glob("*.safetensors")) < LARGE
    given = (path, sizes.device, sizes.threads, sizes.rows, sizes.tokens, sizes.seconds, REPEATS if small else 1)
    return Work(*given, template, train, examples("test"), completions, rewards, limits)


def random_ids(what: str, row: int, count: int, vocabulary: int) -> list[int]:
    """Token ids by hash, without the first hundred, among which special tokens usually are."""
    least = min(100, vocabulary // 2)
    return [least + derive_seed("speed", what, row, i) % (vocabulary - least) for i in range(count)]


def check_context(path: str, examples: Sequence[dict[str, Any]], tokens: int) -> None:
    from bench.engine.policy import load_config

    window = getattr(load_config(path), "max_position_embeddings", None)
    need = max(len(e["prompt_ids"]) + max(len(e["demo_ids"]), tokens) for e in examples)
    if window is not None and need > window:
        raise UserError(f"--tokens {tokens}: rows of {need} tokens do not fit the model's context of {window}")
