"""What the stages of a pipeline divide among them: the budget, and on request the training examples.

``--set pipeline.overlap=S`` gives the two stages of a pipeline equally many examples, half of the pool each, of which
the second shares S with the first (arXiv 2604.13515: 0, 0.3 and 1 of the prompts of GRPO were in SFT's data).  The
first stage's half is the same for every S, and so are all sizes: only the overlap varies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.plan import registry
from bench.seeds import derive_seed
from bench.types import UserError

PIPELINE = "pipeline"  # stands for a method's name in --set
OVERLAP = "overlap"


def split_shares(method: str, given: Sequence[str | None]) -> list[float]:
    """The stages' shares of the budget; stages without one divide the rest equally."""
    try:
        shares = [None if text is None else float(text) for text in given]
    except ValueError:
        raise UserError(f"method '{method}': shares are numbers between 0 and 1, for example sft@0.3+grpo") from None
    rest = 1.0 - sum(share for share in shares if share is not None)
    num_open = shares.count(None)
    complete = rest > 1e-9 if num_open else abs(rest) < 1e-9
    if not complete or any(share is not None and share <= 0 for share in shares):
        raise UserError(
            f"method '{method}': the shares of its stages must be positive and sum to 1, "
            "for example sft@0.3+grpo@0.7, or sft@0.3+grpo where the last stage takes the rest"
        )
    return [rest / num_open if share is None else share for share in shares]


def overlap_of(method: str, num_stages: int, settings: Mapping[str, str]) -> float | None:
    """The overlap that is set for this method expression; None without one, and for a single method.

    UserError for another setting, a value that is no share, and a pipeline of more than two stages.
    """
    for name in settings:
        registry.check_choice(name, (OVERLAP,), f"field of {PIPELINE}")
    if not settings or num_stages == 1:
        return None
    text = settings[OVERLAP]
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:  # nan neither
        raise UserError(f"{PIPELINE}.{OVERLAP}: '{text}' is not valid: expected a share from 0 to 1, for example 0.3")
    if num_stages > 2:
        raise UserError(f"{PIPELINE}.{OVERLAP}: '{method}' has {num_stages} stages: expected two, for example sft+grpo")
    return share


def overlapping(ids: Sequence[str], overlap: float) -> tuple[list[int], list[int]]:
    """Places of the first and the second stage's examples in a pool with these ids, each half of it, in its order."""
    if len(ids) < 2:
        raise UserError(f"{len(ids)} training examples cannot be halved for {PIPELINE}.{OVERLAP}: give more")
    half = len(ids) // 2
    shared = round(overlap * half)
    # By hash and not by lot: the same for every seed, and what a larger overlap adds does not change the rest.
    ranked = sorted(range(len(ids)), key=lambda place: derive_seed(OVERLAP, ids[place]))
    return sorted(ranked[:half]), sorted(ranked[half - shared : 2 * half - shared])
