"""A hub on this machine: what huggingface_hub's own client asks for, over HTTP, from folders."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest


class Hub:
    """Commits by the names of their folders; ``main`` is what a name without a revision means."""

    def __init__(self, name: str, commits: dict[str, Path], main: str) -> None:
        self.name, self.commits, self.main = name, commits, main
        self.downloaded: list[str] = []  # commit/file
        self.asked = 0  # requests of any kind
        self.refusal: int | None = None  # a status to answer everything with
        self.reason = ""

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content for a path."""
        self.asked += 1
        if self.refusal:
            return self.refusal, {"X-Error-Code": self.reason}, b""
        base = f"/api/models/{self.name}"
        if info := re.fullmatch(rf"{base}(?:/revision/([^/?]+))?(?:\?.*)?", path):
            commit = self.commit(info[1] or "main")
            if commit is None:
                return 404, {"X-Error-Code": "RevisionNotFound"}, b""
            return 200, {}, json.dumps({"id": self.name, "sha": commit}).encode()
        if (tree := re.fullmatch(rf"{base}/tree/([^/?]+)/?(?:\?.*)?", path)) and tree[1] in self.commits:
            files = sorted(self.commits[tree[1]].iterdir())
            rows = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": self.etag(f)} for f in files]
            return 200, {}, json.dumps(rows).encode()
        if (file := re.fullmatch(rf"/{self.name}/resolve/([^/]+)/([^/?]+)", path)) and file[1] in self.commits:
            found = self.commits[file[1]] / file[2]
            if found.is_file():
                self.downloaded.append(f"{file[1]}/{file[2]}")
                return 200, {"X-Repo-Commit": file[1], "ETag": f'"{self.etag(found)}"'}, found.read_bytes()
        return 404, {"X-Error-Code": "RepoNotFound"}, b""

    def commit(self, revision: str) -> str | None:
        revision = self.main if revision == "main" else revision
        return revision if revision in self.commits else None

    @staticmethod
    def etag(file: Path) -> str:
        return hashlib.sha1(file.read_bytes()).hexdigest()


def point_to(endpoint: str, patch: pytest.MonkeyPatch) -> None:
    """Let huggingface_hub ask another place; it made its addresses when it was imported."""
    from huggingface_hub import constants

    patch.setattr(constants, "ENDPOINT", endpoint)
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")


@contextmanager
def hub_here(hub: Hub, cache: Path, patch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Serve a hub, and let huggingface_hub ask it and keep its cache in a folder."""
    from huggingface_hub import constants

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self, body: bool) -> None:
            status, headers, content = hub.answer(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def do_GET(self) -> None:
            self.respond(True)

        def do_HEAD(self) -> None:
            self.respond(False)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    point_to(f"http://127.0.0.1:{server.server_port}", patch)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
