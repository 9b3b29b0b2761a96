"""A stand-in for the Hugging Face hub on the loopback interface: one repository, its files under one commit."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlparse

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class StandInHub:
    """folder: the files of `repository`. fetched: the names of those whose content was asked for. started: the first
    byte of every such request. cut: by name, after how many bytes the connection is closed, once. refused: names of
    those that are not handed out.
    """

    repository: str
    folder: Path
    address: str = ""
    fetched: list[str] = field(default_factory=list)
    started: dict[str, list[int]] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)

    def files(self) -> dict[str, bytes]:
        paths = (path for path in sorted(self.folder.rglob("*")) if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in paths}


@contextmanager
def stand_in_hub(repository: str, folder: Path) -> Iterator[StandInHub]:
    """Serves the files in `folder` as `repository` while the block lasts."""
    hub = StandInHub(repository, folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


class _Handler(BaseHTTPRequestHandler):
    hub: StandInHub
    protocol_version = "HTTP/1.1"
    timeout = 10

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""

    def do_HEAD(self) -> None:
        self._answer(head=True)

    def do_GET(self) -> None:
        self._answer(head=False)

    def _answer(self, *, head: bool) -> None:
        path, repository = unquote(urlparse(self.path).path), self.hub.repository
        files = self.hub.files()
        asked = re.fullmatch(rf"/(?:api/models/)?{repository}/(resolve|revision|tree)/([^/]+)(?:/(.*))?", path)
        if path == f"/api/models/{repository}":
            self._json(self._info(files), head)
        elif asked is None:
            self._refuse("RepoNotFound", "Repository Not Found")
        elif asked[2] not in ("main", COMMIT, "v1"):
            self._refuse("RevisionNotFound", "Revision Not Found")
        elif asked[1] == "revision":
            self._json(self._info(files), head)
        elif asked[1] == "tree":
            entries = [
                {"type": "file", "path": name, "size": len(content), "oid": _etag(content)}
                for name, content in files.items()
            ]
            self._json(entries, head)
        elif asked[3] in self.hub.refused:
            self._headers(403, {}, 0)
        elif asked[3] not in files:
            self._refuse("EntryNotFound", "Entry not found")
        else:
            self._content(asked[3], files[asked[3]], head)

    def _info(self, files: dict[str, bytes]) -> dict[str, object]:
        siblings = [{"rfilename": name} for name in files]
        return {"id": self.hub.repository, "sha": COMMIT, "siblings": siblings, "private": False, "gated": False}

    def _json(self, content: object, head: bool) -> None:
        body = json.dumps(content).encode()
        self._headers(200, {"Content-Type": "application/json"}, len(body))
        if not head:
            self.wfile.write(body)

    def _content(self, name: str, content: bytes, head: bool) -> None:
        first = 0
        wanted = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted:
            first = int(wanted[1])
        headers = {"ETag": f'"{_etag(content)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        self._headers(206 if first else 200, headers, len(content) - first)
        if head:
            return
        self.hub.fetched.append(name)
        self.hub.started.setdefault(name, []).append(first)
        end = first + self.hub.cut.pop(name) if name in self.hub.cut else len(content)
        self.wfile.write(content[first:end])
        if end < len(content):
            self.close_connection = True

    def _headers(self, code: int, headers: dict[str, str], length: int) -> None:
        self.send_response(code)
        for key, value in (headers | {"Content-Length": str(length)}).items():
            self.send_header(key, value)
        self.end_headers()

    def _refuse(self, code: str, message: str) -> None:
        self._headers(404, {"X-Error-Code": code, "X-Error-Message": message}, 0)


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def lay_out_cache(cache: Path, repository: str, folder: Path, refs: tuple[str, ...] = ("main",)) -> Path:
    """The hub's cache as a download of `folder` leaves it: blobs by content, links in a snapshot, refs to its commit.

    Returns the snapshot.
    """
    place = cache / f"models--{repository.replace('/', '--')}"
    snapshot = place / "snapshots" / COMMIT
    for name, content in StandInHub(repository, folder).files().items():
        blob = place / "blobs" / _etag(content)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link = snapshot / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    for ref in refs:
        path = place / "refs" / ref
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(COMMIT)
    return snapshot
