"""Compiled programs are kept where they may be, and a command that was run before reads them."""

from __future__ import annotations

import os
import pathlib
import pwd
import subprocess
import sys
from collections.abc import Iterator

import jax
import pytest

from infoprompt_jax import program_cache

TESTS = pathlib.Path(__file__).parent
COMMAND = """
import pathlib, sys

sys.path.insert(0, sys.argv[1])
import jax, tiny_runs
from infoprompt_jax import jobs

hits, kept = [], "/jax/compilation_cache/cache_hits"
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if event == kept else None)
fields = {"infoprompt__gamma": 0.0, "infoprompt__beta": 0.0, "train__steps": 1, "train__schedule": "constant"}
fields |= {"train__warmup": 0.0, "train__eval_every": 0, "train__save_every": 0}
jobs.run(tiny_runs.config(pathlib.Path(sys.argv[2]), **fields), f"{sys.argv[2]}/{sys.argv[3]}")
print(len(hits))
"""


def hits(directory: pathlib.Path, run: str, **variables: str) -> int:
    """How many programs a process that trains for a step reads from the cache."""
    environment = {k: v for k, v in os.environ.items() if "COMPILATION_CACHE" not in k} | variables
    line = [sys.executable, "-c", COMMAND, str(TESTS), str(directory), run]
    done = subprocess.run(line, cwd=TESTS.parent, env=environment, check=True, capture_output=True, text=True)
    assert "persistent compilation cache" not in done.stderr  # JAX's warnings of entries that it cannot use
    return int(done.stdout.splitlines()[-1])


def folder_of_jax() -> str | None:
    return getattr(jax.config, "jax_compilation_cache_dir")  # noqa: B009 (pyright does not know it)


@pytest.fixture
def restored() -> Iterator[None]:
    """The options that `keep` sets get back their values."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in (*names, "jax_enable_compilation_cache")}
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.slow
def test_the_second_command_does_not_compile(tmp_path: pathlib.Path) -> None:
    first = hits(tmp_path, "first")  # a few programs of one run are the same
    folder = tmp_path / "cache" / "programs" / program_cache.processor()
    kept = sorted(folder.iterdir())
    assert any("step" in file.name for file in kept)
    assert hits(tmp_path, "second") == first + len(kept)
    assert sorted(folder.iterdir()) == kept  # all of its programs were there
    assert hits(tmp_path, "third", JAX_ENABLE_COMPILATION_CACHE="false") == 0


@pytest.mark.usefixtures("restored")
def test_programs_are_kept_where_there_is_room(tmp_path: pathlib.Path) -> None:
    assert program_cache.keep(str(tmp_path), room=2**62) is None
    assert folder_of_jax() is None
    folder = program_cache.keep(str(tmp_path))
    assert folder and folder_of_jax() == str(folder)
    assert program_cache.keep(str(tmp_path / "another")) is None  # there is a folder already


@pytest.mark.usefixtures("restored")
def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: pathlib.Path) -> None:
    (tmp_path / "programs").write_text("a file where the folder belongs")
    assert program_cache.keep(str(tmp_path)) is None
    assert folder_of_jax() is None


def test_a_user_without_a_home_keeps_nothing(monkeypatch: pytest.MonkeyPatch, restored: None) -> None:
    """As a container may have one, whose number is in no list of users."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", lambda _: {}["nobody"])
    assert program_cache.keep("") is None and folder_of_jax() is None


def test_the_oldest_programs_go(tmp_path: pathlib.Path) -> None:
    for age in range(4):
        (tmp_path / str(age)).write_bytes(bytes(10))
        os.utime(tmp_path / str(age), (1000 - age, 1000 - age))
    program_cache.prune(tmp_path, 25)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0", "1"]


def test_a_folder_that_others_may_write_keeps_none(tmp_path: pathlib.Path, restored: None) -> None:
    folder = tmp_path / "programs" / program_cache.processor()
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert program_cache.keep(str(tmp_path)) is None and folder_of_jax() is None
    folder.chmod(0o700)
    assert program_cache.keep(str(tmp_path), room=0) == folder
