"""Paths in a bucket of Google Cloud Storage, `gs://bucket/name`: objects are listed, copied, uploaded and locked here.

Everything else uses `files`, which hands such a path to this module, and path objects of `etils.epath`: they have
pathlib's interface, and Orbax writes checkpoints through them. Underneath is gcsfs, an optional package.

An object appears whole when its upload ends. A directory has no such moment, so its JSON files, which readers look for,
are removed first and uploaded last: a directory that is only partly there lacks what its readers need, and they refuse
it. A lock is an object, `.lock`, that only one process can create. Its holder renews it every RENEWED seconds. One that
is not renewed for EXPIRES seconds belongs to a process that was killed, and the next process takes it over.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import os
import pathlib
import socket
import threading
import time
import uuid
from typing import Any, cast

from infoprompt_jax.errors import UserError
from infoprompt_jax.network import reachable

PREFIX = "gs://"
LOCK = ".lock"
RENEWED, EXPIRES = 15.0, 60.0  # seconds: between two renewals of a lock; without one, until it counts no more
ANSWERED = 20.0  # seconds within which a bucket must answer its first request
SERVER = "https://storage.googleapis.com"
SIGN_IN = "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a key file"

# Both are read once, at the first use of any path. Without the first, epath imports TensorFlow (3 s, 750 MB). Without
# the second, gcsfs asks another service what kind of bucket each one is.
os.environ.setdefault("EPATH_USE_TF", "false")
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

log = logging.getLogger(__name__)


def is_in(path: str | os.PathLike[str]) -> bool:
    """Whether a path is one in a bucket."""
    return os.fspath(path).startswith(PREFIX)


def path(name: str | os.PathLike[str]) -> pathlib.Path:
    """The path object of `gs://...`: it has pathlib's interface, but a file can only be read, or written anew.

    Raises:
      UserError: the bucket cannot be read.
    """
    check(name)
    from etils import epath

    return cast(pathlib.Path, epath.Path(os.fspath(name).rstrip("/")))


@functools.cache
def client() -> Any:
    """gcsfs's file system, the one that `etils.epath` uses: with one set of credentials and without a cache of names.

    Raises:
      UserError: gcsfs is not installed, or there is no network.
    """
    if importlib.util.find_spec("gcsfs") is None:
        raise UserError(f"A path that begins with {PREFIX} needs the package gcsfs: pip install gcsfs.")
    emulator = os.environ.get("STORAGE_EMULATOR_HOST", "")
    server = emulator if "://" in emulator or not emulator else f"http://{emulator}"
    if not reachable(server or SERVER):
        raise UserError(
            f"A path that begins with {PREFIX} was given, but {server or SERVER} cannot be reached: check the network, "
            "or use a local path."
        )
    import aiohttp
    import fsspec
    from fsspec.config import conf
    from gcsfs.core import GCSFileSystem

    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs errors that are raised anyway, with a traceback
    settings = {
        "token": "anon" if emulator else _credentials(),
        "use_listings_cache": False,  # other processes write there, too
        "requests_timeout": aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60),
    }
    conf["gcs"] = settings | conf.get("gcs", {})
    fsspec.register_implementation("gcs", GCSFileSystem, clobber=True)  # also where gcsfs was imported before
    return fsspec.filesystem("gcs", finalize_on_close=True)  # as epath requests it, so that it gets the same one


def _credentials() -> Any:
    """Those of the environment, of gcloud, or of the machine; without any, "anon": a public bucket can be read."""
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        return google.auth.default(scopes=["https://www.googleapis.com/auth/devstorage.read_write"])[0]
    except GoogleAuthError as error:
        log.info("There are no credentials for Google Cloud Storage (%s).", str(error).partition(".")[0])
        return "anon"


CHECKED: set[str] = set()  # buckets that have answered this process


def check(name: str | os.PathLike[str]) -> None:
    """Raises UserError unless the bucket of a path answers a request for a list; it is asked once.

    It takes seconds, not minutes, where there are no credentials or no network.
    """
    bucket, _, prefix = os.fspath(name).removeprefix(PREFIX).partition("/")
    if bucket in CHECKED:
        return
    files = client()
    from fsspec.asyn import sync
    from fsspec.exceptions import FSTimeoutError

    try:
        sync(files.loop, files._call, "GET", "b/{}/o", bucket, maxResults=1, prefix=prefix, timeout=ANSWERED)
    except FileNotFoundError as error:
        raise UserError(f"{name}: there is no bucket {bucket!r}: correct the name, or create the bucket.") from error
    except FSTimeoutError as error:
        raise UserError(f"{name}: the bucket did not answer within {ANSWERED:.0f} s: check the network.") from error
    except Exception as error:  # of gcsfs, aiohttp, google-auth and requests, which share no class
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        without = " without credentials" if files.credentials.credentials is None else ""
        raise UserError(f"{name} cannot be read{without} ({reason[:300]}): {SIGN_IN}.") from error
    CHECKED.add(bucket)


def listed(name: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """The objects under a path, by the name relative to it ("" for an object of that very name): gcsfs's facts."""
    start = os.fspath(name).removeprefix(PREFIX).rstrip("/")
    objects = client().find(start, detail=True)
    return {
        key[len(start) :].lstrip("/"): facts
        for key, facts in sorted(objects.items())
        if facts["type"] == "file" and not key.endswith("/") and (key == start or key.startswith(f"{start}/"))
    }


