"""Small random models with the shipped tokenizer, Countdown examples and stages: what the engine's tests share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from bench.engine.policy import Policy
from bench.engine.tokenizer import build_tokenizer
from bench.engine.trainer import Stage
from bench.plan import registry
from bench.plan.budget import Budget, Meter
from bench.types import Example
from tasks import common
from tests.helpers.rounding import nudged

torch.set_num_threads(1)
TASK = registry.task("countdown")
WORDS = [word for name in registry.names("tasks") for word in getattr(registry.task(name), "words", ())]
TOKENIZER = build_tokenizer(WORDS)
SIZES: dict[str, Any] = {
    "vocab_size": len(TOKENIZER),
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def small_model(seed: int = 0, spread: float = 0.1, kind: tuple[Any, Any] | None = None, **changes: Any) -> Any:
    """A random model with weights large enough that predictions depend on the context."""
    config_class, model_class = kind or (LlamaConfig, LlamaForCausalLM)
    torch.manual_seed(seed)
    return nudged(model_class(config_class(**{**SIZES, "initializer_range": spread, **changes})).eval())


def small_policy(seed: int = 0, budget: str | None = None, **changes: Any) -> Policy:
    policy = Policy(small_model(seed, **changes), TOKENIZER)
    if budget is not None:
        policy.meter = Meter(policy.architecture, Budget.parse(budget))
    return policy


def pool(count: int, split: str = "train", level: str = "3") -> list[Example]:
    """Tokenised examples of a split."""
    policy_free = common.load_examples(TASK, split, count, level, "compact")
    from bench.engine.encoding import encode

    return [encode(TOKENIZER, e, "compact") for e in policy_free]


def method(name: str, **fields: Any) -> Any:
    """A method with a small batch."""
    imitates = not hasattr(registry.build_method(name, {}), "group_size")
    small = {} if name == "base" else {"batch_size": 8} if imitates else {"batch_size": 2, "group_size": 4}
    return registry.build_method(name, {**small, "lr": 1e-3, **fields})


def stage(policy: Policy, chosen: Any, examples: Sequence[Example], seed: int = 0, **changes: Any) -> Stage:
    limits: dict[str, Any] = {"max_new_tokens": 24, "temperature": 1.0, "max_grad_norm": 1.0}
    limits |= {"micro_batch_tokens": 512, "sample_rows": 64, **changes}
    return Stage(policy, chosen, TASK, examples, seed, type(chosen).__name__, **limits)


def kept_gradients(current: Stage) -> list[torch.Tensor]:
    """The gradient of each update from now on, of all weights in one tensor: clipped, as the optimizer gets it."""
    found: list[torch.Tensor] = []

    def keep(*_: Any) -> None:
        grads = [p.grad for p in current.policy.model.parameters()]
        found.append(torch.cat([grad.flatten() for grad in grads if grad is not None]))

    current.optimizer.register_step_pre_hook(keep)
    return found


def run(current: Stage, max_steps: int = 10_000) -> list[dict[str, Any]]:
    """Steps until the budget is used up."""
    records: list[dict[str, Any]] = []
    while len(records) < max_steps and (record := current.run_step()) is not None:
        records.append(record)
    return records


def count_tokens(*models: Any) -> list[int]:
    """Numbers of tokens of every call of the models' input embeddings, from now on."""
    seen: list[int] = []
    for model in models:
        model.get_input_embeddings().register_forward_hook(lambda module, args, output: seen.append(args[0].numel()))
    return seen
