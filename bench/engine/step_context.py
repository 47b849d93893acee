"""What the engine offers a method while it collects a step."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from bench.engine.policy import Policy
from bench.engine.scoring import Features
from bench.engine.verification import Verification, num_threads
from bench.seeds import derive_seed
from bench.types import Completion, Example, Scores, Task, Trajectory


@dataclass
class StepContext:
    """What a method may ask for during one step: samples (verified and charged), progress, and its own generator."""

    policy: Policy
    task: Task
    progress: float
    rng: random.Random
    seed: int
    max_new_tokens: int
    temperature: float
    sample_rows: int
    buffer: list[Example] = field(default_factory=list)
    memory: dict[str, Tensor] = field(default_factory=dict)
    scorer: Callable[[Sequence[Trajectory], Features | None, str], list[Scores]] | None = None
    calls: int = 0
    prefixes: dict[str, int] = field(default_factory=dict)  # example id -> tokens of its longest sampled prefix

    @property
    def mask_id(self) -> int:
        return self.policy.mask_id

    def row_seeds(self, ids: Sequence[str], group_size: int) -> list[int]:
        """A seed per completion from step, call, prompt and its number among the completions of this prompt."""
        # By prompt and not by row: a draw stays the same in whatever order and company its prompt is sampled.
        counts: Counter[str] = Counter()
        seeds = []
        for id in (id for id in ids for _ in range(group_size)):
            seeds.append(derive_seed("row", self.seed, self.calls, id, counts[id]))
            counts[id] += 1
        return seeds

    def sample(
        self,
        examples: Sequence[Example],
        prefixes: Sequence[tuple[int, ...]],
        group_size: int,
        *,
        greedy: bool = False,
    ) -> list[list[Completion]]:
        meter = self.policy.meter
        assert meter is not None
        contexts = [(*e.prompt_ids, *prefix) for e, prefix in zip(examples, prefixes)]
        for e, prefix in zip(examples, prefixes):
            if prefix:
                # A prefix is paid for when it is shown, even if no rollout that continues it is kept.
                self.prefixes[e.id] = max(len(prefix), self.prefixes.get(e.id, 0))
        texts: dict[int, str] = {}
        with Verification(self.task, num_threads(self.policy.device), self.policy.ranks) as verification:

            def read(rows: Sequence[int], tokens: Sequence[list[int]]) -> None:
                # The verifier reads prefix and continuation as one answer.
                whole = [(*prefixes[r // group_size], *ids) for r, ids in zip(rows, tokens)]
                texts.update(zip(rows, self.policy.decode(whole)))

            def finished(rows: Sequence[int], tokens: Sequence[list[int]]) -> None:
                read(rows, tokens)
                for r in rows:
                    verification.ask(r, examples[r // group_size].problem, texts[r])

            with meter.timed("sample"):
                seeds = None if greedy else self.row_seeds([e.id for e in examples], group_size)
                self.calls += 1
                how = (self.max_new_tokens, seeds, self.temperature, self.sample_rows)
                out = self.policy.sample(contexts, group_size, *how, finished)
            # Only the wait: most verdicts were found while the next rows were sampled.
            with meter.timed("verify"):
                verdicts = verification.wait()
                meter.ledger.verifier_calls += len(verdicts)
        if others := [r for r in range(len(out.token_ids)) if r not in texts]:
            read(others, [out.token_ids[r] for r in others])
        completions = [
            Completion(
                tuple(ids), tuple(logp), texts[r], "stop" if ids[-1] in self.policy.eos_ids else "length", verdict
            )
            for r, (ids, logp, verdict) in enumerate(zip(out.token_ids, out.logprobs, verdicts))
        ]
        self.policy.gap.expect([completion.logprobs for completion in completions])
        return [completions[i : i + group_size] for i in range(0, len(completions), group_size)]

    def score(
        self, rows: Sequence[Trajectory], *, features: Features | None = None, under: str = "policy"
    ) -> list[Scores]:
        meter = self.policy.meter
        assert meter is not None and self.scorer is not None
        if not rows:
            return []
        self.policy.engine.release()  # what it holds for sampling, the pass may need
        with meter.timed("score"):
            return self.scorer(rows, features, under)
