"""How many bytes training and sampling take, by formula from a model's shape: the one place of this arithmetic.

`bench doctor` shows the whole table before anything is loaded.  `bench/study/footprint.py` takes what is kept on the
host and in checkpoints from here, `bench/engine/memory.py` all but the activations, which it measures.

Masters, gradients and moments are float32.  On CUDA the passes run in bfloat16 by autocast, which keeps a bfloat16 copy
of every weight until the backward pass.  The counts per token are of what PyTorch saves for the backward pass in a
block of the Llama and Qwen kind: norm, attention, norm, gated MLP.  Other kinds of models take other amounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.plan.execution import LOGITS_BYTES, LOGITS_COPIES

FLOAT, HALF = 4, 2  # bytes
MOMENTS = 2  # of AdamW, for each number that is trained
GIGA = 1e9


@dataclass(frozen=True)
class Shape:
    """The sizes that memory depends on."""

    parameters: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    width: int
    vocabulary: int

    @staticmethod
    def of(config: Any, parameters: int) -> Shape:
        """From a transformers configuration; sizes that it does not name are those of a plain block."""
        heads = config.num_attention_heads
        return Shape(
            parameters=parameters,
            layers=config.num_hidden_layers,
            hidden=config.hidden_size,
            intermediate=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
            heads=heads,
            kv_heads=getattr(config, "num_key_value_heads", None) or heads,
            width=getattr(config, "head_dim", None) or config.hidden_size // heads,
            vocabulary=config.vocab_size,
        )


@dataclass(frozen=True)
class Load:
    """What a run puts on a device: tokens of a training pass, rows and tokens of sampling, what it keeps besides."""

    half: bool  # bfloat16 autocast
    micro_batch_tokens: int
    rows: int
    row_tokens: int  # prompt and completion
    reference: int  # frozen models beside the policy
    samples: bool


def activation_bytes(shape: Shape, half: bool) -> int:
    """Bytes per token that the backward pass needs of all layers.

    In units of the hidden size: each of two norms keeps its input and the normalised input in float32.  In bfloat16 the
    five projections that read a norm each keep a cast of their own, in float32 they share the norm's output.  The MLP
    keeps its two projections, the activation and the product; attention keeps queries, keys, values and its output, in
    bfloat16 also keys and values as repeated for all heads (which models of narrow heads do not: a few percent less).
    """
    size = HALF if half else FLOAT
    queries, keys = shape.heads * shape.width, shape.kv_heads * shape.width
    norms = 2 * (2 * FLOAT * shape.hidden + FLOAT) + (5 * HALF if half else 2 * FLOAT) * shape.hidden
    attention = size * ((4 if half else 2) * queries + 2 * keys) + FLOAT * shape.heads
    return shape.layers * (norms + attention + 4 * size * shape.intermediate)


def kv_bytes(shape: Shape, half: bool) -> int:
    """Bytes per token of a row in the cache of keys and values."""
    return 2 * shape.layers * shape.kv_heads * shape.width * (HALF if half else FLOAT)


def head_bytes(hidden: int, vocabulary: int, half: bool, tokens: int) -> int:
    """A chunk of logits with all that differentiating it takes, and the gradient of the head's weights on its way."""
    chunk = min(LOGITS_BYTES["cuda" if half else "cpu"], FLOAT * tokens * vocabulary)
    return chunk * LOGITS_COPIES + hidden * vocabulary * (FLOAT + (2 * HALF if half else 0))


def kept_bytes(parameters: float, trained: float, reference: int) -> dict[str, float]:
    """Bytes that a model of so many numbers, and AdamW, keep: of these ``trained`` are changed.

    A reference copies what is trained, and there may be two: with an adapter it shares the weights below it.
    """
    return {
        "weights": FLOAT * parameters,
        "gradients": FLOAT * trained,
        "moments": MOMENTS * FLOAT * trained,
        "reference": FLOAT * trained * reference,
    }


def casts_bytes(parameters: float, half: bool) -> float:
    """Bytes of the bfloat16 copies that autocast keeps until the backward pass."""
    return HALF * parameters if half else 0.0


def memory_table(shape: Shape, load: Load) -> dict[str, float]:
    """Bytes by what they hold, and the peak: training and sampling are never on the device together."""
    kept = kept_bytes(shape.parameters, shape.parameters, load.reference)
    passes = {
        "casts": casts_bytes(shape.parameters, load.half),
        "activations": activation_bytes(shape, load.half) * load.micro_batch_tokens,
        "head": head_bytes(shape.hidden, shape.vocabulary, load.half, load.micro_batch_tokens),
    }
    copy = (HALF if load.half else FLOAT) * shape.parameters
    sampling = {
        "sampler's weights": copy if load.samples else 0,
        "cache": kv_bytes(shape, load.half) * load.rows * load.row_tokens if load.samples else 0,
    }
    # Gradients are there from the backward pass to the end of the update, never while the policy samples.
    gradients = kept["gradients"]
    peak = sum(kept.values()) - gradients + max(gradients + sum(passes.values()), sum(sampling.values()))
    return {**kept, **passes, **sampling, "peak": float(peak)}


def gigabytes(table: Mapping[str, float]) -> dict[str, float]:
    """The table in GB (1e9 bytes)."""
    return {name: value / GIGA for name, value in table.items()}
