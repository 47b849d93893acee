"""Result files as lm-eval 0.4.13 writes them, made from stored records: one folder per run.

``acc`` and ``reward`` judge greedy completions, as our exported lm-eval tasks do; ``acc_sampled`` and ``pass@k`` judge
the sampled ones.  Standard errors are lm-eval's, over items.
Source: names and layout of ``EvaluationTracker`` and ``result_schema`` of lm-eval 0.4.13.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.export import Request
from bench.export.common import export_each, export_folder, write_folder
from bench.export.documents import documents
from bench.plan.spec import RunPlan
from bench.stats.pass_rates import pass_at_k
from bench.store.stored_run import StoredRun, sense

KIND = "lm-eval"
FORMAT = "0.4.13"  # of lm-eval, whose files these follow
Json = dict[str, Any]


def to_lm_eval(request: Request) -> list[str]:
    """Write the runs below the folder; the lines to print."""
    out = export_folder(request, KIND)
    known: dict[str, dict[str, dict[str, Json]]] = {}  # runs of one comparison share their problems

    def write(folder: Path, run: StoredRun) -> None:
        if run.plan.comparison not in known:
            known[run.plan.comparison] = documents(run.plan)
        write_files(folder, run, known[run.plan.comparison])

    return export_each(
        request, partial(write_folder, out, KIND, write), f"files as lm-eval {FORMAT} writes them: {out}"
    )


@sense()
def write_files(folder: Path, run: StoredRun, known: Mapping[str, Mapping[str, Json]]) -> None:
    """``results_TIME.json`` and one ``samples_TASK_TIME.jsonl`` per split."""
    stamp = datetime.fromtimestamp(run.ended, UTC).isoformat(timespec="microseconds")[:26].replace(":", "-")
    rows_of: dict[str, list[Json]] = {}
    for split, items in run.items().items():
        rows_of[task_name(run.plan, split)] = samples(run.plan, items, known.get(split, {}))
    for name, rows in rows_of.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"samples_{name}_{stamp}.jsonl").write_text(lines, encoding="utf-8")
    (folder / f"results_{stamp}.json").write_text(json.dumps(results(run, rows_of), indent=2) + "\n", encoding="utf-8")


def task_name(plan: RunPlan, split: str) -> str:
    """What lm-eval calls a split: the name of ``bench tasks export`` where that exports the same problems."""
    task, level, rest = plan.task, plan.level, ""
    if split == "ood":
        level = plan.ood_level
    elif split.startswith("other:"):
        task = split.removeprefix("other:")
        level = next((other.level for other in plan.others if other.task == task), "")
    elif split != "test":
        rest = f"_{split}"
    return re.sub(r"\W", "_", f"bench_{task}_{level}{rest}", flags=re.ASCII)


def samples(plan: RunPlan, items: Sequence[Json], known: Mapping[str, Json]) -> list[Json]:
    """One record per item; without the problems (a data file's) ``doc`` holds the id alone and prompt is empty."""
    rows = []
    for number, item in enumerate(items):
        doc = known.get(item["id"], {"id": item["id"]})
        prompt, target = doc.get("prompt", ""), doc.get("demonstration", "")
        correct = np.array([[s["correct"] for s in item["samples"]]])
        num = correct.shape[1]
        scores = {"acc": float(item["greedy"]["correct"]), "reward": float(item["greedy"]["reward"])}
        scores["acc_sampled"] = float(correct.mean())
        scores |= {f"pass@{k}": float(pass_at_k(correct, k)[0]) for k in sizes(num)}
        rows.append(
            {
                "doc_id": number,
                "doc": doc,
                "target": target,
                "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": generation(plan)}},
                "resps": [[item["greedy"]["text"]]],
                "filtered_resps": [item["greedy"]["text"]],
                "sampled_resps": [[s["text"] for s in item["samples"]]],
                "filter": "none",
                "metrics": list(scores),
                "doc_hash": text_digest(json.dumps(doc, indent=2, ensure_ascii=False)),
                "prompt_hash": text_digest(prompt),
                "target_hash": text_digest(target),
                **scores,
            }
        )
    return rows


def sizes(num_samples: int) -> list[int]:
    """The k of pass@k, as in the records of a run, without 1, which is ``acc_sampled``."""
    return [k for k in sorted({2, 4, 8, 16, num_samples}) if 1 < k <= num_samples]