def download(name: str, target: pathlib.Path, size: int) -> None:
    """Copies an object into a local file. Raises OSError where the file has another size than the object."""
    client().get_file(name.removeprefix(PREFIX), str(target))
    if target.stat().st_size != size:
        raise OSError(f"{name} has {size} bytes, but {target.stat().st_size} were read")


def upload(source: pathlib.Path, target: str | os.PathLike[str]) -> None:
    """Uploads a file, or the files of a directory, which take the place of what is there.

    Raises:
      UserError: another process took over a lock that this process holds on `target`.
    """
    target = os.fspath(target)
    for lease in Lease.held:
        if target.startswith(f"{lease.directory}/"):
            lease.confirm()
    if not source.is_dir():
        client().put_file(str(source), target)
        return
    names = [file.relative_to(source).as_posix() for file in source.rglob("*") if file.is_file()]
    there = listed(target)
    described = [name for name in there if name.endswith(".json")]
    for name in [*described, *(name for name in there if name not in (*names, *described, LOCK))]:
        client().rm_file(f"{target}/{name}")
    for name in sorted(names, key=lambda name: (name.endswith(".json"), name == "config.json", name)):
        client().put_file(str(source / name), f"{target}/{name}")


class Lease:
    """The lock of a directory in a bucket. It is held until it is closed, or until another process takes it over."""

    held: list[Lease] = []  # noqa: RUF012 (one list of all, on purpose)

    def __init__(self, directory: str | os.PathLike[str], wait: bool) -> None:
        """Takes the lock.

        Raises:
          BlockingIOError: another process holds it and renews it, and `wait` is False.
        """
        self.directory = os.fspath(directory)
        self.bucket, _, folder = self.directory.removeprefix(PREFIX).partition("/")
        self.name = f"{folder}/{LOCK}"
        self.about = {"host": socket.gethostname(), "process": str(os.getpid()), "token": uuid.uuid4().hex}
        self.generation = self._take(wait)
        self.renewed, self.lost, self._ended = time.monotonic(), False, threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lock", daemon=True)
        self._thread.start()
        Lease.held.append(self)

    def _take(self, wait: bool) -> str:
        """Creates the object; returns its generation, which stays the same until another process creates it."""
        while True:
            about = {**self.about, "renewed": _now()}
            with contextlib.suppress(FileExistsError):
                client().pipe_file(f"{self.bucket}/{self.name}", b"", mode="create", metadata=about)
            holder = self._read()
            if holder is None:
                continue
            if holder["metadata"].get("token") == self.about["token"]:
                return holder["generation"]
            if not self._is_abandoned(holder):
                if wait:
                    continue
                raise BlockingIOError(f"{self.directory} is locked")
            self._remove(holder["generation"])

    def _is_abandoned(self, holder: dict[str, Any]) -> bool:
        """Watches a lock until it is renewed, released or too old. No two clocks are compared."""
        about = holder["metadata"]
        who = f"process {about.get('process')} on {about.get('host')}"
        log.info("%s is locked by %s; waiting up to %.0f s to see whether it runs.", self.directory, who, EXPIRES)
        end = time.monotonic() + EXPIRES
        while time.monotonic() < end:
            time.sleep(RENEWED / 5)
            now = self._read()
            if now is None:
                return True
            if (now["generation"], now["metageneration"]) != (holder["generation"], holder["metageneration"]):
                return False
        log.info("Taking over the lock of %s: it was not renewed for %.0f s.", who, EXPIRES)
        return True

    def _read(self) -> dict[str, Any] | None:
        """The object's facts; None where there is no lock."""
        try:
            facts = client().call("GET", "b/{}/o/{}", self.bucket, self.name, json_out=True)
        except FileNotFoundError:
            return None
        return {**facts, "metadata": facts.get("metadata") or {}}

    def _remove(self, generation: str) -> None:
        """Removes the object, unless another process has created it again."""
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            client().call("DELETE", "b/{}/o/{}", self.bucket, self.name, ifGenerationMatch=generation)

    def _renew(self) -> None:
        about = {"metadata": {**self.about, "renewed": _now()}}
        try:
            client().call("PATCH", "b/{}/o/{}", self.bucket, self.name, ifGenerationMatch=self.generation, json=about)
            self.renewed = time.monotonic()
        except (FileNotFoundError, FileExistsError):
            self.lost = True

    def _keep(self) -> None:
        while not self.lost and not self._ended.wait(RENEWED):
            try:
                self._renew()
            except Exception as error:  # of the network: the next renewal may succeed, and `confirm` checks
                log.warning("The lock of %s could not be renewed (%s).", self.directory, error)

    def confirm(self) -> None:
        """Raises UserError if another process has the lock, so that this one writes nothing more."""
        if not self.lost and time.monotonic() - self.renewed > 2 * RENEWED:
            self._renew()
        if self.lost:
            raise UserError(
                f"Another process took over the lock of {self.directory}, which this one did not renew for "
                f"{EXPIRES:.0f} s: this process ends, the other one goes on."
            )

    def close(self) -> None:
        """Releases the lock."""
        Lease.held.remove(self)
        self._ended.set()
        self._thread.join()
        if not self.lost:
            self._remove(self.generation)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
