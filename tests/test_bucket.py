"""Files in a bucket: whole or not at all, locked by one process at a time, copied once; and clear sentences."""

from __future__ import annotations

import importlib.util
import pathlib
import threading

import loopback_bucket
import pytest

from infoprompt_jax import bucket, checksums, files
from infoprompt_jax.errors import UserError


@pytest.fixture(scope="module")
def address() -> str:
    return loopback_bucket.new("files")


def test_a_file_appears_whole_or_not_at_all(address: str) -> None:
    with files.whole(f"{address}/a/x.txt") as partial:
        partial.write_text("first")
        assert not loopback_bucket.objects(f"{address}/a")
    with pytest.raises(KeyboardInterrupt), files.whole(f"{address}/a/x.txt") as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert loopback_bucket.objects(f"{address}/a") == {"x.txt": b"first"}
    checksums.write_json(files.path(f"{address}/a/x.txt"), {"é": 1})
    assert checksums.read_json(files.path(f"{address}/a/x.txt"), "") == {"é": 1}


def test_what_describes_a_directory_goes_first_and_comes_last(address: str) -> None:
    """Readers look for the JSON, so that a directory that is partly there is refused; what it lacks now is removed."""
    written = ["prompt.json", "prompt.safetensors", "deep/more"]
    for names in (["stale", *written], written):
        with files.whole(f"{address}/prompt") as partial:
            for name in names:
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                (partial / name).write_text(name)
    requests = [line for line in loopback_bucket.server().requested if "prompt/" in line or "=prompt" in line]
    removed = [line.rpartition("prompt/")[2] for line in requests if line.startswith("DELETE")]
    assert removed == ["prompt.json", "stale"]
    assert sorted(loopback_bucket.objects(f"{address}/prompt")) == sorted(written)


def test_a_file_grows(address: str) -> None:
    path = files.path(f"{address}/log")
    for part in (b"one\n", b"two\n"):
        growing = files.Growing(path)
        growing.write(part)
        growing.sync()
        growing.write(b"never synced")
        growing.close()
    assert loopback_bucket.objects(address)["log"] == b"one\ntwo\n"
    growing = files.Growing(path)
    assert growing.size() == 8
    growing.truncate(4)
    growing.sync()
    growing.close()
    assert path.read_bytes() == b"one\n"


def test_a_second_process_waits_or_is_refused(address: str) -> None:
    directory = files.path(f"{address}/run")
    with loopback_bucket.short_leases(renewed=0.05, expires=5.0):
        with files.lock(directory, wait=False) as held:
            with pytest.raises(BlockingIOError):
                files.lock(directory, wait=False)
            waiting = threading.Thread(target=lambda: files.lock(directory, wait=True).close())
            waiting.start()
            held.confirm()  # pyright: ignore[reportAttributeAccessIssue]
            assert waiting.is_alive()
        waiting.join(timeout=60)
        assert not waiting.is_alive()
    assert not loopback_bucket.objects(f"{address}/run")


def test_a_lock_that_is_not_renewed_is_taken_over(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The former holder, which was only asleep, writes nothing more."""
    directory = files.path(f"{address}/asleep")
    with loopback_bucket.short_leases(renewed=0.1, expires=0.3):
        with monkeypatch.context() as patch:
            patch.setattr(bucket.Lease, "_keep", lambda _: None)
            asleep = bucket.Lease(directory, wait=False)
        with files.lock(directory, wait=False):
            asleep.renewed -= 1.0
            with pytest.raises(UserError, match="took over the lock"):
                asleep.confirm()
            bucket.Lease.held.remove(held := bucket.Lease.held[-1])
            with pytest.raises(UserError, match="took over the lock"), files.whole(directory / "x") as partial:
                partial.touch()
            bucket.Lease.held.append(held)
            asleep.close()  # leaves the lock to its holder
            assert [*loopback_bucket.objects(directory)] == [".lock"]


def test_an_object_is_copied_once_and_again_when_it_changed(address: str, tmp_path: pathlib.Path) -> None:
    files.keep_copies_in(str(tmp_path))
    for name in ("a", "deep/b", "left_out"):
        loopback_bucket.put(f"{address}/data/{name}", name.encode())
    copy = files.local(f"{address}/data", lambda name: name != "left_out")
    assert {path.name: path.read_text() for path in copy.rglob("*") if path.is_file()} == {"a": "a", "b": "deep/b"}
    first = (copy / "a").stat().st_ino
    assert files.local(f"{address}/data", lambda name: name != "left_out") == copy and copy.name == "data"
    loopback_bucket.put(f"{address}/data/deep/b", b"new")
    changed = files.local(f"{address}/data", lambda name: name != "left_out")
    assert (changed / "deep" / "b").read_text() == "new" and (copy / "deep" / "b").read_text() == "deep/b"
    assert (changed / "a").stat().st_ino == first  # the same bytes on disk
    assert files.local(f"{address}/data/a").read_text() == "a"
    with pytest.raises(UserError, match="holds nothing that can be read"):
        files.local(f"{address}/dat")


def test_a_missing_bucket_is_a_sentence() -> None:
    loopback_bucket.server()
    with pytest.raises(UserError, match="there is no bucket 'nowhere'"):
        files.path("gs://nowhere/run")


def test_the_missing_package_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gcsfs" else find(name))
    with pytest.raises(UserError, match="pip install gcsfs"):
        bucket.client.__wrapped__()


def test_no_network_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    with pytest.raises(UserError, match=r"127\.0\.0\.1:1 cannot be reached"):
        bucket.client.__wrapped__()


def test_a_local_path_is_left_as_it_is(tmp_path: pathlib.Path) -> None:
    assert files.local(tmp_path) == files.path(tmp_path) == files.kept_here(tmp_path, "") == tmp_path
