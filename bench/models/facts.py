"""What a local model is: size, context and the facts of its tokenizer that decide how it is trained and sampled."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from bench.models import WEIGHTS, check_directory, json_object, local_models, model_digest, model_settings
from bench.models.chat import chat_prefix
from bench.types import UserError


def num_weights(folder: Path) -> int:
    """Numbers stored in the safetensors files, from their headers alone; UserError if one is damaged or cut off."""
    total = 0
    for file in sorted(folder.glob(WEIGHTS)):
        with file.open("rb") as stream:
            try:
                (length,) = struct.unpack("<Q", stream.read(8))
                header = json.loads(stream.read(min(length, 100_000_000)))
                tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
                total += sum(prod(tensor["shape"]) for tensor in tensors)
                end = 8 + length + max(tensor["data_offsets"][1] for tensor in tensors)
            except (struct.error, ValueError, TypeError, KeyError, AttributeError):
                raise UserError(f"'{file}' is no safetensors file: its header cannot be read") from None
        if file.stat().st_size != end:
            raise UserError(f"'{file}' has {file.stat().st_size:,} bytes: expected {end:,}, as its header says")
    return total


def model_facts(folder: Path) -> dict[str, Any]:
    """Facts for people and programs; UserError if the folder's tokenizer cannot be loaded.

    ``chat_prefix`` is what the chat template writes before the user's text: some add a system prompt of their own.
    """
    config = json_object(folder / "config.json")
    facts: dict[str, Any] = {
        "type": config.get("model_type", "unknown"),
        "parameters": num_weights(folder),
        "bytes": sum(file.stat().st_size for file in folder.glob(WEIGHTS)),
        "context": config.get("max_position_embeddings"),
        "embeddings": config.get("vocab_size"),
    }
    return facts | tokenizer_facts(folder, config)


def tokenizer_facts(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Vocabulary, tokens with a role, and the text that the chat template adds before a prompt."""
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except Exception as error:  # transformers raises whatever the bytes of a tokenizer happen to provoke
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"'{folder.name}' has no tokenizer that transformers reads: {reason}") from None
    named = {f"{role}_token": getattr(tokenizer, f"{role}_token") for role in ("bos", "eos", "pad")}
    return {"vocabulary": len(tokenizer), **named, "chat_prefix": chat_prefix(tokenizer)}


def oddities(facts: Mapping[str, Any]) -> list[str]:
    """What of a model's tokenizer surprises those who train with it, a phrase each."""
    roles = [(role, facts.get(f"{role}_token")) for role in ("pad", "eos", "bos")]
    same = [f"{a} token is the {b} token" for i, (a, x) in enumerate(roles) for b, y in roles[i + 1 :] if x and x == y]
    prefix = facts.get("chat_prefix")
    if prefix is None:
        same.append("no chat template")
    elif "system" in prefix:
        same.append("chat template adds a system prompt")
    if (facts.get("embeddings") or 0) < facts["vocabulary"]:
        same.append("vocabulary larger than the embedding")
    return same


def model_entries() -> list[dict[str, Any]]:
    """All local models: name, folder, digest, origin, facts and what is odd about their tokenizer.

    One that is damaged has a ``fault`` in place of facts and notes.
    """
    return [model_entry(name, folder) for name, folder in local_models().items()]


def model_entry(name: str, folder: Path) -> dict[str, Any]:
    """A local model as ``bench models --json`` has it."""
    entry: dict[str, Any] = {"name": name, "path": str(folder), "digest": ""}
    try:
        entry["digest"] = model_digest(str(folder))
        for file in sorted(folder.glob("*.json")):
            json_object(file)
        check_directory(folder, f"model directory '{folder}'")
        settings = model_settings(str(folder))
        num_weights(folder)
        facts = settings.get("facts") or model_facts(folder)
        origin = settings.get("origin", {"kind": "embedded"} if name == "tiny" else {})
        return {**entry, "origin": origin, "facts": facts, "notes": oddities(facts)}
    except (UserError, OSError, ValueError, LookupError) as fault:
        return {**entry, "fault": str(fault)}
