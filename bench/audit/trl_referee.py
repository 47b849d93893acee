"""The TRL side of ``bench parity`` and ``bench speed``: the same rows through TRL's own trainers.

API as of TRL 1.16 (``trl/trainer/sft_trainer.py``, ``trl/trainer/grpo_trainer.py``).  Their
losses are not touched.  Nothing here is used by a run.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any
from unittest.mock import patch

from bench.types import Trajectory, UserError

PACKAGES = ("trl", "accelerate", "datasets")
IGNORED = -100  # label of a token that is not trained
SCALES = {"std": "group", "none": "none"}


@dataclass(frozen=True)
class Replay:
    """What the trainers get: a model with the initial weights, a method's fields, and the rows of every step."""

    model: Any
    tokenizer: Any
    method: Any
    steps: Sequence[Sequence[Trajectory]]
    max_grad_norm: float
    rows_per_pass: int  # rows of one forward and backward
    max_new_tokens: int
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the trainer, in place of ours

    @property
    def passes(self) -> int:
        """Forward and backward passes of one optimizer update."""
        return len(self.steps[0]) // self.rows_per_pass // int(self.method.num_updates)


def check_installed() -> None:
    """UserError that names the extra unless TRL and what it needs are installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        named = ", ".join(missing)
        raise UserError(
            f"bench parity needs the extra trl (not installed: {named}): pip install 'posttrain-bench[trl]'"
        )


def arguments(replay: Replay) -> dict[str, Any]:
    """Trainer arguments that both trainers share: float32 on the CPU, constant rate, every step logged."""
    return {
        "max_steps": len(replay.steps) * replay.method.num_updates,
        "per_device_train_batch_size": replay.rows_per_pass,
        "gradient_accumulation_steps": replay.passes,
        "learning_rate": replay.method.lr,
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "max_grad_norm": replay.max_grad_norm,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 0,
        **replay.settings,
    }


def sft_arguments(replay: Replay) -> dict[str, Any]:
    """SFTConfig of SFT and DFT; rows are whole and come in the given order."""
    loss_type = "dft" if type(replay.method).__name__ == "DFT" else "nll"
    order = {"train_sampling_strategy": "sequential", "shuffle_dataset": False}
    return {**arguments(replay), **order, "loss_type": loss_type, "max_length": None, "packing": False}


def grpo_arguments(replay: Replay) -> dict[str, Any]:
    """GRPOConfig of a GRPO method's fields."""
    method = replay.method
    return {
        **arguments(replay),
        "loss_type": getattr(method, "aggregation", None),
        "num_generations": method.group_size,
        "steps_per_generation": replay.passes * method.num_updates,
        "num_iterations": 1,
        "max_completion_length": replay.max_new_tokens,
        "temperature": 1.0,
        "beta": 0.0,
        "epsilon": method.clip_low,
        "epsilon_high": method.clip_high,
        "scale_rewards": SCALES[method.scale],
        "importance_sampling_level": "token",
        "mask_truncated_completions": False,
        "disable_dropout": True,
        "shuffle_dataset": False,
        **replay.settings,
    }


def dpo_arguments(replay: Replay) -> dict[str, Any]:
    """DPOConfig of a DPO method's fields; a pass has half as many pairs as rows."""
    method = replay.method
    return {
        **arguments(replay),
        "per_device_train_batch_size": replay.rows_per_pass // 2,
        "train_sampling_strategy": "sequential",
        "loss_type": "sigmoid",  # without smoothing: TRL's "robust" is another loss than the authors' conservative one
        "beta": method.beta,
        "max_length": None,
        "disable_dropout": True,
    }


def kind(replay: Replay) -> str:
    """Which of TRL's trainers a method's losses are compared with."""
    if hasattr(replay.method, "label_smoothing"):
        return "dpo"
    return "grpo" if hasattr(replay.method, "group_size") else "sft"


def trl_arguments(replay: Replay) -> dict[str, Any]:
    """The TRL arguments of a replay, for its record."""
    return {"sft": sft_arguments, "grpo": grpo_arguments, "dpo": dpo_arguments}[kind(replay)](replay)


def optimizer(replay: Replay) -> Any:
    """AdamW as in ``bench.engine.trainer``; left to itself the trainer would not decay norms and biases."""
    import torch

    method = replay.method
    return torch.optim.AdamW(
        replay.model.parameters(), lr=method.lr, betas=method.betas, weight_decay=method.weight_decay
    )


@contextmanager
def surroundings() -> Iterator[str]:
    """A temporary output folder; rows keep their order, TRL's note on experimental functions is off.

    Shuffling the rows of a generation batch would put them into other updates than ours.
    """
    with (
        patch.dict(os.environ, TRL_EXPERIMENTAL_SILENCE="1"),
        patch("trl.trainer.grpo_trainer.shuffle_sequence_dict", lambda batch: batch),
        tempfile.TemporaryDirectory() as folder,
    ):
        yield folder


