"""Backbones in a bucket: one format of weights is copied, the weights are those of the directory."""

from __future__ import annotations

import pathlib

import loopback_bucket
import pytest
import tiny_repository
import tiny_t5x

from infoprompt_jax import files
from infoprompt_jax.errors import UserError
from infoprompt_jax.t5 import hub
from infoprompt_jax.t5.backbone import load_backbone


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    files.keep_copies_in(str(tmp_path_factory.mktemp("cache")))
    return loopback_bucket.new("backbones")


def names(directory: pathlib.Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def test_a_hugging_face_directory(address: str, tmp_path: pathlib.Path) -> None:
    """Its shards, and neither another format nor what is not read; a change of one file copies that file alone."""
    index, shards = "model.safetensors.index.json", [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    tiny_repository.files(tmp_path / "t5", [index, "flax_model.msgpack", "tokenizer.json", "rust_model.ot"])
    name = loopback_bucket.upload(tmp_path / "t5", f"{address}/t5")
    backbone = load_backbone(name)
    copy = hub.find(name)
    assert names(copy) == {"config.json", "tokenizer.json", index, *shards}
    assert backbone.name == name and backbone.fingerprint == load_backbone(str(tmp_path / "t5")).fingerprint
    loopback_bucket.put(f"{name}/config.json", (tmp_path / "t5" / "config.json").read_bytes() + b"\n")
    changed = hub.find(name)
    assert changed != copy and (changed / shards[0]).stat().st_ino == (copy / shards[0]).stat().st_ino
    assert names(hub.find_vocabulary(f"{name}/tokenizer.json").parent) == {"tokenizer.json"}


def test_a_missing_shard_is_a_sentence(address: str, tmp_path: pathlib.Path) -> None:
    tiny_repository.files(tmp_path / "t5", ["model.safetensors.index.json", "tokenizer.json"])
    (tmp_path / "t5" / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"model-00002-of-00002\.safetensors"):
        load_backbone(loopback_bucket.upload(tmp_path / "t5", f"{address}/torn"))


def test_a_t5x_checkpoint_without_its_optimizer(address: str, tmp_path: pathlib.Path) -> None:
    tiny_t5x.write(tmp_path / "t5x" / "checkpoint_10")
    (tmp_path / "t5x" / "checkpoint_10" / "state.step").mkdir()
    (tmp_path / "t5x" / "checkpoint_10" / "state.step" / ".zarray").write_text("{}")
    (tmp_path / "t5x" / "more").write_text("not for us")
    name = loopback_bucket.upload(tmp_path / "t5x", f"{address}/t5x")
    ours, theirs = load_backbone(name, takes_eos="yes"), load_backbone(str(tmp_path / "t5x"), takes_eos="yes")
    assert ours.fingerprint == theirs.fingerprint
    assert names(hub.find(name)) == {n for n in names(tmp_path / "t5x") if "state." not in n and n != "more"}
