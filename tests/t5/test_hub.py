"""Where a backbone's files come from: a directory, a cache laid out as the hub's client lays it out, or the hub."""

from __future__ import annotations

import contextlib
import json
import pathlib
import socket
from collections.abc import Iterator
from typing import Any

import loopback_hub
import numpy as np
import pytest
import tiny
import tiny_repository
from huggingface_hub import constants
from loopback_hub import Hub, pull

from infoprompt_jax.errors import OfflineError, UserError
from infoprompt_jax.t5 import hub, weight_files
from infoprompt_jax.t5.backbone import load_backbone
from infoprompt_jax.t5.flax_msgpack import FlaxMsgpack

COMMITS = {"main": "a" * 40, "old": "b" * 40}
BOTH = ("spiece.model", "tokenizer.json")
# Files that real repositories hold, and which of them are weights that are read.
LAYOUTS = {
    "t5-base-lm-adapt": (("pytorch_model.bin", "tf_model.h5", *BOTH), ["pytorch_model.bin"]),
    "t5-v1_1-base": (("pytorch_model.bin", "flax_model.msgpack", "tf_model.h5", "spiece.model"), ["pytorch_model.bin"]),
    "t5-small": (("model.safetensors", "pytorch_model.bin", "flax_model.msgpack", *BOTH), ["model.safetensors"]),
    "flan-t5-xl": (
        ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json", *BOTH),
        ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
    ),
    "T0pp, branch sharded": (
        ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin", "pytorch_model.bin.index.json", *BOTH),
        ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"],
    ),
    "flax alone": (("flax_model.msgpack", "spiece.model"), ["flax_model.msgpack"]),
}


def content(file: str, files: tuple[str, ...]) -> str:
    if not file.endswith(".index.json"):
        return "{}"
    ending = file.removesuffix(".index.json").rpartition(".")[2]
    shards = [other for other in files if other.endswith(f".{ending}")]
    return json.dumps({"weight_map": {f"tensor {i}": shard for i, shard in enumerate(shards)}})


