"""Buckets on this machine: gcp-storage-emulator, with the preconditions that it lacks, for gcsfs and tensorstore.

As a script it runs tests/tiny_runs.py's script with locks that are soon given up.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import json
import logging
import os
import pathlib
import re
import runpy
import sys
import threading
import urllib.parse
from typing import Any

import pytest

from infoprompt_jax import bucket

pytest.importorskip("gcsfs", reason="gcsfs is not installed")
pytest.importorskip("gcp_storage_emulator", reason="gcp-storage-emulator is not installed")

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import buckets
from gcp_storage_emulator.server import RequestHandler, _read_raw_data
from gcp_storage_emulator.storage import Storage

OBJECT = re.compile(r"(/upload|/download)?/storage/v1/b/(?P<bucket>[^/]+)/o(/(?P<name>[^/?]+))?")


class Handler(RequestHandler):
    """The emulator's, but 412 where `ifGenerationMatch` is not the object's generation (0: it is not there)."""

    def do_POST(self) -> None:  # noqa: N802
        self._answer(super().do_POST)

    def do_PATCH(self) -> None:  # noqa: N802
        self._answer(super().do_PATCH)

    def do_DELETE(self) -> None:  # noqa: N802
        self._answer(super().do_DELETE)

    def _answer(self, emulated: Any) -> None:
        body = _read_raw_data(self) or b""
        del self.headers["Transfer-Encoding"], self.headers["Content-Length"]
        self.headers["Content-Length"], self.rfile = str(len(body)), io.BytesIO(body)
        self.server.requested.append(f"{self.command} {urllib.parse.unquote(self.path)}")
        address = urllib.parse.urlsplit(self.path)
        query, match = urllib.parse.parse_qs(address.query), OBJECT.fullmatch(address.path)
        wanted = query.get("ifGenerationMatch", [""])[0]
        if wanted and match and wanted != self._generation(match["bucket"], _name(match, query, body)):
            self.send_response(412)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        emulated()

    def send_response(self, code: int, message: str | None = None) -> None:
        """Also names the generation of an object whose content is read, which tensorstore relies on."""
        super().send_response(code, message)
        address = urllib.parse.urlsplit(self.path)
        match = OBJECT.fullmatch(address.path)
        if self.command == "GET" and "alt=media" in address.query and match and match["name"]:
            self.send_header("x-goog-generation", self._generation(match["bucket"], _name(match, {}, b"")))

    def _generation(self, bucket: str, name: str) -> str:
        try:
            return str(self.storage.get_file_obj(bucket, name)["generation"])
        except NotFound:
            return "0"

    def log_message(self, *_: Any) -> None:
        pass


def _name(match: re.Match[str], query: dict[str, list[str]], body: bytes) -> str:
    """The object's name: in the address, in the query, or in the JSON part of an upload."""
    if match["name"]:
        return urllib.parse.unquote(match["name"])
    if "name" in query:
        return query["name"][0]
    found = re.search(rb'"name": ?("(?:[^"\\]|\\.)*")', body)
    assert found, body
    return json.loads(found[1])


class Server(http.server.HTTPServer):
    request_queue_size = 128

    def __init__(self) -> None:
        self.storage, self.requested = Storage(use_memory_fs=True), list[str]()
        super().__init__(("127.0.0.1", 0), functools.partial(Handler, self.storage))

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that was killed


@functools.cache
def server() -> Server:
    """The one of this process; from then on, gs:// paths of this process and of those that it starts lead to it."""
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)  # it logs what is not there
    started = Server()
    threading.Thread(target=started.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{started.server_port}"
    os.environ.update(STORAGE_EMULATOR_HOST=address, TENSORSTORE_GCS_HTTP_URL=address)
    return started


def new(name: str) -> str:
    """A new bucket's address."""
    buckets.create_bucket(name, server().storage)
    return f"gs://{name}"


def objects(address: str | pathlib.Path) -> dict[str, bytes]:
    """The content of every object under an address, by the name relative to it."""
    bucket_name, _, folder = str(address).removeprefix("gs://").partition("/")
    storage = server().storage
    names = [facts["name"] for facts in storage.get_file_list(bucket_name, prefix=folder)[0]]
    return {name[len(folder) :].lstrip("/"): storage.get_file(bucket_name, name) for name in names}


def put(address: str, content: bytes) -> None:
    with bucket.path(address).open("wb") as file:  # pyright: ignore[reportArgumentType]
        file.write(content)


def upload(folder: pathlib.Path, address: str) -> str:
    """A local folder's files, at an address, which is returned."""
    server()
    bucket.upload(folder, address)
    return address


@contextlib.contextmanager
def short_leases(renewed: float = 0.1, expires: float = 0.6):  # noqa: ANN201
    former = bucket.RENEWED, bucket.EXPIRES
    bucket.RENEWED, bucket.EXPIRES = renewed, expires
    try:
        yield
    finally:
        bucket.RENEWED, bucket.EXPIRES = former


if __name__ == "__main__":
    bucket.RENEWED, bucket.EXPIRES = 0.3, 1.5
    sys.argv = ["tiny_runs.py", *sys.argv[1:]]
    runpy.run_path(str(pathlib.Path(__file__).with_name("tiny_runs.py")), run_name="__main__")
