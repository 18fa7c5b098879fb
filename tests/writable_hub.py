"""A model hub on this machine that takes uploads: one account, one repository, commits on its branch main.

As on the hub, safetensors are stored apart from the commit, by the Git LFS protocol.
"""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.parse
from collections.abc import Callable
from typing import Any

from loopback_hub import Hub, digest

ACCOUNT, TOKEN = "ann", "hf_of_ann"


class WritableHub(Hub):
    """`commits` has the message of each; `writable` is False where the token may only read."""

    def __init__(self, repository: str, writable: bool = True) -> None:
        super().__init__(f"{ACCOUNT}/{repository}", {"main": {}})
        self.writable, self.commits, self.exists = writable, [], False
        self.private: bool | None = None
        self.address = ""  # that it is served at
        self.stored: dict[str, bytes] = {}

    def answer(self, path: str) -> tuple[dict[str, str], bytes] | None:
        return super().answer(path) if self.exists else None

    def receive(self, command: str, path: str, token: str, body: bytes) -> tuple[int, dict[str, Any]]:
        path = urllib.parse.unquote(urllib.parse.urlsplit(path).path)
        if command == "PUT":
            self.stored[path.rpartition("/")[2]] = body
            return 200, {}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if token != TOKEN or not self.writable:
            return (401 if token != TOKEN else 403), {"error": "You may not write here."}
        answers: dict[str, Callable[[bytes], tuple[int, dict[str, Any]]]] = {
            "/api/repos/create": self._create,
            f"/api/models/{self.name}/preupload/main": self._preupload,
            f"/{self.name}.git/info/lfs/objects/batch": self._batch,
            f"/api/models/{self.name}/commit/main": self._commit,
        }
        return answers[path](body) if path in answers else (404, {"error": f"{path} is not here"})

    def _create(self, body: bytes) -> tuple[int, dict[str, Any]]:
        request = json.loads(body)
        name = f"{request['organization'] or ACCOUNT}/{request['name']}"
        if name != self.name:
            return 403, {"error": f"You may not write to {name}."}
        if not self.exists:
            self.exists, self.private = True, request.get("visibility") == "private"
            return 200, {"url": f"{self.address}/{name}"}
        return 409, {"error": "It exists.", "url": f"{self.address}/{name}"}

    def _preupload(self, body: bytes) -> tuple[int, dict[str, Any]]:
        files = [file["path"] for file in json.loads(body)["files"]]
        modes = {path: "lfs" if path.endswith(".safetensors") else "regular" for path in files}
        return 200, {"files": [{"path": p, "uploadMode": mode, "shouldIgnore": False} for p, mode in modes.items()]}

    def _batch(self, body: bytes) -> tuple[int, dict[str, Any]]:
        upload = {one["oid"]: {"upload": {"href": f"{self.address}/store/{one['oid']}"}} for one in self._objects(body)}
        return 200, {"objects": [{**one, "actions": upload[one["oid"]]} for one in self._objects(body)]}

    def _objects(self, body: bytes) -> list[dict[str, Any]]:
        return json.loads(body)["objects"]

    def _commit(self, body: bytes) -> tuple[int, dict[str, Any]]:
        files = dict(self.branches["main"])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.commits.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.stored[value["oid"]]
                assert hashlib.sha256(files[value["path"]]).hexdigest() == value["oid"]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        self.branches["main"] = files
        self.heads["main"] = digest(str(len(self.commits)))
        commit = self.heads["main"]
        return 200, {"commitUrl": f"{self.address}/{self.name}/commit/{commit}", "commitOid": commit}
