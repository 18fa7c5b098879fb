"""Files: the cache's folder; files written whole or not at all, appended to and locked; strict JSON values.

Paths may lie in a bucket (`gs://...`): what a local disk promises holds there, too (`bucket`). What needs a local file,
as memory maps do, reads a copy (`local`). On a disk, a lock is `flock`'s on the file `.lock` in the directory (a file,
because NFS wants what is locked open for writing). It ends with the process that holds it, and the file stays. Where
the operating system or the file system has no such locks, there is none.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import math
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

from infoprompt_jax import bucket, leftovers
from infoprompt_jax.errors import UserError

UMASK = os.umask(0)
os.umask(UMASK)
BLOCK = 2**20  # bytes that are read at once
LOCK = ".lock"
CACHE = "~/.cache/infoprompt_jax"
TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}  # of renaming a directory onto what is there
WITHOUT_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}  # the file system has no locks

log = logging.getLogger(__name__)

_locked: list[tuple[pathlib.Path, IO[bytes]]] = []  # the directories that this process has locked, and their locks
_copies = ""  # the `cache_directory` of copies from buckets


def path(name: str | os.PathLike[str]) -> pathlib.Path:
    """The path of that name, with `~` expanded; one in a bucket has the same methods."""
    return bucket.path(name) if bucket.is_in(name) else pathlib.Path(name).expanduser()


def cache_directory(configured: str) -> pathlib.Path:
    """The folder of `data.cache_dir`, or the default where that is empty; it need not exist.

    Raises:
      UserError: it is in a bucket, or the user has no home directory.
    """
    if bucket.is_in(configured):
        raise UserError(
            f"data.cache_dir={configured} is in a bucket, but the cache holds memory maps: choose a local one."
        )
    try:
        return pathlib.Path(configured or CACHE).expanduser()
    except RuntimeError as error:  # as in a container whose user has no name
        raise UserError(
            f"the folder {configured or CACHE} has no place, for this user has no home directory: "
            "set data.cache_dir to one that can be written, or HOME."
        ) from error


@contextlib.contextmanager
def whole(path: str | pathlib.Path, fresh: bool = False) -> Iterator[pathlib.Path]:
    """Yields a path beside `path` to write a file or a directory at; it takes `path`'s place when the block succeeds.

    What stood at `path` is replaced: whether it may be is the caller's to check. All that was written is on disk before
    it appears there, and so before whatever is written next. In a bucket, it is uploaded when the block succeeds.

    Args:
      fresh: what is written is a directory, and none with files may stand at `path` when it is there.

    Raises:
      FileExistsError: one does, and `fresh` is set. Of several processes that write the same path, one succeeds.
    """
    if bucket.is_in(path):
        with tempfile.TemporaryDirectory() as scratch:
            partial = pathlib.Path(scratch, bucket.path(path).name)
            yield partial
            with bucket.Lease(path, wait=True) if fresh else contextlib.nullcontext():
                if fresh and bucket.listed(path).keys() - {LOCK}:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
                bucket.upload(partial, path)
        return
    path = pathlib.Path(path).absolute()
    check_locked(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, old = leftovers.names(path)
    try:
        yield partial
        _complete(partial)
        if path.is_dir() and not fresh:  # a directory cannot be renamed onto another that holds files
            path.rename(old)
        _place(partial, path)
    finally:
        for leftover in (partial, old):
            leftovers.remove(leftover)


def _place(partial: pathlib.Path, path: pathlib.Path) -> None:
    try:
        partial.replace(path)
    except OSError as error:
        if error.errno in TAKEN:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
        raise


def _complete(path: pathlib.Path) -> None:
    """Waits until the files are on disk, with the permissions of `open`: safetensors lets only the owner read."""
    for file in (path, *path.rglob("*")):
        if file.is_file():
            file.chmod(0o666 & ~UMASK)  # first: a copy of what nobody may write cannot be opened for that
            with file.open("r+b") as stream:
                os.fsync(stream.fileno())


def keep_copies_in(cache: str) -> None:
    """Lets the copies of files in a bucket lie in `data.cache_dir`; before, they lie in the default cache."""
    global _copies
    _copies = cache


def local(path: str | os.PathLike[str], wanted: Callable[[str], bool] = lambda _: True) -> pathlib.Path:
    """A local path of the same content: `path` itself, or a copy of what it names in a bucket, a file or a directory.

    Each object is copied once, under its name and generation. A directory's copy is made of hard links, under a name
    that depends on all of its objects: that of a changed directory is another one.

    Args:
      wanted: whether a file of a directory is copied, by its name relative to it.

    Raises:
      UserError: the bucket cannot be read, or has nothing of that name.
    """
    if not bucket.is_in(path):
        return pathlib.Path(path).expanduser()
    bucket.check(path)
    name = os.fspath(path).rstrip("/")
    objects = {part: facts for part, facts in bucket.listed(name).items() if not part or wanted(part)}
    if not objects:
        raise UserError(f"{name} holds nothing that can be read: correct the name.")
    root, key = _buckets(), _digest(*(f"{facts['name']}#{facts['generation']}" for facts in objects.values()))
    copy = root / "copies" / key / name.rpartition("/")[2]
    if copy.exists():
        return copy
    log.info("Copying %s (%.3g MB) into %s.", name, sum(int(o["size"]) for o in objects.values()) / 1e6, root)
    with whole(copy) as partial:
        for part, facts in objects.items():
            target = partial / part if part else partial
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(_object(root, facts), target)
    return copy


def names(directory: str | os.PathLike[str]) -> list[str]:
    """The files in a directory and in those below it, by the name relative to it."""
    if bucket.is_in(directory):
        return [*bucket.listed(directory)]
    root = pathlib.Path(directory).expanduser()
    return sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())


def _buckets() -> pathlib.Path:
    return cache_directory(_copies) / "buckets"


def _object(root: pathlib.Path, facts: Mapping[str, Any]) -> pathlib.Path:
    """The local copy of one object, which is made if necessary."""
    copy = root / "objects" / _digest(f"{facts['name']}#{facts['generation']}")
    if not copy.exists():
        with whole(copy) as partial:
            bucket.download(facts["name"], partial, int(facts["size"]))
    return copy


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]


def kept_here(path: pathlib.Path, key: str) -> pathlib.Path:
    """`path` itself; for a path in a bucket, one in the cache that only `path` and `key` lead to."""
    return _buckets() / "kept" / _digest(str(path), key) / path.name if bucket.is_in(path) else path


class Growing:
    """A file that is appended to, opened for that with its present content.

    In a bucket nothing can be appended to: there, this is a temporary file that `sync` uploads whole.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path, self._remote, self._synced = path, bucket.is_in(path), 0
        self._scratch = tempfile.NamedTemporaryFile() if self._remote else None  # noqa: SIM115 (closed by `close`)
        if self._scratch and path.exists():
            self._scratch.write(path.read_bytes())
            self._scratch.flush()
        self._file = open(self._scratch.name if self._scratch else path, "ab")  # noqa: SIM115

    def write(self, content: bytes) -> None:
        """Appends; `sync` makes it count."""
        self._file.write(content)

    def size(self) -> int:
        """The number of bytes, those included that are not on disk yet."""
        return self._file.seek(0, os.SEEK_END)

    def digest(self, size: int) -> hashlib._Hash | None:
        """SHA-256 over the first `size` bytes, to be updated with what is written; None where there are fewer."""
        digest = hashlib.sha256()
        with open(self._file.name, "rb") as file:
            while size and (block := file.read(min(size, BLOCK))):
                digest.update(block)
                size -= len(block)
        return None if size else digest

    def truncate(self, size: int) -> None:
        """Cuts the file."""
        self._file.truncate(size)

    def is_due(self) -> bool:
        """Whether `sync` is worth its time: in a bucket, once a tenth was appended since the last one."""
        return not self._remote or self.size() >= 1.1 * self._synced

    def sync(self) -> None:
        """Returns when everything is on disk, or in the bucket."""
        self._file.flush()
        if self._remote:
            bucket.upload(pathlib.Path(self._file.name), self.path)
            self._synced = self.size()
        else:
            check_locked(self.path)
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Ends it; what was not synced may be lost."""
        self._file.close()
        if self._scratch:
            self._scratch.close()


class Outbox:
    """A local directory, `path`, whose files also lie in `directory` once they are sent; the same one on a disk."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._target = directory if bucket.is_in(directory) else None
        self._scratch = tempfile.TemporaryDirectory() if self._target else None
        self.path = pathlib.Path(self._scratch.name) if self._scratch else directory

    def send(self) -> None:
        """Uploads every file as it is now."""
        for file in self.path.rglob("*") if self._target else ():
            if file.is_file():
                bucket.upload(file, f"{self._target}/{file.relative_to(self.path).as_posix()}")


