"""The benchmark of loading, on a toy shape: its checkpoint is one that loads, and what it counts is what is held."""

from __future__ import annotations

import json
import pathlib

import jax
import pytest
import tiny_t5

from bench import loading
from bench.synthetic import SHAPES
from infoprompt_jax.t5 import convert
from infoprompt_jax.t5.config import T5Config

CONFIG = T5Config(**SHAPES["toy"])


def test_a_checkpoint_in_files_of_bounded_size(tmp_path: pathlib.Path) -> None:
    loading.write(tmp_path / "checkpoint", CONFIG, size_of_file=40_000)
    loading.write(tmp_path / "whole", CONFIG)
    files = sorted((tmp_path / "checkpoint").glob("*.safetensors"))
    assert len(files) > 2 and len(list((tmp_path / "whole").glob("*.safetensors"))) == 1
    assert convert.read_config(tmp_path / "checkpoint").vocab_size == CONFIG.vocab_size
    tiny_t5.assert_same(tiny_t5.read(tmp_path / "checkpoint"), tiny_t5.read(tmp_path / "whole"))


def test_every_case_loads_the_same_weights(tmp_path: pathlib.Path) -> None:
    if jax.device_count() < 8:
        pytest.skip("needs 8 devices")
    paths = tmp_path / "checkpoint", tmp_path / "converted"
    loading.write(paths[0], CONFIG)
    loading.write_converted(*paths)
    loads = {case.subject: loading.load(*paths, case) for case in loading.CASES}
    assert len({load["fingerprint"] for load in loads.values()}) == 1
    size = sum(file.stat().st_size for file in paths[0].glob("*.safetensors"))
    for subject, load in loads.items():
        expected = size / 2 if "int8" in subject else size  # the header; replicas share their buffers
        assert 0.8 * expected < load["device_bytes"] < 1.3 * expected, subject
    of_8, of_1 = loads["model 8"]["largest_slice_bytes"], loads["data 8"]["largest_slice_bytes"]
    assert of_8 * 8 == of_1 == 2 * 384 * 32
    assert loads["model 8"]["limit_bytes"] == 1.2 * of_8 + 300e6


@pytest.mark.slow
def test_the_command_measures_in_fresh_processes(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    loading.main(["--shape=toy", f"--directory={tmp_path}", f"--out={tmp_path / 'results'}"])
    assert "All within the limit." in capsys.readouterr().out
    records = json.loads((tmp_path / "results" / "loading-toy.json").read_text())["records"]
    assert [record["subject"] for record in records] == [case.subject for case in loading.CASES]
    for record in records:
        assert 50e6 < record["beyond_bytes"] < record["limit_bytes"]
    assert [path.name for path in tmp_path.iterdir()] == ["results"]  # the checkpoint is gone
