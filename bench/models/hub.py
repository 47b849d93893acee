"""Models of the hub: a name becomes a commit before anything is planned, and the commit a folder of the hub's cache.

What is loaded afterwards is that folder, so no process asks the hub for a name again.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.foreign import say
from bench.types import UserError

PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
REPOSITORY = re.compile(f"{PART}/{PART}")
NAME = re.compile(f"{PART}/{PART}(@{PART}(/{PART})*)?")
COMMIT = re.compile(r"[0-9a-f]{40}")
WEIGHTS = "*.safetensors"
SMALL = ("*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt", "LICENSE*", "README.md")
# Folders hold the same weights for other programs, and so do Mistral's consolidated files.
OTHERS = ("*/*", "consolidated*")
SECONDS = 10  # until the hub counts as out of reach


@lru_cache(maxsize=16)
def resolve(text: str) -> tuple[str, str, Path]:
    """Name, commit and cache folder of ``org/model`` or ``org/model@revision``, without its weights.

    Where the hub is out of reach, the commit that the cache has under this revision, which a note then says.  UserError
    if there is none, and for a model that the hub does not give.
    """
    name, _, revision = text.partition("@")
    reason = out_of_reach(text, name, revision or "main")
    folder = snapshot(text, name, revision or "main", SMALL, reason)
    if reason and not COMMIT.fullmatch(revision):  # a branch may have moved on
        note = f"note: the hub cannot be asked ({reason}): model '{name}' is taken from the cache, {folder.name[:8]}"
        say(note, error=True)
    return name, folder.name, folder


def fetch_weights(name: str, commit: str) -> Path:
    """The cache folder of a commit with its weights, which are downloaded unless they are there."""
    return snapshot(f"{name}@{commit}", name, commit, (*SMALL, WEIGHTS), "")


def out_of_reach(text: str, name: str, revision: str) -> str:
    """Why the hub cannot be asked for a revision, empty if it can; UserError if it has no such model or revision."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        HfApi().model_info(name, revision=revision, timeout=SECONDS)
    except HfHubHTTPError as error:
        if error.response.status_code < 500:  # the hub answers, and the answer is no
            raise unavailable(text, error) from None
        return first_line(error)
    except Exception as error:  # the errors of the network are of no common kind: those of httpx are no OSError
        return first_line(error)
    return ""


def snapshot(text: str, name: str, revision: str, wanted: tuple[str, ...], reason: str) -> Path:
    """The cache folder, named after its commit, with the wanted files; UserError where they cannot be had.

    With a ``reason`` the hub is not asked for them.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    here = bool(reason or constants.HF_HUB_OFFLINE)
    try:
        return Path(snapshot_download(name, revision=revision, local_files_only=here, **patterns(wanted)))
    except LocalEntryNotFoundError as error:
        why = reason or ("HF_HUB_OFFLINE is set" if here else first_line(error))
        raise UserError(
            f"model '{text}' is not in the cache of the hub, and the hub cannot be asked ({why}): "
            "download it where there is a network, or give a directory"
        ) from None
    except Exception as error:  # as above
        raise unavailable(text, error) from None


def patterns(wanted: tuple[str, ...]) -> dict[str, Any]:
    return {"allow_patterns": list(wanted), "ignore_patterns": list(OTHERS)}


def unavailable(text: str, error: Exception) -> UserError:
    """What the hub's refusal means, with what to do where something can be done."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    reason = first_line(error)
    if isinstance(error, GatedRepoError):  # a kind of RepositoryNotFoundError
        reason = "its terms have to be accepted on its page, then 'hf auth login'"
    elif isinstance(error, RepositoryNotFoundError):
        reason = "there is none of this name, or it is private ('hf auth login')"
    elif isinstance(error, RevisionNotFoundError):
        reason = "it has no such revision: expected a branch, a tag or a commit of 40 digits"
    return UserError(f"model '{text}' cannot be had from the hub: {reason}")


def commit_in(name: str, digest: str) -> str:
    """The commit in the digest of a hub model; empty for a local one, and for one whose name was never resolved."""
    before, _, commit = digest.partition("@")
    return commit if before == name else ""


def first_line(error: Exception) -> str:
    """What an error says in its first line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