def lock(directory: pathlib.Path, wait: bool) -> IO[bytes] | bucket.Lease:
    """The lock of a directory, as a file: it is held until that is closed.

    Args:
      directory: one that is there.
      wait: for whoever holds it, be it another part of this process.

    Raises:
      BlockingIOError: another holds it, and `wait` is False.
      OSError: the file cannot be made.
    """
    if bucket.is_in(directory):
        return bucket.Lease(directory, wait)
    file = (directory / LOCK).open("ab")
    if sys.platform == "win32":
        return file
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            file.close()
            raise
    leftovers.sweep(directory)
    _locked.append((directory.absolute(), file))
    return file


def check_locked(path: pathlib.Path) -> None:
    """Raises UserError where `path` is in a directory that this process has locked, and that is not there any more.

    Whatever is written would make it again, without the rest of its content.
    """
    _locked[:] = [(directory, file) for directory, file in _locked if not file.closed]
    for directory, file in _locked:
        if path.absolute().is_relative_to(directory) and not _is(directory / LOCK, file):
            raise UserError(
                f"The directory {directory} was removed or replaced while this process wrote into it: start the "
                "command again, and leave the directory to it until it ends."
            )


def _is(path: pathlib.Path, file: IO[bytes]) -> bool:
    """Whether the open file is the one at the path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except OSError:
        return False


def strict(value: Any) -> Any:
    """`value` in JSON's own types: NumPy's and JAX's become Python's, what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    if hasattr(value, "tolist"):
        return strict(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
