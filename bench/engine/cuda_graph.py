"""A decoding step recorded once as a CUDA graph and replayed, which saves the launch of several hundred kernels."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

SWITCH = "BENCH_CUDA_GRAPHS"  # environment variable; 0 switches graphs off
failed = False  # in this process; then no other capture is tried


def wanted(device: torch.device) -> bool:
    """Whether steps on this device should be captured."""
    return device.type == "cuda" and os.environ.get(SWITCH, "1") != "0" and not failed


def captured(step: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor] | None:
    """``step`` as a graph where that is wanted and works, else None.

    ``step`` reads and writes tensors that stay in place and may run again with the same result.  The graph's result
    is overwritten by its next replay.
    """
    global failed
    if not wanted(device):
        return None
    try:
        return capture(step)
    except RuntimeError as error:  # CUDA's errors and torch's refusals alike
        failed = True
        reason = (str(error).splitlines() or [""])[0]
        warnings.warn(f"decoding without CUDA graphs, which could not be captured: {reason}", stacklevel=2)
        return None


def capture(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Run once, record, and replay; RuntimeError where the replay gives other logits."""
    # Libraries set themselves up at their first call on a stream, which may not be recorded.
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        expected = step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    # Other threads verify completions meanwhile: what they do does not concern this capture.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        result = step()
    graph.replay()
    if not torch.allclose(result, expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max())):
        raise RuntimeError("the replay disagrees with the step")

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay
