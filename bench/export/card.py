"""`bench card`: what a trained model is and what was measured of it, as a Hugging Face model card.

Every word of a plan is data that may come from elsewhere: it stands in code spans, or in the
YAML of ``huggingface_hub``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.analysis.records import passport_state
from bench.export.card_scores import SplitScore, eval_results, front_matter, one_line, split_scores
from bench.export.common import write_files
from bench.plan.spec import RunPlan, Stage
from bench.report.catalogue import method_sheet
from bench.report.grids import interval_cell
from bench.report.table_writers import markdown_table
from bench.store.passport import FAILED, NONE, OTHER, PASSED
from bench.store.run_folder import CorruptRun, read_json
from bench.store.stored_run import StoredRun
from bench.types import UserError

LEFT = "---"  # the rule under every column
HYPER_PARAMETERS = ("hyper-parameter", "value", "symbol; source of the default")
LEDGER = {
    "flops": "FLOPs",
    "tokens": "tokens through the network",
    "trained_tokens": "of these, trained on",
    "loss_tokens": "targets of the loss",
    "generated_tokens": "generated tokens",
    "rollouts": "rollouts",
    "demonstrations": "demonstrations used (repeats counted)",
    "distinct_demonstrations": "distinct demonstrations",
    "verifier_calls": "calls of the verifier",
    "steps": "optimizer updates",
    "seconds": "seconds of training",
}
CHECKS = {
    PASSED: "passed: `bench preflight` checked this stack with this method's settings on this task.",
    NONE: "none: the stack of this run was not checked by `bench preflight`.",
    FAILED: "failed: an identity of a correct implementation does not hold on the stack of this run.",
    OTHER: "of other methods: the stack was checked, but not with these methods, settings or task.",
}
LIMITS = """\
- One run is one seed. The intervals cover the choice of items and nothing else: another seed of the same method may
  fall outside them. Differences between methods are in `bench leaderboard`, over several seeds.
- Accuracy here is the share of completions that the task's verifier accepts, on the problems and in the prompt format
  named above. Other abilities and safety were not measured.
