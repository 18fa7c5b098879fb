"""A model hub on this machine: answers the few requests of huggingface_hub's client that a download makes.

`writable_hub` also answers those of an upload.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import re
import socket
import threading
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any

COMMITTED = "2025-01-01T00:00:00.000Z"
REQUEST = re.compile(
    r"(/api/models)?/(?P<name>[^/]+/[^/]+)/(?P<what>revision|tree|commits|resolve|discussions)/?(?P<rest>.*)"
)


def digest(content: str | bytes) -> str:
    return hashlib.sha1(content.encode() if isinstance(content, str) else content).hexdigest()


class Hub:
    """One repository: the files of each branch or pull request, and the pull requests listed (None: no list).

    With `gated`, only `tokens` may read files. A download of a file in `drops` ends after so many bytes, once.
    """

    def __init__(
        self, name: str, branches: dict[str, dict[str, bytes]], pulls: Sequence[dict[str, Any]] | None = ()
    ) -> None:
        self.name, self.branches, self.pulls = name, branches, pulls
        self.heads = {branch: digest(branch) for branch in branches}
        self.parents = {branch: self.heads["main"] for branch in branches if branch != "main"}
        self.requested: list[str] = []
        self.gated, self.tokens = False, set[str]()
        self.drops: dict[str, int] = {}
        self.withheld: set[str] = set()  # files that nobody may read
        self.ranges: list[tuple[str, int]] = []  # of each download: the file, and the byte that it begins at

    def answer(self, path: str) -> tuple[dict[str, str], bytes] | None:
        """Headers and body; None for what is not there."""
        match = REQUEST.fullmatch(urllib.parse.unquote(urllib.parse.urlsplit(path).path))
        if not match or match["name"] != self.name:
            return None
        if match["what"] == "discussions":
            if self.pulls is None:
                return None
            return _json({"discussions": list(self.pulls), "count": len(self.pulls), "start": 0})
        revisions = {**{commit: branch for branch, commit in self.heads.items()}, **{b: b for b in self.branches}}
        revision = next((r for r in revisions if f"{match['rest']}/".startswith(f"{r}/")), None)
        if revision is None:
            return None
        branch = revisions[revision]
        return self._of_branch(branch, match["what"], match["rest"].removeprefix(revision).lstrip("/"))

    def refusal(self, path: str, token: str) -> tuple[int, dict[str, str]]:
        """Status and headers in place of an answer; status 200 where there is one."""
        match = REQUEST.fullmatch(urllib.parse.unquote(urllib.parse.urlsplit(path).path))
        if token and self.tokens and token not in self.tokens:
            return 401, {"X-Error-Message": "Invalid credentials in Authorization header"}
        if not match or match["name"] != self.name:
            return 404 if token else 401, {"X-Error-Code": "RepoNotFound"}
        if match["rest"].endswith(tuple(self.withheld)):
            return 403, {}
        if self.gated and match["what"] == "resolve" and token not in self.tokens:
            return 403 if token else 401, {"X-Error-Code": "GatedRepo"}
        if self.answer(path):
            return 200, {}
        known = any(f"{match['rest']}/".startswith(f"{one}/") for one in (*self.branches, *self.heads.values()))
        return 404, {"X-Error-Code": "EntryNotFound" if known else "RevisionNotFound"}

    def receive(self, command: str, path: str, token: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and JSON in answer to a POST or PUT: this hub is for reading."""
        return 405, {"error": f"{command} {path} is not allowed"}

    def _of_branch(self, branch: str, what: str, file: str) -> tuple[dict[str, str], bytes] | None:
        files, head = self.branches[branch], self.heads[branch]
        if what == "revision":
            return _json({"id": self.name, "sha": head, "siblings": [{"rfilename": name} for name in files]})
        if what == "tree":
            return _json([{"type": "file", "path": n, "size": len(c), "oid": digest(c)} for n, c in files.items()])
        if what == "commits":
            commits = [head, *([self.parents[branch]] if branch in self.parents else [])]
            return _json([{"id": c, "authors": [], "date": COMMITTED, "title": "", "message": ""} for c in commits])
        if file not in files:
            return None
        self.requested.append(file)
        return {"ETag": f'"{digest(files[file])}"', "X-Repo-Commit": head}, files[file]


def _json(value: Any) -> tuple[dict[str, str], bytes]:
    return {"Content-Type": "application/json"}, json.dumps(value).encode()


def pull(number: int, title: str, author: str, repository: str) -> dict[str, Any]:
    """A pull request as the hub lists it."""
    about = {"title": title, "num": number, "author": {"name": author}, "createdAt": COMMITTED, "status": "open"}
    return {**about, "isPullRequest": True, "repo": {"name": repository, "type": "model"}}


@contextlib.contextmanager
def served(hub: Hub) -> Iterator[str]:
    """The address that the hub answers at while the block lasts."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, headers = hub.refusal(self.path, token)
            answer = hub.answer(self.path) if status == 200 else None
            content, body = answer or ({}, b"")
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
            if start:
                status, headers = 206, {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
            self.send_response(status)
            for name, value in {**headers, **content, "Content-Length": str(len(body) - start)}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.send(body, start)

        def send(self, body: bytes, start: int) -> None:
            file = self.path.rpartition("/")[2]
            if "/resolve/" in self.path:
                hub.ranges.append((file, start))
            end = hub.drops.pop(file, len(body))
            self.wfile.write(body[start:end])
            if end < len(body):
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)

        do_GET = do_HEAD

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, answer = hub.receive(self.command, self.path, token, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_PUT = do_POST

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))  # seconds until a shutdown is noticed
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
