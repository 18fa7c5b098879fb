"""The cache's folder; strict JSON; files and directories appear whole or not at all."""

from __future__ import annotations

import os
import pathlib
import pwd
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from infoprompt_jax import checksums, leftovers
from infoprompt_jax.errors import UserError
from infoprompt_jax.files import LOCK, Growing, cache_directory, lock, whole


def test_the_cache_is_in_the_home_directory_unless_configured(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory("") == tmp_path / ".cache" / "infoprompt_jax"
    assert cache_directory("~/mine") == tmp_path / "mine" and cache_directory("/a/b") == pathlib.Path("/a/b")
    with pytest.raises(UserError, match="choose a local one"):
        cache_directory("gs://bucket/cache")


def test_a_user_without_a_home_needs_a_configured_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    """As a container may have one, whose number is in no list of users."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", lambda _: {}["nobody"])
    with pytest.raises(UserError, match=r"has no home directory: set data\.cache_dir"):
        cache_directory("")
    assert cache_directory(str(tmp_path)) == tmp_path


def test_processes_of_one_number_write_the_same_path_apart(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In two containers that share a folder, as those of one image, both may have number 1."""
    path = tmp_path / "file"
    with whole(path) as first:
        first.write_text("first")
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(leftovers, "TOKEN", "0123abcd")
            with whole(path) as second:
                second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first" and [*tmp_path.iterdir()] == [path]


def ended() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_who_locks_a_directory_sweeps_what_killed_processes_left(tmp_path: pathlib.Path) -> None:
    """A directory that was being replaced gets its new content, or the old one where there is no new one."""
    dead, alive = ended(), os.getppid()
    (tmp_path / "deep").mkdir()
    for name in (f".summary.json.{dead}.partial", f".summary.json.{alive}.partial", ".keep.partial", ".x.1x.old"):
        (tmp_path / "deep" / name).write_text("half")
    for name, content in {
        f".a.{dead}-0123abcd.old": "old",
        f".a.{dead}-0123abcd.partial": "new",
        f".b.{dead}.old": "old",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(content)
    (tmp_path / f".deep.{dead}.old").mkdir()
    with lock(tmp_path, wait=False):
        left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert left == [".lock", "a/content", "b/content", "deep/.keep.partial", f"deep/.summary.json.{alive}.partial",
                    "deep/.x.1x.old"]  # fmt: skip
    assert (tmp_path / "a" / "content").read_text() == "new" and (tmp_path / "b" / "content").read_text() == "old"
    assert not (tmp_path / f".deep.{dead}.old").exists()


@pytest.mark.parametrize("again", [False, True])
def test_a_locked_directory_that_is_gone_is_not_made_again(tmp_path: pathlib.Path, again: bool) -> None:
    made = tmp_path / "run"
    made.mkdir()
    with lock(made, wait=False):
        checksums.write_json(made / "a.json", {})
        log = Growing(made / "log")
        log.write(b"line")
        shutil.rmtree(made)
        if again:  # by another process
            made.mkdir()
            (made / LOCK).touch()
        for write in (lambda: checksums.write_json(made / "prompts" / "b.json", {}), log.sync):
            with pytest.raises(UserError, match=r"run was removed or replaced while this process wrote into it"):
                write()
        assert not (made / "prompts").exists()
    checksums.write_json(made / "b.json", {})  # nobody's


def test_all_is_on_disk_before_it_appears(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, fsync = [], os.fsync

    def recorded(descriptor: int) -> None:
        fsync(descriptor)
        synced.append((os.fstat(descriptor).st_ino, (tmp_path / "x").exists()))

    monkeypatch.setattr(os, "fsync", recorded)
    with whole(tmp_path / "x") as partial:
        (partial / "deep").mkdir(parents=True)
        (partial / "a").write_text("a")
        (partial / "deep" / "b").write_text("b")
    files = [tmp_path / "x" / "a", tmp_path / "x" / "deep" / "b"]
    assert sorted(synced) == sorted((file.stat().st_ino, False) for file in files)


def test_a_copy_of_what_nobody_may_write_is_written(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the vocabulary of a shared folder of checkpoints is. Root, who may open it, sees its permissions here."""
    source, synced, fsync = tmp_path / "spiece.model", [], os.fsync
    source.write_text("vocabulary")
    source.chmod(0o444)

    def recorded(file: int) -> None:
        synced.append(os.fstat(file).st_mode & 0o200)
        fsync(file)

    monkeypatch.setattr(os, "fsync", recorded)
    with whole(tmp_path / "vocabulary") as partial:
        partial.mkdir()
        shutil.copy(source, partial)
    assert (tmp_path / "vocabulary" / "spiece.model").read_text() == "vocabulary" and synced == [0o200]


def test_what_fails_leaves_what_was_there(tmp_path: pathlib.Path) -> None:
    (tmp_path / "x").write_text("before")
    with pytest.raises(KeyboardInterrupt), whole(tmp_path / "x") as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "x").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


def test_files_are_as_readable_as_any_other(tmp_path: pathlib.Path) -> None:
    """safetensors writes files that only the owner may read; a library or a backbone is often another's to read."""
    (tmp_path / "usual").touch()
    with whole(tmp_path / "x") as partial:
        partial.mkdir()
        save_file({"a": np.zeros(1)}, partial / "private.safetensors")
    assert (tmp_path / "x" / "private.safetensors").stat().st_mode == (tmp_path / "usual").stat().st_mode
