"""Memory of training by model, by the formulas of `bench doctor`: the table of docs/scaling.md.

``python -m benchmarks.memory_table [--out docs/scaling.md]``.  Sizes are those of the published configurations.
"""

from __future__ import annotations

from bench.plan.memory import GIGA, Load, Shape, kept_bytes, kv_bytes, memory_table
from benchmarks.tables import make_tables

# Parameters, layers, hidden, intermediate, heads, heads of keys, width of a head, vocabulary.
SHAPES = {
    "SmolLM2-135M": Shape(134_515_008, 30, 576, 1536, 9, 3, 64, 49_152),
    "Qwen2.5-0.5B": Shape(494_032_768, 24, 896, 4864, 14, 2, 64, 151_936),
    "Qwen2.5-1.5B": Shape(1_543_714_304, 28, 1536, 8960, 12, 2, 128, 151_936),
    "Qwen2.5-3B": Shape(3_085_938_688, 36, 2048, 11_008, 16, 2, 128, 151_936),
    "Qwen2.5-7B": Shape(7_615_616_512, 28, 3584, 18_944, 28, 4, 128, 152_064),
}
CARDS = (24, 48, 80, 141)  # GB of common cards
TOKENS, ROW = 16_384, 1424  # of a pass; prompt and completion of a sampled row
SHARE = 0.9  # of a card that can be used


def peak(shape: Shape, tokens: int, reference: bool) -> float:
    """GB at the peak of training on a GPU without recomputation; sampling takes the rows that fit."""
    return memory_table(shape, Load(True, tokens, 0, ROW, reference, samples=False))["peak"] / GIGA


def smallest(gigabytes: float) -> str:
    """The smallest card in whose usable part it fits."""
    fitting = [card for card in CARDS if gigabytes <= SHARE * card]
    return f"{fitting[0]}" if fitting else "none"


def models(_: int = 1) -> str:
    """A row for each model: what is kept, the peak of a large and of a small pass, and of sampled rows."""
    head = (
        "model",
        "kept, GB",
        "with a reference",
        f"peak at {TOKENS:,} tokens a pass",
        "at 2,048",
        "card, GB",
        "a row, MB",
    )
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for name, shape in SHAPES.items():
        kept = [sum(kept_bytes(shape.parameters, shape.parameters, known).values()) / GIGA for known in (False, True)]
        peaks = [peak(shape, tokens, True) for tokens in (TOKENS, 2048)]
        row = kv_bytes(shape, True) * ROW / 1e6
        cells = [*(f"{value:.1f}" for value in (*kept, *peaks)), smallest(peaks[1]), f"{row:.1f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


TABLES = {"memory": models}

if __name__ == "__main__":
    make_tables(__doc__, TABLES, 1)
