"""Verdicts of one run in one small file, ``verdicts.npz``: all that tables and curves need of its item records.

The file is a zip of three arrays of bytes: ``index`` (JSON: the lines of evals.jsonl, each with ``ids``, the number of
its list of items, and where items are near duplicates ``clusters``, that of a list of labels), ``ids`` (JSON: these
lists, each once) and ``bits`` (for each line of the index sampled verdicts [items, samples] and greedy verdicts
[items], packed).
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.foreign import parse_json
from bench.store.files import Fence, replace_bytes
from bench.store.run_folder import VERDICTS, CorruptRun, read_lines

EPOCH = (1980, 1, 1, 0, 0, 0)  # of the zip's members: the same verdicts give the same bytes
NAMES = ("index", "ids", "bits")
HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '\|u1', 'fortran_order': False, 'shape': \((\d+),\), \} *\n", re.DOTALL
)


@dataclass(frozen=True)
class Verdicts:
    """Verdicts on one evaluation's items, bool: ``correct`` [items, samples] and ``greedy`` [items].

    ``clusters`` has one label per item, equal for near duplicates; None where there are none, or none were recorded.
    """

    item_ids: tuple[str, ...]
    correct: np.ndarray
    greedy: np.ndarray
    clusters: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Records:
    """The evaluations of a run, as lines of evals.jsonl, and what their verdicts are read from."""

    evaluations: Sequence[Mapping[str, Any]]
    items: Sequence[Mapping[str, Any]] = ()  # lines of items.jsonl; none where there are packed verdicts
    ids: Sequence[tuple[str, ...]] = ()
    bits: np.ndarray | None = None

    def verdicts(self, evaluation: Mapping[str, Any]) -> Verdicts:
        """Verdicts of one of the evaluations; CorruptRun if items are missing."""
        if self.bits is None:
            return of_items(evaluation, self.items)
        number = next(n for n, e in enumerate(self.evaluations) if e is evaluation)
        start = sum(num_bytes(e) for e in self.evaluations[:number])
        num_items, num_samples = evaluation["num_items"], evaluation["num_samples"]
        drawn = num_items * num_samples
        flat = np.unpackbits(self.bits[start : start + num_bytes(evaluation)])[: drawn + num_items].astype(bool)
        ids = self.ids[evaluation["ids"]]
        clusters = self.ids[evaluation["clusters"]] if "clusters" in evaluation else None
        if clusters is not None and len(clusters) != num_items:
            raise CorruptRun(f"{VERDICTS} has {len(clusters)} labels of {num_items} items")
        if len(flat) < drawn + num_items or len(ids) != num_items:
            raise CorruptRun(f"{VERDICTS} has fewer verdicts of the {evaluation['split']} split than its evaluation")
        return Verdicts(ids, flat[:drawn].reshape(num_items, num_samples), flat[drawn:], clusters)


def num_bytes(evaluation: Mapping[str, Any]) -> int:
    """Bytes of one evaluation's bits."""
    return -(-evaluation["num_items"] * (evaluation["num_samples"] + 1) // 8)


def of_items(evaluation: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> Verdicts:
    """Verdicts from the lines of items.jsonl; CorruptRun if they are not as many as the evaluation says."""
    split = evaluation["split"]
    items = [i for i in lines if i["split"] == split and i["fraction"] == evaluation["fraction"]]
    if len(items) != evaluation["num_items"]:
        raise CorruptRun(f"items.jsonl has {len(items)} items of the {split} split, expected {evaluation['num_items']}")
    correct = np.array([[s["correct"] for s in i["samples"]] for i in items], dtype=bool)
    greedy = np.array([i["greedy"]["correct"] for i in items], dtype=bool)
    return Verdicts(tuple(i["id"] for i in items), correct, greedy)


def pack(judged: Iterable[tuple[Mapping[str, Any], Verdicts]]) -> bytes:
    """The content of the file from lines of evals.jsonl with their verdicts; the same ones give the same bytes."""
    ids: dict[tuple[str, ...], int] = {}
    index, bits = [], []
    for evaluation, verdicts in judged:
        index.append({**evaluation, "ids": ids.setdefault(verdicts.item_ids, len(ids))})
        if verdicts.clusters is not None:
            index[-1]["clusters"] = ids.setdefault(verdicts.clusters, len(ids))
        bits.append(np.packbits(np.concatenate([verdicts.correct.ravel(), verdicts.greedy])))
    texts = [json.dumps(value, separators=(",", ":")).encode() for value in (index, list(ids))]
    arrays = [*(np.frombuffer(text, dtype=np.uint8) for text in texts), np.concatenate([np.zeros(0, np.uint8), *bits])]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in zip(NAMES, arrays):
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", EPOCH), member.getvalue(), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def write_verdicts(path: Path, clusters: Mapping[str, tuple[str, ...]], fence: Fence | None = None) -> None:
    """Pack the verdicts of a run directory whose records are complete; ``clusters`` are labels of items by split."""
    evaluations, items = read_lines(path / "evals.jsonl"), read_lines(path / "items.jsonl")
    judged = ((e, replace(of_items(e, items), clusters=clusters.get(e["split"]))) for e in evaluations)
    replace_bytes(path / VERDICTS, pack(judged), fence)


@lru_cache(maxsize=64)
def id_lists(text: bytes) -> tuple[tuple[str, ...], ...]:
    """Runs of one comparison have the same lists, and then share them in memory."""
    return tuple(tuple(ids) for ids in parse_json(text))


def array_bytes(member: bytes) -> bytes:
    """Content of a one-dimensional array of bytes in numpy's format; ValueError for anything else.

    ``numpy.load`` reads it too, but parses the header as Python, which takes longer than all the rest.
    """
    header = HEADER.match(member)
    if header is None or len(member) != header.end() + int(header[1]):
        raise ValueError("not an array of bytes")
    return member[header.end() :]


def unpack(content: bytes) -> Records:
    """Records from the content of the file; CorruptRun if it is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            index, ids, bits = (array_bytes(archive.read(f"{name}.npy")) for name in NAMES)
        return Records(parse_json(index), (), id_lists(ids), np.frombuffer(bits, dtype=np.uint8))
    except (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CorruptRun(f"{VERDICTS}: {error}") from None


def read_verdicts(path: Path, done: Mapping[str, Any]) -> Records:
    """The evaluations of a checked run, by its done marker: packed, or line by line where it is from before that.

    CorruptRun if they cannot be read.
    """
    if VERDICTS not in done["digests"]:
        return Records(read_lines(path / "evals.jsonl"), read_lines(path / "items.jsonl"))
    return unpack((path / VERDICTS).read_bytes())
