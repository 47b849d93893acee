"""What a run is trained and judged on: its own splits, a harder level, other wordings, other tasks and base skills."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bench.engine import evaluate
from bench.engine.policy import Policy
from bench.foreign import say
from bench.plan import registry
from bench.plan.data import Source
from bench.plan.pipelines import overlapping
from bench.plan.spec import RunPlan
from bench.stats.clusters import cluster_numbers
from bench.types import Example, UserError
from tasks import common, skills
from tasks._near import Grouped

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
    rows = rows_of(plan, data)
    examples = {}
    for split, count in counts.items():
        chosen = own(plan, rows, split, count)
        if data is not None and not chosen:
            raise UserError(f"data file '{data.location}' has no rows for the {split} split: give more rows")
        examples[split] = [policy.encode(e, plan.template) for e in chosen]
    return examples


def stage_pool(plan: RunPlan, number: int, pool: Sequence[Example]) -> Sequence[Example]:
    """The training examples of a stage: all of them unless the plan says what its stages share."""
    if (overlap := plan.stages[number].overlap) is None:
        return pool
    return [pool[place] for place in overlapping([e.id for e in pool], overlap)[number]]


def rows_of(plan: RunPlan, data: Source | None) -> dict[str, list[Example]] | None:
    """Examples of the run's data by split, None where its problems are generated."""
    return None if data is None else common.from_file(registry.task(plan.task), data, plan.template, plan.split_by)


def own(plan: RunPlan, rows: dict[str, list[Example]] | None, split: str, count: int) -> list[Example]:
    """The first examples of a split of the run's own problems: generated ones, or rows of a file in a fixed order."""
    if rows is None:
        return drawn(plan, split, count, plan.level)
    return common.in_order(rows, split, count)


def drawn(plan: RunPlan, split: str, count: int, level: str) -> list[Example]:
    """Generated problems of the run's own task at one of its levels."""
    return common.load_examples(registry.task(plan.task), split, count, level, plan.template, split_by=plan.split_by)


def splits_elsewhere(plan: RunPlan, data: Source | None, policy: Policy) -> list[Split]:
    """The further test splits; one that does not fit the model's context is left out, and the log says so."""
    most, splits = window(policy), []
    for split in written(plan, data):
        template = "plain" if split.name.startswith(SKILL) else plan.template  # skills are text to go on with
        encoded = Split(split.name, split.task, [policy.encode(e, template) for e in split.examples])
        longest = max(len(e.prompt_ids) for e in encoded.examples)
        need = longest + evaluation_settings(plan, encoded).max_new_tokens
        if most is None or need <= most:
            splits.append(encoded)
        elif policy.ranks.first:
            say(f"{split.name} is left out: it may need {need} tokens, the model has a context of {most}")
    return splits


def written(plan: RunPlan, data: Source | None) -> Iterator[Split]:
    """The splits in a fixed order, not tokenised; all problems are of test splits, so none was trained on."""
    task, sizes = registry.task(plan.task), plan.evaluation
    if plan.ood_level and sizes.ood_items:
        yield Split("ood", task, drawn(plan, "test", sizes.ood_items, plan.ood_level))
    if sizes.reworded_items:
        chosen = own(plan, rows_of(plan, data), "test", sizes.reworded_items)
        yield Split("reworded", task, common.reworded(task, chosen, plan.template))
    for other in plan.others:
        judge = registry.task(other.task)
        problems = common.load_examples(judge, "test", sizes.other_items, other.level, plan.template)
        yield Split(f"other:{other.task}", judge, problems)
    for skill in plan.skills:
        task_like = skills.SKILLS[skill.task]
        yield Split(f"{SKILL}{skill.task}", task_like, skills.load_skill(task_like, sizes.skill_items, skill.level))


def near_labels(split: Split, split_by: str) -> tuple[str, ...] | None:
    """One label per item, equal where errors may be alike: by the key of the split if there is one, else by the task.

    None where all items differ, and where the task says nothing of it.
    """
    if not isinstance(split.task, Grouped):
        return None
    labels = []
    for example in split.examples:
        # Problems that are kept together when they are split were drawn together: there the key counts.
        kept = "" if split.name.startswith("other:") else split.task.near_keys(example.problem).get(split_by, "")
        labels.append(kept or split.task.cluster(example.problem) or example.id)
    numbers = cluster_numbers(labels)
    return None if numbers is None else tuple(map(str, numbers))


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


def check_context(plan: RunPlan, examples: Iterable[Example], window: int | None) -> None:
    """UserError if prompt, demonstration prefix and completion may exceed the model's context together."""
    need = max(len(e.prompt_ids) + len(e.demo_ids) for e in examples) + plan.max_new_tokens
    if window is not None and need > window:
        raise UserError(
            f"model '{plan.model}' has a context of {window} tokens, this run may need {need}: "
            "lower --max-new-tokens or choose another level or template"
        )


def window(policy: Policy) -> int | None:
    """Tokens that the model's context holds, None if its configuration does not say."""
    return getattr(policy.model.config, "max_position_embeddings", None)
