"""A loaded backbone: its verbs, what it refuses, and what importing the package costs."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny
import tiny_t5x
from flax import nnx

import infoprompt_jax as ip
from infoprompt_jax.t5 import partition
from infoprompt_jax.t5.model import T5
from infoprompt_jax.t5.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def model() -> tiny.Backbone:
    return tiny.backbone()


def test_verbs_have_the_documented_shapes(model: tiny.Backbone) -> None:
    rows = {name: value[0] for name, value in tiny.batch().items()}
    inputs, targets, prompt = rows["inputs"], rows["targets"], np.zeros((tiny.P, 64), np.float32)
    assert model.embed(inputs).shape == (4, 12, 64)
    assert model.encode(inputs).shape == (4, 12, 64)
    assert model.encode(inputs, prompts=prompt).shape == (4, 17, 64)
    assert model.logits(inputs, targets, prompts=prompt).shape == (4, 4, 384)
    assert model.score(inputs, rows["choices"], prompts=prompt, normalize="none").shape == (4, 3)
    assert model.generate(inputs, max_length=6, prompts=prompt).shape == (4, 6)


def test_generation_is_greedy_scoring(model: tiny.Backbone) -> None:
    inputs = tiny.batch()["inputs"][0]
    prompts = np.random.default_rng(0).standard_normal((4, tiny.P, 64)).astype(np.float32)
    generated = np.asarray(model.generate(inputs, 6, prompts))
    best = np.asarray(model.logits(inputs, generated, prompts)).argmax(-1)
    for row, expected in zip(generated, best, strict=True):
        until = list(row).index(1) + 1 if 1 in row else len(row)
        np.testing.assert_array_equal(row[:until], expected[:until])
        assert not row[until:].any()


def test_a_number_of_rows_that_does_not_divide_is_replicated(model: tiny.Backbone) -> None:
    inputs = tiny.batch(rows=3)["inputs"][0]
    over_eight = tiny.backbone(partition.make_mesh(8, 1))
    np.testing.assert_allclose(over_eight.encode(inputs), model.encode(inputs), rtol=1e-4, atol=1e-4)


def test_weights_are_the_checkpoints_bit_for_bit(tmp_path: pathlib.Path, vocabulary: pathlib.Path) -> None:
    pytest.importorskip("torch")
    import shutil

    import torch
    import transformers
    from safetensors.numpy import load_file

    torch.manual_seed(0)
    sizes = {"vocab_size": 384, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 2, "num_heads": 4}
    transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes)).save_pretrained(tmp_path)
    shutil.copy(vocabulary, tmp_path)
    loaded = ip.load_backbone(str(tmp_path), mesh=tiny.one_device())
    saved = load_file(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(np.asarray(loaded.frozen["embedding"][...]), saved["shared.weight"])
    for layer in range(2):
        name = f"decoder.block.{layer}.layer.1.EncDecAttention.k.weight"
        found = np.asarray(loaded.frozen["decoder"]["layers"]["cross"]["key"][...])[layer]
        np.testing.assert_array_equal(found, saved[name].T)
    half = ip.load_backbone(str(tmp_path), dtype="bfloat16", mesh=tiny.one_device())
    assert half.fingerprint == loaded.fingerprint
    assert half.frozen["embedding"][...].dtype == jax.numpy.bfloat16


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("random", {"dtype": "float16"}, r"T5 overflows in float16.*float32, bfloat16"),
        ("random", {"weights": "int8"}, "weights='int8' is not supported"),
        ("./nowhere", {}, "neither a directory here nor a hub id"),
        ("a/b/c", {}, "neither a directory here nor a hub id"),
    ],
)
def test_what_cannot_be_loaded_is_refused(name: str, options: dict, words: str) -> None:
    with pytest.raises(ip.UserError, match=words):
        ip.load_backbone(name, **options)


def test_a_prompt_of_another_width_is_refused(model: tiny.Backbone) -> None:
    with pytest.raises(ip.UserError, match=r"shape \(5, 32\) does not fit.*\[P, 64\] or \[B, P, 64\]"):
        model.encode(tiny.batch()["inputs"][0], prompts=np.zeros((5, 32)))


def test_t5x_loads_with_and_without_a_vocabulary(vocabulary: pathlib.Path, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("tensorstore")
    path, pieces = str(tmp_path / "t5x"), load_tokenizer(vocabulary)
    tiny_t5x.write(tmp_path / "t5x", pieces.vocab_size)
    bare = ip.load_backbone(path, mesh=tiny.one_device())
    assert bare.logits([[5, 6, 1]], [[7, 1]]).shape == (1, 2, pieces.vocab_size)
    with pytest.raises(ip.UserError, match=r"has no vocabulary: set backbone\.tokenizer"):
        bare.tokenizer.encode(["a"])
    switches = {"dropout": 0.1, "remat": "full", "unroll": 2}
    named = ip.load_backbone(path, mesh=tiny.one_device(), tokenizer=str(vocabulary), **switches)
    assert switches.items() <= dataclasses.asdict(named.config).items()
    assert named.tokenizer.encode(["a red boat"])[0].tolist() == pieces.encode(["a red boat"])[0].tolist()
    assert named.fingerprint == bare.fingerprint


def test_importing_the_package_brings_neither_tensorflow_nor_seqio() -> None:
    code = "import sys, infoprompt_jax; print(*{m.split('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"tensorflow", "seqio", "transformers", "torch", "matplotlib", "grain"} & set(loaded)


def test_head_rows_are_the_lm_heads(model: tiny.Backbone) -> None:
    """Of the matrix that makes logits; of the embeddings only where the two are one."""
    ids = np.array([[5, 6], [7, 5]])
    np.testing.assert_array_equal(model.head_rows(ids), np.asarray(model.frozen["head"][...])[ids])
    tied = T5(dataclasses.replace(model.config, tied=True), nnx.Rngs(0))
    np.testing.assert_array_equal(tied.head_rows(ids), tied.embed(ids))