@pytest.fixture
def snapshots(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The snapshots of org/t5 in an otherwise empty cache, each with config.json and vocabulary; no network."""
    repository = tmp_path / "models--org--t5"
    (repository / "refs").mkdir(parents=True)
    for name, commit in COMMITS.items():
        (repository / "refs" / name).write_text(commit)
        (repository / "snapshots" / commit).mkdir(parents=True)
        for file in ("config.json", "spiece.model"):
            (repository / "snapshots" / commit / file).write_text("{}")
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


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_cache_with_any_format_whole_is_enough(layout: str, snapshots: pathlib.Path) -> None:
    files, _ = LAYOUTS[layout]
    for file in files:
        (snapshots / COMMITS["main"] / file).write_text(content(file, files))
    assert hub.find("org/t5") == snapshots / COMMITS["main"]


def test_a_cache_without_weights_or_with_a_part_of_them_is_not_enough(snapshots: pathlib.Path) -> None:
    files, weights = LAYOUTS["T0pp, branch sharded"]
    for file in files:
        if file != weights[1]:
            (snapshots / COMMITS["main"] / file).write_text(content(file, files))
    for revision in COMMITS:
        with pytest.raises(OfflineError, match="neither a directory here nor whole in the hub's local cache"):
            hub.find("org/t5", revision)


def test_a_cache_without_a_vocabulary_serves_where_there_is_no_network(snapshots: pathlib.Path) -> None:
    """The vocabulary may be named by backbone.tokenizer; where it is needed, the tokenizer's error says so."""
    here = snapshots / COMMITS["main"]
    (here / "pytorch_model.bin").touch()
    (here / "spiece.model").unlink()
    assert hub.find("org/t5") == here


def test_the_offline_setting_is_heeded(snapshots: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as here:
        monkeypatch.setattr(constants, "ENDPOINT", here)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(OfflineError, match=r"and HF_HUB_OFFLINE is set: set backbone\.name to a local directory"):
            hub.find("org/t5")


@pytest.fixture
def online(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An empty cache, and a client that may use the network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    return monkeypatch


def repository(files: tuple[str, ...]) -> dict[str, bytes]:
    return {file: content(file, files).encode() for file in ("config.json", "README.md", *files)}


def downloaded(
    repo: Hub, monkeypatch: pytest.MonkeyPatch, revision: str | None = None
) -> tuple[pathlib.Path, set[str]]:
    """The directory that is found, and the files that were downloaded into it."""
    with loopback_hub.served(repo) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        found = hub.find("org/t5", revision)
    return found, {path.name for path in found.iterdir()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_format_is_downloaded_with_config_and_vocabulary(layout: str, online: pytest.MonkeyPatch) -> None:
    files, weights = LAYOUTS[layout]
    repo = Hub("org/t5", {"main": repository(files)})
    found, names = downloaded(repo, online)
    beside = {file for file in files if file in BOTH or file.endswith(".index.json")}
    assert names == {"config.json", *beside, *weights}
    repo.requested.clear()
    assert downloaded(repo, online)[0] == found and not repo.requested  # from the cache


TITLE, BOT = hub.CONVERSION


@pytest.mark.parametrize(
    ("title", "author", "files", "weights"),
    [
        (TITLE, BOT, ("tf_model.h5", "flax_model.msgpack", "spiece.model"), "model.safetensors"),
        (TITLE, "somebody", ("flax_model.msgpack", "spiece.model"), "flax_model.msgpack"),
        ("Better weights", BOT, ("flax_model.msgpack", "spiece.model"), "flax_model.msgpack"),
        (TITLE, BOT, ("pytorch_model.bin", "spiece.model"), "pytorch_model.bin"),
    ],
)
def test_the_hubs_own_conversion_is_read_where_main_has_only_flax(
    title: str, author: str, files: tuple[str, ...], weights: str, online: pytest.MonkeyPatch
) -> None:
    branches = {"main": repository(files), "refs/pr/2": repository((*files, "model.safetensors"))}
    repo = Hub("org/t5", branches, [pull(1, "Typo", BOT, "org/t5"), pull(2, title, author, "org/t5")])
    found, names = downloaded(repo, online)
    online.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.find("org/t5") == found  # also where it lies under the pull request
    assert weights in names and not {"model.safetensors", "flax_model.msgpack", "pytorch_model.bin"} & names - {weights}


def test_another_pull_request_never_stands_for_main(online: pytest.MonkeyPatch) -> None:
    """It was requested by its number before, and lies whole in the cache."""
    branches = {"main": repository(("flax_model.msgpack",)), "refs/pr/2": repository(("model.safetensors",))}
    repo = Hub("org/t5", branches)
    pulled, _ = downloaded(repo, online, "refs/pr/2")
    online.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OfflineError, match="'org/t5' is neither a directory here nor whole in the hub's local cache"):
        hub.find("org/t5")
    assert hub.find("org/t5", "refs/pr/2") == pulled
    online.setattr(constants, "HF_HUB_OFFLINE", False)
    assert downloaded(repo, online)[0] != pulled


def test_a_conversion_of_another_state_of_main_is_not_read(online: pytest.MonkeyPatch) -> None:
    branches = {"main": repository(("spiece.model",)), "refs/pr/2": repository(("spiece.model", "model.safetensors"))}
    repo = Hub("org/t5", branches, [pull(2, TITLE, BOT, "org/t5")])
    repo.parents["refs/pr/2"] = "0" * 40
    with pytest.raises(UserError, match=r"no weights on the hub that can be read: model\.safetensors, pytorch_model"):
        downloaded(repo, online)


def test_where_no_pull_requests_are_listed_flax_is_read(online: pytest.MonkeyPatch) -> None:
    repo = Hub("org/t5", {"main": repository(("flax_model.msgpack", "spiece.model"))}, pulls=None)
    assert "flax_model.msgpack" in downloaded(repo, online)[1]


def test_shards_of_any_name_are_downloaded(online: pytest.MonkeyPatch) -> None:
    files = ("one.safetensors", "two.safetensors", "model.safetensors.index.json", "spiece.model")
    assert {"one.safetensors", "two.safetensors"} <= downloaded(Hub("org/t5", {"main": repository(files)}), online)[1]


def test_a_pointer_of_git_lfs_is_no_weight_file(snapshots: pathlib.Path) -> None:
    here = snapshots / COMMITS["main"]
    (here / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(OfflineError, match=r"'org/t5' \(backbone\.revision='main'\) is neither"):
        hub.find("org/t5", "main")
    (here / "pytorch_model.bin").touch()
    assert hub.find("org/t5") == here


REFUSALS = {
    "unknown": ({}, "org/other", None, "", "^backbone.name='org/t5' is unknown to http.*, or private: check the name"),
    "unknown to its account": ({}, "org/other", None, "hf_mine", "^backbone.name='org/t5' is unknown to http"),
    "revision": ({}, "org/t5", "nope", "", "^backbone.revision='nope' is no branch, tag or commit of 'org/t5': choose"),
    "gated": ({"gated": True}, "org/t5", None, "", "^backbone.name='org/t5' is gated: ask for access at http.*/org/t5"),
    "gated for its account": ({"gated": True}, "org/t5", None, "hf_mine", "is gated: .*give that account's token by"),
    "token": (
        {"tokens": {"hf_mine"}},
        "org/t5",
        None,
        "hf_old",
        "^backbone.name='org/t5': .* refuses the access",
    ),
}


@pytest.mark.parametrize(("state", "name", "revision", "token", "sentence"), REFUSALS.values(), ids=REFUSALS)
def test_each_refusal_of_the_hub_gets_its_sentence(
    state: dict[str, Any], name: str, revision: str | None, token: str, sentence: str, online: pytest.MonkeyPatch
) -> None:
    online.setenv("HF_TOKEN", token)
    repo = Hub(name, {"main": repository(("model.safetensors", "spiece.model"))})
    vars(repo).update(state)
    with pytest.raises(UserError, match=rf"backbone\.{sentence}|{sentence}") as error:
        downloaded(repo, online, revision)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("index", [[1], {}, {"weight_map": ["a"]}, {"weight_map": None}])
def test_an_index_that_names_no_files_is_no_lost_download(index: Any, online: pytest.MonkeyPatch) -> None:
    files = {"model.safetensors.index.json": json.dumps(index).encode()}
    with pytest.raises(
        UserError, match=r"model\.safetensors\.index\.json on the hub cannot be used: .*(weight_map|a JSON object)"
    ):
        downloaded(Hub("org/t5", {"main": repository(()) | files}), online)


def test_an_index_brings_no_other_files(online: pytest.MonkeyPatch) -> None:
    files = {"model.safetensors.index.json": b'{"weight_map": {"a": "*"}}', "huge.h5": b"", "spiece.model": b""}
    _, names = downloaded(Hub("org/t5", {"main": repository(()) | files}), online)
    assert "huge.h5" not in names and "spiece.model" in names


def test_what_could_be_no_hub_id_is_not_tried_again() -> None:
    with pytest.raises(UserError, match="'org/t5 base' is neither a directory here nor a hub id such as"):
        hub.find("org/t5 base")


def test_a_token_with_access_reads_a_gated_repository(online: pytest.MonkeyPatch) -> None:
    online.setenv("HF_TOKEN", "hf_mine")
    repo = Hub("org/t5", {"main": repository(("model.safetensors", "spiece.model"))})
    repo.gated, repo.tokens = True, {"hf_mine"}
    assert "model.safetensors" in downloaded(repo, online)[1]


def test_a_dropped_download_goes_on_where_it_ended(online: pytest.MonkeyPatch) -> None:
    """In the same call: the second request is for the rest alone."""
    online.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    content = bytes(range(250)) * 40
    repo = Hub("org/t5", {"main": repository(("spiece.model",)) | {"model.safetensors": content}})
    repo.drops = {"model.safetensors": 7500}
    path, _ = downloaded(repo, online)
    assert (path / "model.safetensors").read_bytes() == content
    assert [start for file, start in repo.ranges if file == "model.safetensors"] == [0, 7000]


def test_what_was_complete_before_an_interruption_is_kept(online: pytest.MonkeyPatch) -> None:
    files, weights = LAYOUTS["flan-t5-xl"]
    repo = Hub("org/t5", {"main": repository(files)})
    repo.withheld = {weights[1]}
    with pytest.raises(UserError, match=r"could not be downloaded from http.* start again, which keeps the files"):
        downloaded(repo, online)
    (snapshot,) = pathlib.Path(constants.HF_HUB_CACHE).glob("models--org--t5/snapshots/*")
    complete = {path.name for path in snapshot.iterdir()}
    repo.withheld.clear()
    repo.ranges.clear()
    assert set(weights) <= downloaded(repo, online)[1]
    assert "model.safetensors.index.json" in complete and not complete & {file for file, _ in repo.ranges}


BOTH_FILES = ("spiece.model", "tokenizer.json")
TF, FLAX, BIN, ST = "tf_model.h5", "flax_model.msgpack", "pytorch_model.bin", "model.safetensors"
# Files of the repositories' main branches, and the weights that are read; google/t5-v1_1-xl and others are alike.
REPOSITORIES = {
    "google/t5-base-lm-adapt": ((BIN, TF, *BOTH_FILES), BIN),
    "google/t5-v1_1-base": ((BIN, TF, FLAX, "spiece.model"), BIN),
    "google-t5/t5-small": ((ST, BIN, TF, FLAX, *BOTH_FILES), ST),
    "google-t5/t5-11b": ((BIN, TF, *BOTH_FILES), BIN),
    "google/flan-t5-base": ((ST, BIN, TF, FLAX, *BOTH_FILES), ST),
    "google/flan-t5-xl": ((f"{ST}.index.json", f"{BIN}.index.json", *BOTH_FILES), f"{ST}.index.json"),
    "bigscience/T0_3B": ((ST, BIN, "spiece.model"), ST),
    "bigscience/T0pp": ((f"{BIN}.index.json", "spiece.model"), f"{BIN}.index.json"),
}


@pytest.mark.parametrize("name", REPOSITORIES)
def test_real_repositories_load(name: str, online: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """From the hub, by their lists of files; the weights are tiny."""
    pytest.importorskip("torch")
    files, weights = REPOSITORIES[name]
    repo = Hub(name, {"main": tiny_repository.files(tmp_path / "files", files)})
    with loopback_hub.served(repo) as address:
        online.setattr(constants, "ENDPOINT", address)
        online.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
        backbone = load_backbone(name, mesh=tiny.one_device())
    read = {pathlib.PurePath(file).suffix for file, _ in repo.ranges}
    assert read - {".json", ".model"} == {pathlib.PurePath(weights.removesuffix(".index.json")).suffix}
    assert backbone.config.takes_eos == ("T0" not in name)
    tensors = tiny_repository.leaves()
    np.testing.assert_array_equal(np.asarray(backbone.frozen["embedding"][...]), tensors["shared.weight"])
    assert backbone.tokenizer.decode(backbone.tokenizer.encode(["a red boat"])[0]) == "a red boat"


def test_a_file_that_cannot_be_read_in_parts_is_parsed_once(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For config and weights together: a Flax file of 11 GB takes a minute."""
    parsed = []

    class Counted(FlaxMsgpack):
        def __init__(self, path: pathlib.Path) -> None:
            parsed.append(path.name)
            super().__init__(path)

    monkeypatch.setitem(weight_files.READERS, ".msgpack", Counted)
    tiny_repository.files(tmp_path / "t5", [FLAX, "spiece.model"])
    load_backbone(str(tmp_path / "t5"), mesh=tiny.one_device())
    assert parsed == [FLAX]
