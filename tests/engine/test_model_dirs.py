"""``bench run --model DIR``: new Llama and Qwen2 directories with a byte-level BPE tokenizer of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from bench.engine.batching import collate
from bench.engine.encoding import encode
from bench.engine.policy import Policy, load_model
from bench.types import Trajectory
from tasks import common
from tests.helpers.engine import TASK, TOKENIZER, small_model
from tests.helpers.rounding import nudged
from tests.helpers.runs import SHORT_OPTIONS

ROOT = Path(__file__).resolve().parents[2]
KINDS: dict[str, tuple[Any, Any]] = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}
EOS = "<|end|>"


def make(path: Path, kind: str) -> Path:
    """A random model and a tokenizer trained on plain prompts; Llama keeps its class's EOS id 2, an ordinary token."""
    examples = common.load_examples(TASK, "train", 300, "3", "plain")
    core = ByteLevelBPETokenizer()
    texts = [e.prompt + e.demonstration.text for e in examples]
    core.train_from_iterator(texts, vocab_size=600, special_tokens=[EOS], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core._tokenizer, eos_token=EOS, pad_token=EOS)
    tokenizer.save_pretrained(path)
    config_class, model_class = KINDS[kind]
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    options = {
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "vocab_size": 1 + max(tokenizer.get_vocab().values()),
    }
    torch.manual_seed(0)
    nudged(model_class(config_class(**sizes, **options))).save_pretrained(path)
    return path


@pytest.fixture(scope="module", params=sorted(KINDS))
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp(request.param) / request.param, request.param)


def test_text_survives_the_tokenizer_and_eos_is_trained(directory: Path) -> None:
    policy = Policy(*load_model(str(directory)))
    eos = policy.tokenizer.eos_token_id
    assert policy.eos_ids == {eos}
    for raw in common.load_examples(TASK, "val", 20, "3", "plain"):
        e = encode(policy.tokenizer, raw, "plain")
        assert policy.tokenizer.decode([*e.prompt_ids, *e.demo_ids[:-1]]) == raw.prompt + raw.demonstration.text
        assert policy.decode([e.prompt_ids, e.demo_ids]) == [raw.prompt, raw.demonstration.text]
        assert "\n" in raw.prompt and raw.demonstration.text.startswith(" ")  # the hard ones: line breaks and a blank
        for k, end in enumerate(e.step_ends):
            assert policy.decode([e.demo_ids[:end]]) == ["".join(raw.demonstration.steps[: k + 1])]
        assert len(e.demo_ids) < len(raw.demonstration.text)  # tokens are longer than characters
        micro = collate([Trajectory(e.prompt_ids, e.demo_ids)], policy.device)
        assert micro.token_ids[:, 1:][micro.demo].tolist() == list(e.demo_ids) and e.demo_ids[-1] == eos


def bench(directory: Path, results: Path, *options: str) -> subprocess.CompletedProcess[str]:
    arguments = ["--model", str(directory), "--seeds", "1", "--template", "plain", "--results", str(results), *options]
    sizes = ["--train-size", "64", "--test-items", "8", "--test-samples", "2", "--val-items", "4", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "bench", "run", *arguments, *sizes, *SHORT_OPTIONS]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=200)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    "directory",
    [pytest.param(k, marks=pytest.mark.slow if k == "qwen2" else pytest.mark.exhaustive) for k in sorted(KINDS)],
    indirect=True,
)
def test_a_directory_trains_samples_and_stops(directory: Path, tmp_path: Path) -> None:
    settings = ["lr=0.01", "batch_size=8", "warmup=0.1", "decay=constant"]
    options = [part for setting in settings for part in ("--set", f"sft.{setting}")]
    options += ["--set", "uft.batch_size=2", "--set", "uft.num_updates=1", "--set", "uft.kl_coef=0"]
    budget = ["--budget", "70ktokens", "--max-new-tokens", "96"]
    done = bench(directory, tmp_path, "--methods", "sft,uft", *budget, *options)
    assert done.returncode == 0, done.stderr
    assert "sft" in done.stdout and "uft" in done.stdout
    runs = {json.loads((p / "plan.json").read_text())["stages"][0]["name"]: p for p in tmp_path.glob("*/")}
    check_stops(runs["sft"])
    for path in runs.values():
        check_ledger(path, directory)


def check_stops(path: Path) -> None:
    """EOS is sampled: an untrained model practically never does it."""
    evals = lines(path / "evals.jsonl")
    test = next(e for e in evals if e["split"] == "test")
    assert test["stopped"] > 0.5
    items = [item for item in lines(path / "items.jsonl") if item["split"] == "test"]
    stopped = [s for item in items for s in item["samples"] if s["stopped"]]
    assert all(0 < s["tokens"] <= 96 and EOS not in s["text"] for s in stopped)
    assert lines(path / "metrics.jsonl")[0]["loss"] > 5  # near log 600


def check_ledger(path: Path, directory: Path) -> None:
    """Tokens recounted from the lines of the steps and from the examples."""
    plan, ledger = json.loads((path / "plan.json").read_text()), json.loads((path / "done.json").read_text())["ledger"]
    steps = lines(path / "metrics.jsonl")
    tokenizer = load_model(str(directory))[1]
    examples = [encode(tokenizer, e, "plain") for e in common.load_examples(TASK, "train", 64, "3", "plain")]
    assert ledger["steps"] == len(steps) and ledger["tokens"] <= plan["budget_limit"] == 70_000
    assert ledger["tokens"] >= 0.9 * plan["budget_limit"]
    targets = sum(round(s["mean_targets"] * s["num_trajectories"]) for s in steps)
    assert ledger["loss_tokens"] == targets
    shown = sum(round(s["demo_share"] * s["mean_targets"] * s["num_trajectories"]) for s in steps)
    size = plan["stages"][0]["fields"]["batch_size"]
    prompts = [len(e.prompt_ids) for e in examples]
    if plan["stages"][0]["name"] == "sft":
        assert ledger["demonstration_tokens"] == shown == targets
        assert ledger["demonstrations"] == size * len(steps) and ledger["distinct_demonstrations"] == 64
        assert ledger["tokens"] == ledger["trained_tokens"]
        low = min(prompts) * size * len(steps)
        assert low <= ledger["trained_tokens"] - targets <= max(prompts) * size * len(steps)
        assert ledger["generated_tokens"] == ledger["rollouts"] == ledger["prefilled_tokens"] == 0
        return
    generated = sum(round(s["mean_completion"] * s["num_trajectories"]) for s in steps)
    assert ledger["rollouts"] == ledger["verifier_calls"] == sum(s["num_trajectories"] for s in steps) == 8 * len(steps)
    assert ledger["generated_tokens"] == generated == targets - shown
    assert ledger["decoded_tokens"] == generated - ledger["rollouts"]
    assert ledger["demonstration_tokens"] * 4 == shown  # each prefix is shown once and trained in four rollouts
    assert ledger["trained_tokens"] == 4 * ledger["prefilled_tokens"] + generated
    assert ledger["tokens"] == ledger["trained_tokens"] + ledger["prefilled_tokens"] + ledger["decoded_tokens"]
    assert ledger["scored_tokens"] == 0


def test_a_saved_policy_samples_from_the_model_as_it_is(tmp_path: Path) -> None:
    """Programs that load the folder take their settings from it: the base model's own must not be among them."""
    from transformers import AutoModelForCausalLM, GenerationConfig

    model, tokenizer = small_model(), TOKENIZER
    foreign = {"repetition_penalty": 1.1, "top_p": 0.8, "top_k": 20, "temperature": 0.7, "do_sample": True}
    word = tokenizer("7", add_special_tokens=False).input_ids[0]  # an ordinary one is no end
    model.generation_config = GenerationConfig(**foreign, eos_token_id=[1, word], pad_token_id=0, bos_token_id=1)
    policy = Policy(model, tokenizer)
    policy.save(tmp_path)
    assert model.generation_config.top_k == 20  # of the run's own model: untouched
    found = AutoModelForCausalLM.from_pretrained(tmp_path).generation_config.to_diff_dict()
    found.pop("transformers_version")
    assert found == {"bos_token_id": 1, "eos_token_id": [1, 2], "pad_token_id": 0}
    assert Policy(*load_model(str(tmp_path))).eos_ids == policy.eos_ids == {1, 2}
