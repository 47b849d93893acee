"""``bench pretrain``: make the embedded base model from nothing, the same to the bit on one kind of CPU.

Stage 1 teaches form and facts: documents of all tasks whose answers ignore the goal, and bare arithmetic.  Stage 2
mixes in correct demonstrations, which leaves a base that is right sometimes and more often when decoded greedily:
the sign that reinforcement learning has something to sharpen.  All problems come from the ``pretrain`` split.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from bench.engine import checkpoint
from bench.engine.tokenizer import build_tokenizer
from bench.plan import registry
from bench.seeds import derive_seed
from bench.store.run_folder import CorruptRun
from bench.types import UserError
from tasks.common import problems
from tasks.skills import draw_fact

POOL = 12_000  # distinct problems per task and level, reused with fresh completions
BATCH = 128  # documents per step
SAVE_STEPS = 200  # steps between checkpoints
ROWS = 32  # rows per micro-batch: small batches stay in the cache


@dataclass(frozen=True)
class Phase:
    """One stage of pretraining: length, peak learning rate, and what its documents are.

    ``facts``: share of bare arithmetic; ``correct``: share of correct demonstrations among a task's documents, the
    rest ignores the goal; ``weights``: how often each task is drawn, equally often when empty.
    """

    tokens: int
    lr: float
    facts: float = 0.0
    correct: Mapping[str, float] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)


ALL_TASKS = ("countdown", "logic", "math", "sudoku")


@dataclass(frozen=True)
class Recipe:
    """Shape, corpus and optimiser of the base model; the shipped one is the default."""

    hidden: int = 96
    layers: int = 4
    heads: int = 3
    ffn: int = 256
    context: int = 256
    seed: int = 0
    phases: tuple[Phase, ...] = (
        Phase(9_000_000, 2.5e-3, facts=0.15),
        Phase(4_800_000, 2e-3, correct=dict.fromkeys(ALL_TASKS, 0.6)),
        Phase(
            3_600_000,
            2e-3,
            correct={"countdown": 0.8, "logic": 0.8, "math": 0.7, "sudoku": 0.3},
            weights={"countdown": 5, "logic": 2, "math": 2, "sudoku": 1},
        ),
    )
    levels: tuple[tuple[str, str, float], ...] = (
        ("countdown", "3", 0.8),
        ("countdown", "4", 0.2),
    )  # tasks not named here use their default level


def model_of(recipe: Recipe, num_tokens: int, eos: int, bos: int, pad: int) -> LlamaForCausalLM:
    """A randomly initialised Llama whose heads have size 32 and whose embeddings are not tied."""
    torch.manual_seed(derive_seed("pretrain", "weights", recipe.seed))
    config = LlamaConfig(
        vocab_size=num_tokens,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.ffn,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        head_dim=recipe.hidden // recipe.heads,
        max_position_embeddings=recipe.context,
        tie_word_embeddings=False,
        eos_token_id=eos,
        bos_token_id=bos,
        pad_token_id=pad,
    )
    return LlamaForCausalLM(config)


def fact(rng: random.Random) -> str:
    """A few lines of correct arithmetic."""
    lines = []
    for _ in range(rng.randint(2, 4)):
        left, value = draw_fact(rng)
        lines.append(f"{left}{value}\n")
    return "".join(lines)


def own_tasks() -> list[Any]:
    """The built-in tasks; those of installed packages must not change the model."""
    return [registry.task(name) for name in registry.built_in("tasks")]


class Corpus:
    """Documents by stage and index, each from its own derived seed."""

    def __init__(self, recipe: Recipe, encode: Callable[[str], list[int]], bos: int, eos: int, size: int = POOL):
        self.recipe, self.encode, self.bos, self.eos = recipe, encode, bos, eos
        self.tasks = own_tasks()
        named = {task for task, _, _ in recipe.levels}
        levels = [*recipe.levels, *((t.name, t.default_level, 1.0) for t in self.tasks if t.name not in named)]
        self.levels = {t.name: [(lv, share) for name, lv, share in levels if name == t.name] for t in self.tasks}
        self.pools = {
            (name, level): list(itertools.islice(problems(registry.task(name), "pretrain", level), size))
            for name, level, _ in levels
        }

    def text(self, stage: int, index: int) -> tuple[str, str]:
        """Prompt and completion of one document of a stage (numbered from 1); facts have an empty prompt."""
        phase = self.recipe.phases[stage - 1]
        rng = random.Random(derive_seed("pretrain", self.recipe.seed, stage, index))
        if phase.facts and rng.random() < phase.facts:
            return "", fact(rng)
        if phase.weights:
            task = rng.choices(self.tasks, [phase.weights.get(t.name, 0.0) for t in self.tasks])[0]
        else:
            task = rng.choice(self.tasks)
        levels, shares = zip(*self.levels[task.name])
        problem = rng.choice(self.pools[task.name, rng.choices(levels, shares)[0]])
        share = phase.correct.get(task.name, 0.0)
        correct = bool(phase.correct) and rng.random() < share
        completion = task.demonstrate(problem, "compact").text if correct else task.practice(rng, problem)
        return task.prompt(problem, "compact"), completion

    def document(self, stage: int, index: int) -> list[int]:
        return [self.bos, *self.encode("".join(self.text(stage, index))), self.eos]


def schedule(share: float) -> float:
    """Flat for the first 60 % of a stage, then linear to zero."""
    return min(1.0, (1.0 - share) / 0.4)


def step_loss(model: Any, rows: list[list[int]]) -> float:
    """Next-token cross-entropy over all tokens of a step; gradients accumulate in micro-batches of equal weight."""
    total = sum(len(row) - 1 for row in rows)
    loss_sum = 0.0
    rows = sorted(rows, key=len)
    for start in range(0, len(rows), ROWS):
        part = rows[start : start + ROWS]
        width = max(map(len, part))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in part])
        # cross_entropy leaves out targets of -100.
        labels = torch.tensor([row[1:] + [-100] * (width - len(row)) for row in part])
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        # A sum over the part divided by the tokens of the step: a mean of the parts' means would favour short rows, of
        # which a part has fewer tokens.
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / total
        loss.backward()
        loss_sum += float(loss.detach())
    return loss_sum


def pretrain(recipe: Recipe, out: Path, report: Callable[[dict[str, Any]], None]) -> Path:
    """Train all stages and write model, tokenizer and recipe to ``out``; resumes from its last checkpoint.

    ``report`` is called after every step.
    """
    words = [word for task in own_tasks() for word in task.words]
    tokenizer = build_tokenizer(words)
    eos, bos, pad = tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id
    model = model_of(recipe, len(tokenizer), eos, bos, pad)
    corpus = Corpus(recipe, lambda text: tokenizer(text, add_special_tokens=False).input_ids, bos, eos)
    out.mkdir(parents=True, exist_ok=True)
    settings = json.loads(json.dumps(asdict(recipe)))
    state: dict[str, Any] = {"stage": 1, "index": 0, "tokens": 0, "step": 0, "recipe": settings}
    saved = last_saved(out)
    if saved is not None:
        state = dict(saved.state)
        if state["recipe"] != settings:
            raise UserError(
                f"'{out}' holds the checkpoint of another recipe: give another folder or remove {saved.path}"
            )
        checkpoint.load_weights(model, saved.path / checkpoint.POLICY)
    for stage in range(state["stage"], len(recipe.phases) + 1):
        if state["stage"] != stage:
            state |= {"stage": stage, "index": 0, "tokens": 0}
        for progress in run_stage(recipe, model, corpus, state, out, saved):
            report(progress)
        saved = None
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1) + "\n", encoding="utf-8")
    checkpoint.clear(out)
    return out


def last_saved(out: Path) -> checkpoint.Saved | None:
    """The last whole checkpoint of a folder, None without one; UserError if there are only damaged ones."""
    try:
        return checkpoint.last_good(out)
    except CorruptRun as fault:
        raise UserError(f"'{out}' holds damaged checkpoints ({fault}): give another folder or remove them") from None


def run_stage(
    recipe: Recipe, model: Any, corpus: Corpus, state: dict[str, Any], out: Path, saved: checkpoint.Saved | None
) -> Iterator[dict[str, Any]]:
    """One stage, step by step; ``state`` is advanced in place."""
    phase = recipe.phases[state["stage"] - 1]
    limit, peak = phase.tokens, phase.lr
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
    if saved is not None:
        checkpoint.restore_optimizer(saved, optimizer)
    while state["tokens"] < limit:
        rows = [corpus.document(state["stage"], state["index"] + i) for i in range(BATCH)]
        warmup = min(1.0, (state["index"] // BATCH + 1) / 50)
        for group in optimizer.param_groups:
            group["lr"] = peak * warmup * schedule(state["tokens"] / limit)
        optimizer.zero_grad(set_to_none=True)
        loss = step_loss(model, rows)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        state["index"] += BATCH
        state["step"] += 1
        state["tokens"] += sum(map(len, rows))
        if state["step"] % SAVE_STEPS == 0:
            checkpoint.save(out, model, optimizer, None, state, last_saved(out))
        yield {**state, "limit": limit, "loss": loss}