def train(replay: Replay) -> list[dict[str, float]]:
    """Train ``replay.model`` in place; loss and gradient norm before clipping as TRL logs them, one entry per step."""
    from transformers import PrinterCallback

    with surroundings() as folder:
        makers: dict[str, Callable[..., Any]] = {"sft": sft_trainer, "grpo": grpo_trainer, "dpo": dpo_trainer}
        trainer = makers[kind(replay)](replay, folder)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    logged = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    updates = replay.method.num_updates
    assert len(logged) == len(replay.steps) * updates, "TRL made another number of updates"
    parts = [logged[i : i + updates] for i in range(0, len(logged), updates)]
    return [{key: sum(entry[key] for entry in part) / updates for key in ("loss", "grad_norm")} for part in parts]


def sft_trainer(replay: Replay, folder: str) -> Any:
    """SFTTrainer over the rows of all steps: prompts unlabelled, demonstrations with EOS labelled."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [row for step in replay.steps for row in step]
    columns = {
        "input_ids": [[*row.prompt_ids, *row.demo_ids] for row in rows],
        "labels": [[*[IGNORED] * len(row.prompt_ids), *row.demo_ids] for row in rows],
    }
    return SFTTrainer(
        model=replay.model,
        args=SFTConfig(output_dir=folder, **sft_arguments(replay)),
        train_dataset=Dataset.from_dict(columns),
        processing_class=replay.tokenizer,
        optimizers=(optimizer(replay), None),
    )


def dpo_trainer(replay: Replay, folder: str) -> Any:
    """DPOTrainer over the pairs of all steps, which come as the tokens that were recorded.

    Its reference is a copy of the initial model.
    """
    from copy import deepcopy

    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    rows = [row for step in replay.steps for row in step]
    assert len({len(step) for step in replay.steps}) == 1, "TRL takes equally many pairs in every step"
    answers = [[*row.demo_ids, *row.completion_ids] for row in rows]
    columns = {
        "prompt_ids": [list(row.prompt_ids) for row in rows[::2]],
        "chosen_ids": answers[::2],
        "rejected_ids": answers[1::2],
    }
    # It would tokenise texts.
    with patch.object(DPOTrainer, "_prepare_dataset", lambda self, dataset, *rest: dataset):
        return DPOTrainer(
            model=replay.model,
            ref_model=deepcopy(replay.model),
            args=DPOConfig(output_dir=folder, **dpo_arguments(replay)),
            train_dataset=Dataset.from_dict(columns),
            processing_class=replay.tokenizer,
            optimizers=(optimizer(replay), None),
        )


def recorded_rewards(recorded: list[float], **others: Any) -> list[float]:
    return recorded


def grpo_trainer(replay: Replay, folder: str, reward: Callable[..., list[float]] = recorded_rewards) -> Any:
    """GRPOTrainer whose generation returns the recorded completions, and whose reward function gets their rewards.

    Advantages, log-probabilities, loss and update are TRL's.
    """
    size = replay.method.group_size
    steps = cycle(replay.steps)

    def rollouts(prompts: list[str], trainer: Any) -> dict[str, Any]:
        rows = next(steps)
        assert prompts == [label(row) for row in rows], "TRL asks for other prompts than those recorded"
        return {
            "prompt_ids": [list(row.prompt_ids) for row in rows],
            "completion_ids": [list(row.completion_ids) for row in rows],
            "logprobs": None,
            "recorded": [row.reward for row in rows],
        }

    columns = {"prompt": [label(row) for step in replay.steps for row in step[::size]]}
    return sampling_trainer(replay, folder, columns, reward, rollouts)


def sampling_trainer(
    replay: Replay,
    folder: str,
    columns: Mapping[str, Sequence[str]],
    reward: Callable[..., list[float]],
    rollouts: Callable[..., dict[str, Any]] | None = None,
) -> Any:
    """GRPOTrainer over rows of these columns; without ``rollouts`` its completions are its own."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    return GRPOTrainer(
        model=replay.model,
        reward_funcs=reward,
        args=GRPOConfig(output_dir=folder, **grpo_arguments(replay)),
        train_dataset=Dataset.from_dict(dict(columns)),
        processing_class=replay.tokenizer,
        optimizers=(optimizer(replay), None),
        rollout_func=rollouts,
    )


def label(row: Trajectory) -> str:
    """A prompt as TRL's data set names it: its token ids."""
    return " ".join(map(str, row.prompt_ids))
