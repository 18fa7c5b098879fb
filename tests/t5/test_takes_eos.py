"""Whether inputs end in </s>: decided by evidence about the checkpoint, which the log names."""

from __future__ import annotations

import json
import pathlib
import shutil

import pytest
import tiny_t5
from tiny_t5 import edit_json

from infoprompt_jax.errors import UserError
from infoprompt_jax.t5 import convert

NAMES = {
    "bigscience/T0_3B": False,
    "bigscience/T0pp": False,
    "qinyuany/my-t0-base": False,
    "google/t5-base-lm-adapt": True,
    "a/t5-t01": True,
}


@pytest.fixture
def checkpoint(tmp_path: pathlib.Path) -> pathlib.Path:
    return tiny_t5.export(tmp_path / "t5")


def test_the_directory_that_one_is_in_has_its_name(checkpoint: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`backbone.name=.`"""
    edit_json(checkpoint / "config.json", takes_eos=None)
    monkeypatch.chdir(shutil.copytree(checkpoint, checkpoint.parent / "T0_3B"))
    assert not convert.read_config(pathlib.Path()).takes_eos


@pytest.mark.parametrize(("name", "takes_eos"), NAMES.items())
def test_t0_takes_no_eos(
    checkpoint: pathlib.Path, name: str, takes_eos: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """By its name in any of the places that have one; the log names the place."""
    edit_json(checkpoint / "config.json", takes_eos=None)
    assert convert.read_config(checkpoint).takes_eos
    cached = checkpoint.parent / f"models--{name.replace('/', '--')}" / "snapshots" / "0a1b2c"
    other = checkpoint.parent / name.rpartition("/")[2]
    for copy in (cached, other):
        shutil.copytree(checkpoint, copy)
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({"name_or_path": name}))
    renamed = shutil.copytree(checkpoint, checkpoint.parent / "renamed")
    (renamed / "tokenizer_config.json").unlink()
    edit_json(renamed / "config.json", _name_or_path=name)
    places = {
        cached: "the hub id",
        other: "the directory's name",
        checkpoint: "tokenizer_config.json's name_or_path",
        renamed: "config.json's _name_or_path",
    }
    for path, place in places.items():
        caplog.clear()
        with caplog.at_level("INFO", logger="infoprompt_jax.t5.convert"):
            assert convert.read_config(path).takes_eos == takes_eos
        assert (f"do not end in </s>, because {place}" in caplog.text) != takes_eos
        assert f"backbone.takes_eos={'no' if takes_eos else 'yes'} overrides it" in caplog.text
        assert convert.read_config(path, takes_eos="yes").takes_eos
        assert not convert.read_config(path, takes_eos="no").takes_eos


@pytest.mark.parametrize("content", ["no JSON", "[]", '{"add_eos_token": true, "add_eos_token": false}'])
def test_damaged_evidence_is_refused(checkpoint: pathlib.Path, content: str) -> None:
    edit_json(checkpoint / "config.json", takes_eos=None)
    (checkpoint / "tokenizer_config.json").write_text(content)
    with pytest.raises(UserError, match=r"tokenizer_config.json' cannot be read: .*: correct or remove it"):
        convert.read_config(checkpoint)
    assert convert.read_config(checkpoint, takes_eos="yes").takes_eos


@pytest.mark.parametrize("content", ['{"add_eos_token": false}', '{"add_eos_token": true}'])
def test_a_tokenizer_that_adds_no_eos_is_evidence(checkpoint: pathlib.Path, content: str) -> None:
    edit_json(checkpoint / "config.json", takes_eos=None)
    (checkpoint / "tokenizer_config.json").write_text(content)
    assert convert.read_config(checkpoint).takes_eos == ("false" not in content)
    edit_json(checkpoint / "config.json", _name_or_path="bigscience/T0")
    assert not convert.read_config(checkpoint).takes_eos
    edit_json(checkpoint / "config.json", takes_eos=True)  # as `export` writes it
    assert convert.read_config(checkpoint).takes_eos
