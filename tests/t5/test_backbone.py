"""A loaded backbone: its verbs, what it refuses, and what importing the package costs."""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest
import tiny
import tiny_t5x
from flax import nnx

import infoprompt_jax as ip
from infoprompt_jax import settings
from infoprompt_jax.t5 import partition
from infoprompt_jax.t5.model import T5
from infoprompt_jax.t5.tokenizer import load_tokenizer
from infoprompt_jax.training.experiment import configured_backbone


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
    over_eight = tiny.backbone(partition.make_mesh())
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
        ("random", {"weights": "int4"}, "^weights='int4' is not supported: choose one of full, int8"),
        ("nano", {"takes_eos": "maybe"}, "^takes_eos='maybe' is not one of"),
        ("./nowhere", {}, "^name='./nowhere' is neither a directory here nor a hub id"),
        ("a/b/c", {}, "neither a directory here nor a hub id"),
    ],
)
def test_what_cannot_be_loaded_is_refused(name: str, options: dict, words: str) -> None:
    with pytest.raises(ip.UserError, match=words):
        ip.load_backbone(name, **options)


INPUTS, CHOICES = (tiny.batch()[name][0] for name in ("inputs", "choices"))
BEYOND = np.where(INPUTS == 1, 384, INPUTS)
MISFITS = {
    "text": (["a", "b"], CHOICES, None, r"tokens_BL is .* of shape \[2\], but whole numbers of shape \[B, L\]"),
    "ragged": (
        [[5, 1], [1]],
        CHOICES,
        None,
        "tokens_BL has rows of different lengths: fill the shorter ones",
    ),
    "floats": (INPUTS * 1.0, CHOICES, None, "tokens_BL is float64 of shape"),
    "one row": (INPUTS[0], CHOICES, None, r"tokens_BL is int32 of shape \[12\]"),
    "beyond": (
        BEYOND,
        CHOICES,
        None,
        "tokens_BL holds the token id 384, but the backbone 'random' has the ids 0 to",
    ),
    "beyond, on a device": (jax.numpy.asarray(BEYOND), CHOICES, None, "tokens_BL holds the token id 384"),
    "negative": (INPUTS, np.where(CHOICES == 1, -1, CHOICES), None, "choices_BCT holds the token id -1"),
    "choices of one row": (INPUTS, CHOICES[:1], None, "choices_BCT has 1 rows, but tokens_BL has 4"),
    "choices without rows": (INPUTS, CHOICES[0], None, r"choices_BCT is int32 .* shape \[B, C, T\]"),
    "width": (INPUTS, CHOICES, np.zeros((5, 32)), r"prompts of shape \[5, 32\] .* floats \[P, 64\] or \[4, P, 64\]"),
    "prompts of other rows": (INPUTS, CHOICES, np.zeros((1, 5, 64)), r"prompts of shape \[1, 5, 64\] .* 4 rows"),
    "no tokens": (INPUTS[:, :0], CHOICES, None, r"tokens_BL is int32 of shape \[4, 0\], .* at least one"),
    "no choices": (INPUTS, CHOICES[:, :0], None, r"choices_BCT is int32 of shape \[4, 0, 4\], .* at least one"),
    "a path": (
        INPUTS,
        CHOICES,
        "runs/rte/prompts/run",
        "prompts is neither an array nor a saved prompt",
    ),
    "a prompt without rows": (INPUTS, CHOICES, ip.Prompt(np.zeros(64)), r"shape \[64\], but a matrix \[P, D\] was"),
    "three axes": (INPUTS, CHOICES, ip.Prompt(np.zeros((1, 5, 64))), r"shape \[1, 5, 64\], but a matrix \[P, D\] was"),
    "half a generator": (
        INPUTS,
        CHOICES,
        ip.Prompt(np.zeros((5, 64)), {}, {"generator/down": np.zeros((64, 2))}),
        "which do not fit together: load it from where",
    ),
    "another representation": (
        INPUTS,
        CHOICES,
        ip.Prompt(
            np.zeros((5, 64)),
            {"representation": "middle"},
            {"generator/down": np.zeros((64, 2)), "generator/up": np.zeros((2, 5, 64))},
        ),
        "the representation 'middle', which do not fit together",
    ),
    "tokens as prompts": (INPUTS, CHOICES, np.zeros((5, 64), int), "prompts of shape .* and type int"),
}


@pytest.mark.parametrize(("tokens", "choices", "prompts", "words"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_refused_in_pythons_words(
    tokens: Any, choices: Any, prompts: Any, words: str, model: tiny.Backbone
) -> None:
    with pytest.raises(ip.UserError, match=words) as error:
        model.score(tokens, choices, prompts=prompts)
    assert "\n" not in str(error.value) and "backbone." not in str(error.value)
    if "choices" not in words:
        with pytest.raises(ip.UserError, match=words):
            model.encode(tokens, prompts=prompts)


def test_targets_must_be_of_the_rows(model: tiny.Backbone) -> None:
    with pytest.raises(ip.UserError, match="targets_BT has 3 rows, but tokens_BL has 4"):
        model.logits(INPUTS, CHOICES[:3, 0])
    with pytest.raises(ip.UserError, match="tokens holds the token id 384"):
        model.head_rows([[384]])
    for tokens in ([[1.5]], [[True]], [["a"]], [[1], [2, 3]]):
        with pytest.raises(ip.UserError, match=r"^tokens (is .* but whole numbers were expected|has rows of)"):
            model.head_rows(tokens)
    for length in (0, 1.5, None):
        with pytest.raises(ip.UserError, match=f"max_length={length}, but a whole number of at least 1"):
            model.generate(INPUTS, max_length=length)  # type: ignore[arg-type]


def test_methods_can_be_traced(model: tiny.Backbone) -> None:
    np.testing.assert_allclose(jax.jit(model.encode)(INPUTS), model.encode(INPUTS), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(jax.jit(model.head_rows)(INPUTS), model.head_rows(INPUTS))


def test_t5x_loads_with_and_without_a_vocabulary(vocabulary: pathlib.Path, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("tensorstore")
    path, pieces = str(tmp_path / "t5x"), load_tokenizer(vocabulary)
    tiny_t5x.write(tmp_path / "t5x", pieces.vocab_size)
    bare = ip.load_backbone(path, mesh=tiny.one_device())
    assert bare.logits([[5, 6, 1]], [[7, 1]]).shape == (1, 2, pieces.vocab_size)
    with pytest.raises(ip.UserError, match=r"has no vocabulary: load it with tokenizer=, a spiece\.model"):
        bare.tokenizer.encode(["a"])
    config = settings.defaults()
    config.backbone.name = path
    with pytest.raises(ip.UserError, match=r"^backbone\.name='.*' has no vocabulary: set backbone\.tokenizer"):
        configured_backbone(config, tiny.one_device())
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
