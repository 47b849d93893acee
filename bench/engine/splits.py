"""What a run is trained and judged on: its own splits, a harder level, other wordings, other tasks and base skills."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.engine import evaluate
from bench.engine.policy import Policy
from bench.plan import registry
from bench.plan.data import Source
from bench.plan.spec import RunPlan
from bench.types import Example, UserError
from tasks import common, skills

SKILL = "skill:"


@dataclass(frozen=True)
class Split:
    """Tokenised problems to judge a model on; the name stands in the records: "ood", "other:logic", "skill:copying"."""

    name: str
    task: evaluate.Judge
    examples: Sequence[Example]


def split_examples(plan: RunPlan, data: Source | None, policy: Policy) -> dict[str, list[Example]]:
    """Tokenised examples of the train, val and test splits."""
    counts = {"train": plan.train_size, "val": plan.evaluation.val_items, "test": plan.evaluation.test_items}
    # Rows are divided by content and shuffled by a fixed seed, so every run of a study is judged on the same items.
    rows = None if data is None else common.from_file(registry.task(plan.task), data, plan.template)
    examples = {}
    for split, count in counts.items():
        chosen = own(plan, rows, split, count)
        if data is not None and not chosen:
            raise UserError(f"data file '{data.location}' has no rows for the {split} split: give more rows")
        examples[split] = [policy.encode(e, plan.template) for e in chosen]
    return examples


def own(plan: RunPlan, rows: dict[str, list[Example]] | None, split: str, count: int) -> list[Example]:
    """The first examples of a split of the run's own problems: generated ones, or rows of a file in a fixed order."""
    if rows is None:
        return common.load_examples(registry.task(plan.task), split, count, plan.level, plan.template)
    chosen = list(rows[split])
    random.Random(common.derive_seed("rows", split)).shuffle(chosen)
    return chosen[:count]


def splits_elsewhere(plan: RunPlan, data: Source | None, policy: Policy) -> list[Split]:
    """The further test splits; one that does not fit the model's context is left out, and the log says so."""
    most, splits = window(policy), []
    for split in written(plan, data):
        template = "plain" if split.name.startswith(SKILL) else plan.template  # skills are text to go on with
        encoded = Split(split.name, split.task, [policy.encode(e, template) for e in split.examples])
        longest = max(len(e.prompt_ids) for e in encoded.examples)
        need = longest + evaluation_settings(plan, encoded).max_new_tokens
        if most is not None and need > most:
            print(f"{split.name} is left out: it may need {need} tokens, the model has a context of {most}")
        else:
            splits.append(encoded)
    return splits


def written(plan: RunPlan, data: Source | None) -> Iterator[Split]:
    """The splits in a fixed order, not tokenised; all problems are of test splits, so none was trained on."""
    task, sizes = registry.task(plan.task), plan.evaluation
    if plan.ood_level and sizes.ood_items:
        yield Split("ood", task, common.load_examples(task, "test", sizes.ood_items, plan.ood_level, plan.template))
    if sizes.reworded_items:
        rows = None if data is None else common.from_file(task, data, plan.template)
        chosen = own(plan, rows, "test", sizes.reworded_items)
        yield Split("reworded", task, common.reworded(task, chosen, plan.template))
    for other in plan.others:
        judge = registry.task(other.task)
        problems = common.load_examples(judge, "test", sizes.other_items, other.level, plan.template)
        yield Split(f"other:{other.task}", judge, problems)
    for skill in plan.skills:
        task_like = skills.SKILLS[skill.task]
        yield Split(f"{SKILL}{skill.task}", task_like, skills.load_skill(task_like, sizes.skill_items, skill.level))


def evaluation_settings(plan: RunPlan, split: Split, sample_rows: int = 1) -> evaluate.Settings:
    """How a split is sampled; completions elsewhere may be as long as the longest demonstration there.

    Only the beginning of a skill's completion is judged, so it is cut shortly after the longest answer.
    """
    sizes = plan.evaluation
    most = plan.max_new_tokens
    if split.name not in ("val", "test"):
        longest = max(len(e.demo_ids) for e in split.examples)
        most = longest + skills.MARGIN if split.name.startswith(SKILL) else max(most, longest)
    samples = sizes.val_samples if split.name == "val" else sizes.test_samples
    return evaluate.Settings(samples, most, plan.temperature, sample_rows, plan.seed)


def window(policy: Policy) -> int | None:
    """Tokens that the model's context holds, None if its configuration does not say."""
    return getattr(policy.model.config, "max_position_embeddings", None)
