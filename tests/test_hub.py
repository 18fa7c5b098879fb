"""Where a backbone's files are looked for, in a hub cache laid out as the hub's own client lays it out."""

from __future__ import annotations

import contextlib
import pathlib
import socket
from collections.abc import Iterator

import pytest
from huggingface_hub import constants

from infoprompt_jax import hub
from infoprompt_jax.errors import UserError

COMMITS = {"main": "a" * 40, "old": "b" * 40}
UNREACHABLE = "the hub cannot be reached"


@pytest.fixture
def snapshots(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The snapshots of org/t5 in an otherwise empty cache, with a config.json each; there is no network."""
    repository = tmp_path / "models--org--t5"
    (repository / "refs").mkdir(parents=True)
    for name, commit in COMMITS.items():
        (repository / "refs" / name).write_text(commit)
        (repository / "snapshots" / commit).mkdir(parents=True)
        (repository / "snapshots" / commit / "config.json").write_text("{}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return repository / "snapshots"


@contextlib.contextmanager
def listening() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_directory_is_used_as_it_is(tmp_path: pathlib.Path) -> None:
    assert hub.find(str(tmp_path)) == tmp_path


def test_the_cached_revision_is_found_without_a_network(snapshots: pathlib.Path) -> None:
    for revision, commit in COMMITS.items():
        (snapshots / commit / "model.safetensors").touch()
        assert hub.find("org/t5", revision) == snapshots / commit
    assert hub.find("org/t5") == snapshots / COMMITS["main"]


def test_a_cache_without_weights_is_not_enough(snapshots: pathlib.Path) -> None:
    with pytest.raises(UserError, match=UNREACHABLE):
        hub.find("org/t5")


def test_pickles_are_taken_only_where_they_are_allowed(snapshots: pathlib.Path) -> None:
    (snapshots / COMMITS["main"] / "pytorch_model.bin").touch()
    with pytest.raises(UserError, match=UNREACHABLE):
        hub.find("org/t5")
    assert hub.find("org/t5", allow_pickle=True) == snapshots / COMMITS["main"]


def test_the_offline_setting_is_heeded(snapshots: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as here:
        monkeypatch.setattr(constants, "ENDPOINT", here)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(UserError, match=UNREACHABLE):
            hub.find("org/t5")


def test_a_hub_behind_a_proxy_is_reached_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    assert not hub.reachable("https://127.0.0.1:9", seconds=1)
    with listening() as proxy:
        monkeypatch.setenv("https_proxy", proxy)
        assert hub.reachable("https://127.0.0.1:9", seconds=1)