def generation(plan: RunPlan) -> Json:
    return {"until": [], "max_gen_toks": plan.max_new_tokens, "do_sample": False}


def text_digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def measured(rows: Sequence[Json]) -> dict[str, float | str]:
    """Mean and standard error of the mean of each metric over items, under lm-eval's names; "N/A" for one item."""
    metrics: dict[str, float | str] = {}
    for name in rows[0]["metrics"]:
        values = np.array([row[name] for row in rows])
        metrics[f"{name},none"] = float(values.mean())
        metrics[f"{name}_stderr,none"] = float(values.std(ddof=1) / len(rows) ** 0.5) if len(rows) > 1 else "N/A"
    return metrics


def results(run: StoredRun, rows_of: Mapping[str, Sequence[Json]]) -> Json:
    """The results file; ``bench`` holds what lm-eval has no place for: the run's plan, ledger and records' digest."""
    plan, names = run.plan, list(rows_of)
    evals = {task_name(plan, split): e for split, e in run.splits.items()}
    versions = {plan.task: plan.task_version, **{other.task: other.version for other in plan.others}}
    splits = {task_name(plan, split): split for split in run.splits}
    of = {n: splits[n].removeprefix("other:") if splits[n].startswith("other:") else plan.task for n in names}
    return {
        "results": {n: {"name": n, "alias": n, "sample_len": len(rows_of[n]), **measured(rows_of[n])} for n in names},
        "group_subtasks": {},
        "configs": {n: config(plan, n, splits[n], rows_of[n][0]["metrics"], versions[of[n]]) for n in names},
        "versions": {n: versions[of[n]] for n in names},
        "n-shot": dict.fromkeys(names, 0),
        "higher_is_better": {n: dict.fromkeys(rows_of[n][0]["metrics"], True) for n in names},
        "n-samples": {n: {"original": len(rows_of[n]), "effective": len(rows_of[n])} for n in names},
        "config": generation_settings(run),
        "git_hash": None,
        "date": run.started,
        "transformers_version": run.env.get("versions", {}).get("transformers"),
        "lm_eval_version": None,
        "task_hashes": {n: task_hash(rows_of[n]) for n in names},
        "model_source": "bench",
        "model_name": run.name,
        "model_name_sanitized": re.sub(r"[\"<>:/|\\?*\[\]]+", "__", run.name),
        "system_instruction": None,
        "system_instruction_sha": None,
        "fewshot_as_multiturn": None,
        "chat_template": None,
        "chat_template_sha": None,
        "total_evaluation_time_seconds": str(sum(e["seconds"] for e in evals.values())),
        "bench": {"format": FORMAT, "run_id": plan.run_id, "plan": plan.model_dump(mode="json"), "ledger": run.ledger},
    }


def config(plan: RunPlan, name: str, split: str, metrics: Sequence[str], version: int) -> Json:
    """A task's configuration in lm-eval's terms."""
    how = {"version": version, "split": split, "template": plan.template, "data": plan.problems}
    return {
        "task": name,
        "test_split": "val" if split == "val" else "test",
        "doc_to_text": "prompt",
        "doc_to_target": "demonstration",
        "target_delimiter": "",
        "num_fewshot": 0,
        "metric_list": [{"metric": m, "aggregation": "mean", "higher_is_better": True} for m in metrics],
        "output_type": "generate_until",
        "generation_kwargs": generation(plan),
        "repeats": 1,
        "metadata": {**how, "temperature_of_samples": plan.temperature},
    }


def generation_settings(run: StoredRun) -> Json:
    """The model and how it was run; bench draws samples from seeds by hashing and has no seed of a library."""
    plan, policy = run.plan, run.path / "policy"
    return {
        "model": "bench",
        "model_args": {"pretrained": str(policy) if policy.is_dir() else plan.model, "method": plan.method},
        "batch_size": str(run.execution.get("sample_rows", "")),
        "batch_sizes": [],
        "device": run.execution.get("device"),
        "use_cache": None,
        "limit": None,
        "gen_kwargs": {},
        "random_seed": plan.seed,
        "numpy_seed": None,
        "torch_seed": None,
        "fewshot_seed": None,
    }


def task_hash(rows: Sequence[Json]) -> str:
    """lm-eval's hash of a task's documents, prompts and targets."""
    return text_digest("".join(r["doc_hash"] + r["prompt_hash"] + r["target_hash"] for r in rows))
