"""Running out of memory, whoever says so: allocators of the host, of a device and of its libraries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bench.types import UserError

# What allocators say whose error has no class of its own: the CPU's, cuBLAS, and CUDA outside of torch's allocator.
SIGNS = ("can't allocate memory", "Cannot allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory")
ADVICE = "expected --recompute full, a lower --max-new-tokens, a smaller model, or more memory"


class OutOfMemory(UserError):
    """Memory ran out and nothing can be made smaller by itself: for the user to mend, or for another device."""


class OutOfMemoryElsewhere(RuntimeError):
    """Memory ran out in another process of the same run."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or a CPU."""
    kinds = (torch.OutOfMemoryError, MemoryError, OutOfMemoryElsewhere)
    return isinstance(error, kinds) or any(sign in str(error) for sign in SIGNS)


def reason(error: BaseException) -> str:
    """What did not fit, in the allocator's first words."""
    return (str(error).splitlines() or [""])[0][:100].rstrip(". ") or type(error).__name__


@contextmanager
def too_large(what: str) -> Iterator[None]:
    """Turn running out of memory inside into OutOfMemory that names ``what``: it cannot be done in smaller parts."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(f"{what} does not fit into memory ({reason(error)}): {ADVICE}") from error
