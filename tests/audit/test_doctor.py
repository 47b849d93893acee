"""`bench doctor`: each line against a machine, folder, model or task of which it is known what is wrong with it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

from bench.audit import doctor, doctor_folder, doctor_machine, doctor_model, doctor_tasks
from bench.audit.doctor_machine import BAD, NOTE, OK, Declared
from bench.models import locate
from bench.plan import registry
from bench.plan.memory import memory_table
from bench.types import Verdict
from tests.helpers.commands import call, model_with_defaults
from tests.helpers.engine import TASK, TOKENIZER, pool
from tests.helpers.runs import make_job, write_model

SMI = """#!/bin/sh
case "$1" in
  *query-gpu*) echo "0, NVIDIA H200, {driver}, 143771, {free}" ;;
  *) {others} ;;
esac
exit {code}
"""


def fake_smi(folder: Path, patch: pytest.MonkeyPatch, code: int = 0, **answers: str) -> None:
    """A program nvidia-smi that answers as the real one does with these formats."""
    program = folder / "nvidia-smi"
    program.write_text(SMI.format(code=code, **{"free": "143000", "driver": "580.1", "others": ":", **answers}))
    program.chmod(0o755)
    patch.setenv("PATH", str(folder), prepend=os.pathsep)


# --- the whole command ---------------------------------------------------------------------------------------------


def test_every_line_of_a_good_machine_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = model_with_defaults(tmp_path / "model")
    before = sorted(tmp_path.rglob("*"))
    command = ("doctor", "--model", model, "--methods", "base,sft,grpo", "--level", "3", "--device", "cpu")
    code, out, err = call(capsys, *command, "--results", tmp_path / "runs", "--json")
    told = json.loads(out)
    assert sorted(tmp_path.rglob("*")) == before
    states = {finding["name"]: finding["state"] for finding in told["findings"]}
    assert code == 0 and told[BAD] == 0 and states["model"] == states["memory"] == OK, err
    assert {"python", "packages", "together", "extras", "devices", "products", "results", "writing", "leases"} < set(
        states
    )
    assert {"countdown tokens", "countdown verifier", "countdown cost", "attention", "tokenizer"} < set(states)
    (memory,) = (f for f in told["findings"] if f["name"] == "memory")
    assert set(memory["facts"]["gigabytes"]) == {"sft", "grpo"}  # base is not trained


def test_a_damaged_model_is_a_line_and_the_rest_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = model_with_defaults(tmp_path / "model")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    code, out, err = call(capsys, "doctor", "--model", model, "--results", tmp_path / "runs")
    assert code == 1 and err == "" and "bad   model " in out and "fix: fetch or save the model again" in out
    assert "ok    leases" in out and "ok    tokenizer" in out and out.splitlines()[-1].endswith("1 bad")
    code, _, err = call(capsys, "doctor", "--model", "smoll", "--results", tmp_path / "runs")
    assert code == 2 and "does not exist" in err and err.count("\n") == 1


# --- packages ------------------------------------------------------------------------------------------------------


def needs(*texts: str) -> list[Requirement]:
    return [Requirement(text) for text in texts]


def test_what_the_project_declares_is_read_from_its_own_file() -> None:
    project = doctor_machine.declared()
    assert "torch" in {r.name for r in project.base} and "gguf" in project.extras and project.python.startswith(">=")


def test_packages_that_are_missing_or_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.1.0", "numpy": "2.3.5", "trl": "1.0", "accelerate": "1.15.0"}
    monkeypatch.setattr(doctor_machine, "installed", versions.get)
    monkeypatch.setattr(doctor_machine.metadata, "requires", {"trl": ["numpy>=3", "nothing; extra == 'x'"]}.get)
    extras = {"trl": needs("trl>=1.16", "accelerate"), "ray": needs("ray>=2.50"), "gguf": needs("accelerate")}
    project = Declared(">=3.90", needs("torch>=2.9,<2.14", "numpy>=2.1", "scipy>=1.15"), extras)
    monkeypatch.setattr(doctor_machine, "declared", lambda: project)
    found = {finding.name: finding for finding in doctor_machine.packages()}
    assert found["python"].state == BAD
    assert found["packages"].state == BAD and "torch 2.1.0 instead of torch<2.14,>=2.9" in found["packages"].text
    assert "scipy>=1.15 is missing" in found["packages"].text and found["packages"].fix.startswith("pip install 'torch")
    assert "numpy" not in found["packages"].fix
    assert (found["together"].state, found["together"].text) == (NOTE, "trl: numpy 2.3.5 instead of numpy>=3")
    assert found["extras"].state == NOTE and found["extras"].fix == "pip install 'posttrain-bench[trl]'"
    assert "installed: gguf; not installed: ray" in found["extras"].text


# --- devices -------------------------------------------------------------------------------------------------------


def test_gpus_by_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_smi(tmp_path, monkeypatch)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = {finding.name: finding for finding in doctor_machine.devices("cuda")}
    assert [found[name].state for name in ("devices", "gpu 0", "cuda")] == [OK, OK, OK]
    assert "H200, driver 580.1, 149.9 of 150.8 GB free" in found["gpu 0"].text
    fake_smi(tmp_path, monkeypatch, free="60000", driver="550.90", others='echo "GPU-1, 77, 83000"')
    found = {finding.name: finding for finding in doctor_machine.devices("cuda")}
    assert found["gpu 0"].state == NOTE and "1 other programs" in found["gpu 0"].text
    assert found["cuda"].state == BAD and "driver 550.90 is older than CUDA 13.0" in found["cuda"].text
    monkeypatch.setattr(torch.version, "cuda", None)
    assert [f.state for f in doctor_machine.devices("cpu") if f.name == "cuda"] == [BAD]


@pytest.mark.parametrize(("free", "code"), [("[N/A]", 0), ("1", 9)])
def test_a_driver_that_does_not_answer_is_bad(free: str, code: int, tmp_path: Path, monkeypatch: Any) -> None:
    fake_smi(tmp_path, monkeypatch, free=free, code=code)
    found = list(doctor_machine.devices("cpu"))
    assert found[0].state == BAD and "nvidia-smi" in found[0].text and "no accelerator" in found[1].text


# --- the results folder --------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    (found,) = doctor_folder.examine_folder(tmp_path / "file")
    assert found.state == BAD and "nothing can be written there" in found.text

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(doctor_folder.tempfile, "TemporaryDirectory", refuse)
    (found,) = doctor_folder.examine_folder(tmp_path)
    assert found.state == BAD and "read-only file system" in found.text


def test_leases_links_and_renames_that_do_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [finding.state for finding in doctor_folder.semantics(tmp_path)] == [OK, OK, OK]
    with monkeypatch.context() as patch:  # what file systems without them do

        def absent(*_: Any) -> None:
            raise OSError(38, "Function not implemented")

        (tmp_path / "without").mkdir()
        patch.setattr(os, "link", absent)
        leases, links, _ = doctor_folder.semantics(tmp_path / "without")
        assert (leases.state, links.state) == (OK, NOTE) and "not implemented" in links.text
        patch.setattr(os, "link", lambda part, target: target.write_bytes(part.read_bytes()))  # every one gets it
        leases = next(iter(doctor_folder.semantics(tmp_path / "overwritten")))
        assert leases.state == BAD and "a second lease was given" in leases.text
        patch.undo()
        patch.setattr(os, "utime", lambda path: None)
        assert "do not change" in doctor_folder.lease_fault(tmp_path / "still")

        def copied(self: Path, target: Path) -> Path:
            target.write_bytes(b"")
            target.write_bytes(self.read_bytes())
            return target

        patch.setattr(Path, "replace", copied)
        patch.setattr(doctor_folder, "REPLACED", 200)
        assert "a reader saw a part" in doctor_folder.rename_fault(tmp_path / "more")


# --- model and tokens ----------------------------------------------------------------------------------------------


def test_what_a_tokenizer_surprises_with(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    config = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps({**config, "pad_token": config["eos_token"]}))
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 2]}))
    (model / "chat_template.jinja").write_text("SYSTEM {{ messages[0]['content'] }}>")
    tokenizer, chat = doctor_model.tokenizer_lines(doctor_model.know(locate(str(model))))
    assert "EOS is PAD" in tokenizer.text and "ends with any of '<bos>', '<eos>'" in tokenizer.text
    assert "writes 'SYSTEM ' before a prompt" in chat.text


def test_tokens_against_context_and_completions(tmp_path: Path) -> None:
    job = make_job(write_model(tmp_path / "model"), tmp_path)  # completions of 24 tokens
    examples = pool(6)
    demo, given = max(len(e.demo_ids) for e in examples), max(len(e.prompt_ids) + len(e.demo_ids) for e in examples)
    cut = doctor_tasks.token_line(job, TOKENIZER, examples, 512)
    assert cut.state == NOTE and cut.fix == f"--max-new-tokens {demo}" and cut.facts["row"] == given + 24
    long = doctor_tasks.token_line(job, TOKENIZER, examples, given + 23)
    assert long.state == BAD and long.facts["odd"] == 0
    whole = job.plan.model_copy(update={"max_new_tokens": demo})
    assert doctor_tasks.token_line(replace(job, plan=whole), TOKENIZER, examples, 512).state == OK
    odd = [replace(examples[0], demo_ids=(9, *examples[0].demo_ids)), *examples[1:]]
    longer = replace(job, plan=whole.model_copy(update={"max_new_tokens": 99}))
    line = doctor_tasks.token_line(longer, TOKENIZER, odd, 512)
    assert line.state == NOTE and "17 % of the demonstrations" in line.text


class Judge:
    """A task whose verifier is wrong about everything."""

    name = "wrong"

    def verify(self, problem: Any, text: str) -> Verdict:
        right = TASK.verify(problem, text).correct
        return Verdict(not right, 0.0, "")


def test_a_verifier_that_is_wrong_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_tasks, "SECONDS", 0.02)
    examples = pool(3)
    assert doctor_tasks.verifier_line(TASK, examples).state == OK
    wrong = doctor_tasks.verifier_line(Judge(), examples)
    assert wrong.state == BAD and f"{len(doctor_tasks.HOSTILE)} hostile texts pass" in wrong.text


@pytest.mark.parametrize("name", registry.built_in("tasks"))
def test_no_built_in_verifier_takes_a_hostile_text(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks import common

    monkeypatch.setattr(doctor_tasks, "SECONDS", 0.02)
    task = registry.task(name)
    template = "compact" if "compact" in task.templates else task.templates[0]
    examples = common.load_examples(task, "train", 2, task.default_level, template)
    assert doctor_tasks.verifier_line(task, examples).state in (OK, NOTE)


def test_memory_against_what_is_free(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    known = doctor_model.know(locate(str(model)))
    jobs = [make_job(model, tmp_path, method) for method in ("base", "sft", "grpo")]
    peaks = [memory_table(known.shape, doctor_model.load_of(job, 50))["peak"] for job in jobs[1:]]
    assert peaks[1] > peaks[0]  # a reference besides
    most = int(peaks[1])
    fits = doctor_model.memory_finding(known, jobs, 50, "cpu", 3 * most + 3, 2)
    alone = doctor_model.memory_finding(known, jobs, 50, "cpu", most + 1, 2)
    never = doctor_model.memory_finding(known, jobs, 50, "cpu", most - 1, 2)
    assert [f.state for f in (fits, alone, never)] == [OK, NOTE, BAD]
    assert alone.fix == "--workers 1" and never.fix == "--micro-batch-tokens 256"
    assert len(doctor_model.table_lines(fits)) == 3 and doctor_model.table_lines(fits)[2].startswith("grpo")
    nothing = doctor_model.memory_finding(known, jobs[:1], 50, "cpu", 1, 2)
    assert nothing.state == OK and doctor_model.table_lines(nothing) == []


def test_attention_of_shapes_that_no_fast_kernel_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = doctor_model.know(locate(str(write_model(tmp_path / "model"))))
    assert doctor_model.attention_line(known, "cpu").state == OK
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        slow = doctor_model.attention_line(known, "cpu")
    assert slow.state == NOTE and slow.facts == {"training": "math", "masked": "math"}


def test_an_assumed_budget_is_said_and_a_small_one_is_mended(tmp_path: Path) -> None:
    from bench.study.jobs import Spec

    model = write_model(tmp_path / "model")
    sizes: dict[str, Any] = {"template": "compact", "max_new_tokens": 24, "device": "cpu"}
    spec = Spec(["sft"], ["countdown"], model=str(model), results=tmp_path, **sizes)
    known = doctor_model.know(locate(str(model)))
    costs = [f for f in doctor.examine_runs(spec, known, "cpu", 10**12) if f.name == "countdown cost"]
    assert "which is assumed: --budget" in costs[0].text
    small = replace(spec, budget="10flops")
    (cost,) = (f for f in doctor.examine_runs(small, known, "cpu", 10**12) if f.name == "countdown cost")
    assert cost.state == BAD and cost.fix.startswith("--budget ")
    again = replace(spec, budget=cost.fix.split()[1])
    assert [f.state for f in doctor.examine_runs(again, known, "cpu", 10**12) if f.name == "countdown cost"] == [OK]


def test_a_data_file_that_cannot_be_used_is_a_line(tmp_path: Path) -> None:
    model, data = model_with_defaults(tmp_path / "model"), tmp_path / "rows.jsonl"
    data.write_text('{"nums": [1, 2, 3], "target": "x"}\n')
    from bench.plan.data import Source
    from bench.study.jobs import Spec

    spec = Spec(["sft"], ["countdown"], model=str(model), results=tmp_path, device="cpu", data=Source(str(data)))
    known = doctor_model.know(locate(str(model)))
    (found,) = doctor.examine_runs(spec, known, "cpu", 10**12)
    assert (found.name, found.state) == ("countdown tokens", BAD) and "rows.jsonl" in found.text