- The validation split was looked at during training; it is listed last and belongs to no comparison."""
LICENCE = """\
Not stated here: it depends on the licences of the base model and of the data, which bench does not know. Add `license:`
to the metadata above before publishing."""


def model_card(run: StoredRun, dataset: str | None) -> dict[str, str]:
    """The card and the file of evaluation results, by their paths in a model repository."""
    scores = split_scores(run)
    name, results = eval_results(run, scores, dataset)
    parts = (
        title_section(run),
        method_section(run.plan),
        budget_section(run),
        data_section(run.plan),
        accuracy_section(run, scores),
        provenance_section(run),
    )
    body = "\n\n".join([*parts, f"## Limits\n\n{LIMITS}", f"## Licence\n\n{LICENCE}"])
    return {"README.md": f"{front_matter(run, scores)}\n{body}\n", f".eval_results/{name}": results}


def write_card(files: Mapping[str, str], folder: Path, force: bool) -> list[Path]:
    """Write the files below a folder; UserError if one is there already, unless ``force``, or cannot be written."""
    there = [path for name in files if (path := folder / name).exists()]
    if there and not force:
        raise UserError(f"'{there[0]}' exists: give another --out, or --force to replace it")
    return write_files(folder, files)


# --- sections --------------------------------------------------------------------------------------------------


def title_section(run: StoredRun) -> str:
    plan = run.plan
    policy = "not kept (`--keep none`)"
    if (run.path / "policy").is_dir():
        policy = f"beside this card, in {code(kept_numbers(run.path))}"
    rows = [
        ("base model", code(plan.model)),
        ("digest of the base model", code(plan.model_digest)),
        ("method", code(plan.method)),
        ("task", code(f"{plan.task}, level {plan.level}, template {plan.template}")),
        ("seed", str(plan.seed)),
        ("run id", code(plan.run_id)),
        ("weights", policy),
    ]
    text = (
        "A causal language model after post-training, in the format of `transformers`. It was trained and judged by "
        "bench (posttrain-bench), which compares methods under one budget; this card was written from the records of "
        "the run, and the figures in it are computed from them."
    )
    return f"# {code(run.name)}\n\n{text}\n\n{markdown_table(('', ''), rows, LEFT)}"


def kept_numbers(run: Path) -> object:
    """The type of the kept weights: bfloat16 where the model was trained under it, on CUDA."""
    with suppress(CorruptRun):
        config = read_json(run / "policy" / "config.json")
        return config.get("dtype") or config.get("torch_dtype") or "float32"
    return "unknown numbers"


def method_section(plan: RunPlan) -> str:
    """Every stage with its equation, its sources and all of its hyper-parameters."""
    parts = ["## Method"]
    if len(plan.stages) > 1:
        parts.append(f"A pipeline of {len(plan.stages)} stages that share the budget.")
    return "\n\n".join([*parts, *(stage_text(stage) for stage in plan.stages)])


def stage_text(stage: Stage) -> str:
    sheet = known_sheet(stage.name)
    head = f"### {code(stage.name)}, {100 * stage.share:.4g} % of the budget"
    if sheet is None:
        about = "This method is not installed where the card was written: its equation is missing here."
        sources: Mapping[str, str] = {}
    else:
        links = [f"[arXiv {n}](https://arxiv.org/abs/{n})" for n in arxiv(sheet["documentation"])]
        page = f"Equation, sources and departures: `bench methods {stage.name}` and `docs/methods.md#{stage.name}`"
        equation = fenced(sheet["equation"])
        about = f"{escape_html(sheet['summary'])}\n\n{equation}\n\n{', '.join([page, *links])}."
        sources = {f["name"]: f["source"] for f in sheet["fields"]}
    rows = [(code(name), code(value), escape_html(sources.get(name, ""))) for name, value in stage.fields.items()]
    return f"{head}\n\n{about}\n\n{markdown_table(HYPER_PARAMETERS, rows, LEFT)}"


def known_sheet(name: str) -> dict[str, Any] | None:
    """What `bench methods` knows of a method; None if it is not installed here."""
    try:
        return method_sheet(name)
    except UserError:
        return None


def arxiv(text: str) -> list[str]:
    """Numbers of the papers that a text names, each once."""
    return list(dict.fromkeys(re.findall(r"arXiv[ :]+(\d{4}\.\d{4,5})", text)))


def budget_section(run: StoredRun) -> str:
    rows = [(words, amount(run.ledger[name])) for name, words in LEDGER.items() if name in run.ledger]
    said = f"The cap was {run.plan.budget}; evaluation is off the clock. What the run spent:"
    return f"## Budget\n\n{said}\n\n{markdown_table(('currency', 'spent'), rows, LEFT)}"


def amount(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def data_section(plan: RunPlan) -> str:
    made = "generated by the task" if plan.data == "generated" else f"of the file {code(plan.data)}"
    digest = f", digest {code(plan.data_digest)}" if plan.data_digest else ""
    apart = code(plan.split_by) if plan.split_by else "content"
    text = (
        f"{plan.train_size} training problems, {made}{digest}; task version {plan.task_version}. Splits are "
        f"disjoint by {apart}. Completions have up to {plan.max_new_tokens} tokens."
    )
    harder = f" `ood` is level {code(plan.ood_level)}." if plan.ood_level else ""
    others = ", ".join(code(f"{o.task} {o.level}") for o in plan.others)
    return f"## Data\n\n{text}{harder}" + (f" Other tasks judged on: {others}." if others else "")


def accuracy_section(run: StoredRun, scores: Sequence[SplitScore]) -> str:
    """One row per split, and the validation accuracies along the budget."""
    ks = sorted({int(k) for s in scores for k in s.pass_at if k != "1"})
    head = ("split", "items x samples", "sampled % [95 %]", "greedy % [95 %]", *(f"pass@{k} %" for k in ks), "chance %")
    rows = [
        (
            code(s.split),
            f"{s.num_items} x {s.num_samples}",
            " ".join(interval_cell(s.sampled)),
            " ".join(interval_cell(s.greedy)),
            *(f"{100 * s.pass_at[str(k)]:.1f}" if str(k) in s.pass_at else "-" for k in ks),
            f"{100 * s.chance:.1f}",
        )
        for s in scores
    ]
    said = f"Intervals are over items only: this is one run. Samples are drawn at temperature {run.plan.temperature:g}."
    along = [f"{e['fraction']:.0%}: {100 * e['accuracy']:.1f}" for e in run.evals if e["split"] == "val"]
    curve = f"Sampled validation accuracy in % along the budget: {', '.join(along)}." if along else ""
    return "\n\n".join(part for part in ("## Accuracy", said, markdown_table(head, rows, LEFT), curve) if part)


def provenance_section(run: StoredRun) -> str:
    """Passport, environment and the command that made the run."""
    env = run.env
    state = passport_state(run.path, run.plan)
    versions = ", ".join(f"{name} {version}" for name, version in env.get("versions", {}).items())
    where = [env.get("system"), env.get("machine"), env.get("gpu"), f"Python {env.get('python', 'unknown')}", versions]
    lines = [
        f"- Passport {CHECKS[state]}",
        f"- Stack: {code(env.get('stack_key', 'not recorded'))}; protocol {run.plan.protocol}",
        f"- Environment: {code(', '.join(str(part) for part in where if part))}",
        f"- Device: {code(run.execution.get('device', 'unknown'))}, {run.execution.get('threads', '?')} thread(s)",
    ]
    command = [str(word) for word in env.get("command", [])]
    made = "The command that made it (and the other runs that it names):\n\n" + fenced(
        shlex.join(["bench", *command[1:]]) if command else "not recorded"
    )
    return "## Provenance\n\n" + "\n".join(lines) + f"\n\n{made}"


# --- markdown --------------------------------------------------------------------------------------------------


def code(value: object) -> str:
    """Any text as a code span of one line, which no character in it can leave."""
    text = one_line(value) or " "
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return f"{ticks}{space}{text}{space}{ticks}"


def fenced(text: str) -> str:
    """A block of code, fenced longer than any fence in it."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}text\n{text.strip()}\n{fence}"


def escape_html(text: str) -> str:
    return text.replace("<", "&lt;").replace("``", "`")
