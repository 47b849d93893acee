"""What `bench doctor` says of a model: its files, its tokenizer, the attention that its shapes get, and the memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.audit.doctor_machine import BAD, NOTE, OK, Finding
from bench.models import Located
from bench.plan.memory import GIGA, Load, Shape, gigabytes, kv_bytes, memory_table
from bench.types import Requests, UserError

READ = 4e9  # bytes of weights that are read whole; of larger ones only the headers are
COLUMNS = ("weights", "gradients", "moments", "reference", "casts", "activations", "head", "cache", "peak")


@dataclass(frozen=True)
class Known:
    """A model's configuration, tokenizer and shape, without its weights."""

    located: Located
    config: Any
    tokenizer: Any
    model: Any  # on the meta device: names and shapes of the weights
    shape: Shape


def know(located: Located) -> Known:
    """Load what planning loads; UserError for a model that cannot be trained here."""
    import torch
    from transformers import AutoModelForCausalLM

    from bench.engine.model_facts import architecture
    from bench.engine.model_faults import check_vocabulary
    from bench.engine.policy import NO_CODE, load_config, load_tokenizer, unloadable

    tokenizer, config = load_tokenizer(located.path), load_config(located.path)
    with torch.device("meta"):
        try:
            model = AutoModelForCausalLM.from_config(config, **NO_CODE)
        except Exception as error:  # transformers raises anything for a configuration that makes no sense
            raise unloadable(located.path, error) from None
    check_vocabulary(located.path, model, tokenizer)
    architecture(model)  # refuses models whose FLOPs are not known
    return Known(located, config, tokenizer, model, Shape.of(config, sum(p.numel() for p in model.parameters())))


# --- files and tokenizer -------------------------------------------------------------------------------------------


def weights_line(known: Known) -> Finding:
    """Origin, size and digest; damaged or absent weights are bad, those of the hub that are not fetched yet a note."""
    from bench.engine.model_faults import check_files
    from bench.models import WEIGHTS, model_settings
    from bench.models.facts import num_weights

    located, folder = known.located, Path(known.located.path)
    size = sum(file.stat().st_size for file in folder.glob(WEIGHTS))
    about = f"{located.name}, {known.config.model_type}, {known.shape.parameters / 1e6:,.1f} M parameters"
    facts = {"parameters": known.shape.parameters, "bytes": size, "commit": located.commit}
    if located.commit and not size:
        text = f"{about}, commit {located.commit[:12]}; its weights are not fetched yet"
        return Finding("model", NOTE, text, f"bench models add {located.name}@{located.commit}", facts)
    try:
        check_files(located.path) if size <= READ else num_weights(folder)
    except UserError as error:
        return Finding("model", BAD, str(error), "fetch or save the model again", facts)
    origin = model_settings(located.path).get("origin", {})
    commit = located.commit or origin.get("commit", "")
    pinned = f"commit {commit[:12]}" if commit else f"digest {located.digest[:8]}"
    return Finding("model", OK, f"{about}, {size / 1e6:,.0f} MB, {pinned}", facts={**facts, "commit": commit})


def tokenizer_lines(known: Known) -> Iterator[Finding]:
    """Tokens with a role and which of them are the same, the rows of the embedding, the chat template."""
    from bench.models.chat import chat_digest, chat_prefix

    tokenizer, roles = known.tokenizer, ("bos", "eos", "pad")
    ids = {role: getattr(tokenizer, f"{role}_token_id") for role in roles}
    names = [f"{role.upper()} {getattr(tokenizer, f'{role}_token')!r}" for role in roles if ids[role] is not None]
    pairs = [(a, b) for i, a in enumerate(roles) for b in roles[i + 1 :] if ids[a] is not None and ids[a] == ids[b]]
    same = [f"{a.upper()} is {b.upper()}" for a, b in pairs]
    ends = end_tokens(known)
    rows, used = known.shape.vocabulary, 1 + max(tokenizer.get_vocab().values())
    padded = [f"{rows - used} rows of the embedding stand for no token"] if rows > used else []
    ended = [f"a completion ends with any of {', '.join(map(repr, ends))}"] if len(ends) > 1 else []
    text = "; ".join([", ".join(names), *same, *ended, *padded, f"{used:,} tokens"])
    facts = {"ids": ids, "ends": ends, "rows": rows, "tokens": used}
    yield Finding("tokenizer", OK, text, facts=facts)
    prefix = chat_prefix(tokenizer)
    if prefix is None:
        yield Finding("chat", OK, "no chat template: --template plain")
        return
    shown = f"writes {prefix!r} before a prompt" if prefix else "writes nothing before a prompt"
    yield Finding("chat", OK, f"{shown}, digest {chat_digest(tokenizer)}", facts={"prefix": prefix})


