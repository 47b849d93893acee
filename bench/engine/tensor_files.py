"""Files of tensors in the safetensors format, written one tensor at a time: there is never a copy of all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from bench.engine.sharding import whole
from bench.store.files import sync

KINDS = {  # as the format calls them: https://github.com/huggingface/safetensors, "Format"
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> str:
    """Write tensors of any device to the disk; the file's SHA-256.  Each is copied to the CPU when its turn comes."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for part in file_parts(tensors):
            file.write(part)
            digest.update(part)
    sync(path)
    return digest.hexdigest()


def file_parts(tensors: Mapping[str, torch.Tensor]) -> Iterator[Any]:
    """The header, then the bytes of each tensor."""
    ordered = in_order(tensors)
    header, end = {}, 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": KINDS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for _, tensor in ordered:
        yield whole(tensor).cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def in_order(tensors: Mapping[str, torch.Tensor]) -> list[tuple[str, torch.Tensor]]:
    """As they are written, the largest numbers first: so each begins at a multiple of the size of its own."""
    return sorted(tensors.items(), key=lambda item: -item[1].element_size())


def give_parts(tensors: Mapping[str, torch.Tensor]) -> None:
    """Take part in what another rank writes: its call of ``write_tensors`` asks for each tensor as a whole."""
    for _, tensor in in_order(tensors):
        whole(tensor)
