"""What the program wrote is read back as it was written, or not at all."""

from __future__ import annotations

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from infoprompt_jax import checksums
from infoprompt_jax.checksums import DamagedError, read_json, write_json

VALUE = {"a": 0.1, "b": [1, None, True, "é\ud800"], "c": {"d": -3}}


def test_write_json_is_strict_and_replaces_whole(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "deep" / "summary.json"
    value = {"a": np.float32(0.5), "b": [jnp.arange(2), float("inf")], 3: (np.int64(4), None, "é"), "n": np.nan}
    write_json(path, value)
    assert read_json(path, "") == {"a": 0.5, "b": [[0, 1], None], "3": [4, None, "é"], "n": None}
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text())["a"] == 0.5
    assert [p.name for p in path.parent.iterdir()] == ["summary.json"]


def test_a_flipped_byte_anywhere_is_refused_or_harmless(tmp_path: pathlib.Path) -> None:
    """Harmless: white space between values, and the checksum's own name, without which a file is read unchecked."""
    path = tmp_path / "x.json"
    write_json(path, VALUE)
    whole = path.read_bytes()
    refused = 0
    for place in range(len(whole)):
        for bit in (1, 16):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            try:
                read = read_json(path, "write it again")
            except DamagedError as error:
                assert "write it again" in str(error)
                refused += 1
            else:
                assert {name: read[name] for name in VALUE} == VALUE
    assert refused > 1.5 * len(whole)


@pytest.mark.parametrize("content", ["", "[1]", "{", "[" * 100_000, '{"a": ' + "9" * 5000 + "}", "\xff", "null"])
def test_what_is_no_object_is_refused_in_one_sentence(tmp_path: pathlib.Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content, encoding="latin-1")
    with pytest.raises(DamagedError, match=r"x\.json .*: write it again\.") as caught:
        read_json(tmp_path / "x.json", "write it again")
    assert "\n" not in str(caught.value)


def test_an_object_of_another_kind_is_refused(tmp_path: pathlib.Path) -> None:
    write_json(tmp_path / "x.json", VALUE)
    with pytest.raises(DamagedError):
        read_json(tmp_path / "x.json", "write it again", kind="summary")
    write_json(tmp_path / "x.json", VALUE, kind="summary")
    assert read_json(tmp_path / "x.json", "", kind="summary") == VALUE
    with pytest.raises(DamagedError):
        read_json(tmp_path / "x.json", "write it again")


def test_a_file_without_checksum_is_read(tmp_path: pathlib.Path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1}')
    assert read_json(tmp_path / "x.json", "") == {"a": 1}


def test_arrays_have_the_checksum_of_their_names_types_shapes_and_values() -> None:
    one = {"a": np.arange(6, dtype=np.float32), "b": np.zeros(2, np.int32)}
    same = {"b": np.zeros(2, np.int32), "a": np.arange(12, dtype=np.float32)[:6]}
    others = [
        one | {"a": one["a"].reshape(2, 3)},
        one | {"a": one["a"].astype(np.float64)},
        one | {"b": np.array([0, 1], np.int32)},
        {"a": one["a"], "c": one["b"]},
    ]
    assert checksums.of_arrays(one) == checksums.of_arrays(same)
    assert len({checksums.of_arrays(one), *map(checksums.of_arrays, others)}) == 5


def test_the_line_of_the_checksum_can_be_removed_by_hand(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, VALUE)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"checksum"' not in line).replace("0.1", "0.2"))
    assert read_json(path, "") == VALUE | {"a": 0.2}