def end_tokens(known: Known) -> list[str]:
    """All tokens that end a completion, as the engine sees them."""
    from transformers import GenerationConfig

    from bench.engine.model_facts import eos_ids

    try:
        kept = GenerationConfig.from_pretrained(known.located.path)
    except OSError:  # there is no such file: transformers then makes it of the configuration
        kept = GenerationConfig.from_model_config(known.config)
    known.model.generation_config = kept
    return list(known.tokenizer.convert_ids_to_tokens(sorted(eos_ids(known.model, known.tokenizer))))


# --- attention and memory ------------------------------------------------------------------------------------------


def attention_line(known: Known, where: str) -> Finding:
    """The kernel that scaled_dot_product_attention takes for this model's heads: in training, and with a mask."""
    import torch
    from torch.nn.attention import SDPBackend

    shape, half = known.shape, where != "cpu"
    how: dict[str, Any] = {"device": where, "dtype": torch.bfloat16 if half else torch.float32}
    q = torch.zeros(1, shape.heads, 64, shape.width, **how)
    k = torch.zeros(1, shape.kv_heads, 64, shape.width, **how)
    mask, grouped = torch.ones(64, 64, dtype=torch.bool, device=where).tril(), shape.heads != shape.kv_heads

    def taken(mask: Any, causal: bool) -> str:
        number = torch._fused_sdp_choice(q, k, k, mask, 0.0, causal, enable_gqa=grouped)
        return str(SDPBackend(number).name).removesuffix("_ATTENTION").lower().replace("_", " ")

    training, prefill = taken(None, True), taken(mask, False)
    text = (
        f"{training} in training, {prefill} with a mask; {shape.heads} heads of {shape.width}, {shape.kv_heads} of keys"
    )
    facts = {"training": training, "masked": prefill}
    if training == "math":
        return Finding("attention", NOTE, f"{text}: no fast kernel takes these shapes", "", facts)
    return Finding("attention", OK, text, facts=facts)


def memory_finding(known: Known, jobs: Sequence[Any], row_tokens: int, where: str, free: int, cores: int) -> Finding:
    """The table of every method, and whether the largest fits: alone, and as often as runs are started at a time."""
    trained = [job for job in jobs if trains(job)]
    rows = {job.plan.method: gigabytes(memory_table(known.shape, load_of(job, row_tokens))) for job in trained}
    if not rows:
        return Finding("memory", OK, "nothing is trained")
    method, most = max(((name, row["peak"]) for name, row in rows.items()), key=lambda pair: pair[1])
    per_row, room = kv_bytes(known.shape, where != "cpu"), free / GIGA
    facts = {"gigabytes": rows, "free": free, "cache_bytes_per_token": per_row}
    cache = f"a row of {row_tokens} tokens takes {per_row * row_tokens / 1e6:.1f} MB"
    text = f"{method} takes {most:.2f} GB of {room:.1f} GB free; {cache}"
    if most > room:
        tokens = trained[0].execution.micro_batch_tokens
        return Finding("memory", BAD, f"{text}: too much", f"--micro-batch-tokens {max(256, tokens // 4)}", facts)
    workers = min(cores, len(jobs)) if where == "cpu" else 1
    if workers * most > room:
        text += f"; {workers} at a time do not fit"
        return Finding("memory", NOTE, text, f"--workers {max(1, int(room / most))}", facts)
    return Finding("memory", OK, text, facts=facts)


def trains(job: Any) -> bool:
    return any(stage.fields["batch_size"] for stage in job.plan.stages)


def load_of(job: Any, row_tokens: int) -> Load:
    """What a run puts on its device, by its plan and execution."""
    from bench.plan import registry

    asks = [Requests.of(registry.build_method(stage.name, stage.fields)) for stage in job.plan.stages]
    return Load(
        half=job.execution.device != "cpu",
        micro_batch_tokens=max(job.execution.micro_batch_tokens, row_tokens),
        rows=job.execution.sample_rows,
        row_tokens=row_tokens,
        reference=max(ask.frozen_models for ask in asks),
        samples=True,  # every run is evaluated
    )


def table_lines(finding: Finding) -> list[str]:
    """The memory table as text, GB."""
    rows = finding.facts.get("gigabytes", {})
    if not rows:
        return []
    width = max(map(len, rows))
    head = " ".join([f"{'GB':<{width}}", *(f"{name:>11}" for name in COLUMNS)])
    body = [" ".join([f"{name:<{width}}", *(f"{row[c]:>11.3f}" for c in COLUMNS)]) for name, row in rows.items()]
    return [head, *body]
