"""Checkpoints: what is read equals what was written, by transformers, by T5X and by us; and what is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import flax.serialization
import flax.traverse_util
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_t5
from safetensors.numpy import load_file, save_file
from tiny_t5 import assert_same, edit_json, fingerprint, logits, read, torch_logits

from infoprompt_jax.errors import UserError
from infoprompt_jax.t5 import convert
from infoprompt_jax.t5.config import T5Config
from infoprompt_jax.t5.leaf import of_array

torch = pytest.importorskip("torch")

INPUTS, TARGETS = np.array([[5, 6, 7, 8], [9, 10, 0, 0]]), np.array([[11, 12, 13], [14, 15, 16]])


@pytest.fixture(scope="module", params=["v1.0", "v1.1"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory as transformers writes it."""
    path = tmp_path_factory.mktemp("saved") / request.param
    tiny_t5.torch_t5(request.param).save_pretrained(path)
    return path


@pytest.fixture
def checkpoint(tmp_path: pathlib.Path) -> pathlib.Path:
    """A small v1.1 checkpoint of ours, for a test to damage."""
    return tiny_t5.export(tmp_path / "t5")


def from_transformers(path: pathlib.Path) -> Any:
    import transformers

    return transformers.T5ForConditionalGeneration.from_pretrained(path).eval()


def edit_tensors(path: pathlib.Path, **tensors: np.ndarray | None) -> None:
    content = load_file(path) | {name.replace("__", "."): array for name, array in tensors.items()}
    save_file({name: array for name, array in content.items() if array is not None}, path)


def test_leaves_are_those_of_the_design() -> None:
    """docs/design.md, by hand for D=8, H*K=6, F=10, V=17, 4 buckets."""
    config = T5Config(17, 8, 3, 10, num_layers=2, num_decoder_layers=1, num_heads=2, relative_buckets=4)
    shapes = convert.leaf_shapes(config)
    assert shapes["embedding"] == shapes["head"] == (17, 8)
    assert shapes["encoder/relative_bias/embedding"] == (4, 2)
    assert shapes["encoder/layers/attention/query"] == (2, 8, 6)
    assert shapes["decoder/layers/cross/out"] == (1, 6, 8)
    assert shapes["decoder/layers/mlp/wi_1"] == (1, 8, 10)
    assert shapes["encoder/layers/mlp_norm/scale"] == (2, 8)
    assert "encoder/layers/cross/out" not in shapes
    assert "head" not in convert.leaf_shapes(dataclasses.replace(config, tied=True))


def test_sizes_are_read_from_config_json(saved: pathlib.Path) -> None:
    config = convert.read_config(saved)
    expected = {**tiny_t5.SIZES, "relative_buckets": 32, "relative_max_distance": 128, "layer_norm_epsilon": 1e-6}
    for field in ("dropout_rate", "decoder_start_token_id"):
        expected.pop(field)
    assert {field: getattr(config, field) for field in expected} == expected
    version_10 = saved.name == "v1.0"
    assert (config.tied, config.scale_decoder_outputs) == (version_10, version_10)
    assert config.feed_forward == ("relu" if version_10 else "gated-gelu")


@pytest.mark.parametrize(
    "version,fields,tied,scaled",
    [
        ("v1.0", {"tie_word_embeddings": None, "scale_decoder_outputs": None, "feed_forward_proj": None}, True, True),
        ("v1.1", {"tie_word_embeddings": False, "scale_decoder_outputs": None}, False, False),
        ("v1.1", {"tie_word_embeddings": True, "scale_decoder_outputs": False}, False, False),
        ("v1.1", {"model_type": "mt5", "tie_word_embeddings": True, "scale_decoder_outputs": None}, False, False),
    ],
    ids=["v1.0 of 2020", "v1.1 before transformers 5", "v1.1 of transformers 5", "mt5 of transformers 5"],
)
def test_tying_and_scaling(
    version: str, fields: dict[str, Any], tied: bool, scaled: bool, tmp_path: pathlib.Path
) -> None:
    tiny_t5.torch_t5(version).save_pretrained(tmp_path)
    edit_json(tmp_path / "config.json", **fields)
    config = convert.read_config(tmp_path)
    assert (config.tied, config.scale_decoder_outputs) == (tied, scaled)


def rename_embeddings(path: pathlib.Path, **stacks: float) -> None:
    """Leaves out shared.weight, and keeps what it is multiplied with as each stack's copy."""
    shared = load_file(path / WEIGHTS)["shared.weight"]
    copies = {f"{stack}__embed_tokens__weight": shared * factor for stack, factor in stacks.items()}
    edit_tensors(path / WEIGHTS, shared__weight=None, **copies)


@pytest.mark.parametrize("stacks", [("encoder",), ("decoder",), ("encoder", "decoder")])
def test_embeddings_may_have_the_name_of_a_stacks_copy(checkpoint: pathlib.Path, stacks: tuple[str, ...]) -> None:
    expected = read(checkpoint)
    rename_embeddings(checkpoint, **dict.fromkeys(stacks, 1.0))
    assert_same(read(checkpoint), expected)
    edit_tensors(checkpoint / WEIGHTS, lm_head__weight=expected["embedding"])
    assert convert.read_config(checkpoint).tied


def test_a_head_that_was_lost_can_be_tied(checkpoint: pathlib.Path) -> None:
    """By the two lines of config.json that the error names."""
    edit_tensors(checkpoint / WEIGHTS, lm_head__weight=None)
    edit_json(checkpoint / "config.json", tie_word_embeddings=True, scale_decoder_outputs=False)
    config = convert.read_config(checkpoint)
    assert config.tied and not config.scale_decoder_outputs and "head" not in read(checkpoint)


def test_decoders_are_as_deep_as_encoders_where_unsaid(checkpoint: pathlib.Path) -> None:
    edit_json(checkpoint / "config.json", num_decoder_layers=None)
    assert convert.read_config(checkpoint).num_decoder_layers == 2


def test_a_head_equal_to_the_embeddings_is_tied(checkpoint: pathlib.Path) -> None:
    weights = checkpoint / "model.safetensors"
    edit_tensors(weights, lm_head__weight=load_file(weights)["shared.weight"])
    assert convert.read_config(checkpoint).tied


def write_pickle(path: pathlib.Path, tensors: dict[str, torch.Tensor]) -> None:
    torch.save(tensors, path / "pytorch_model.bin")


def write_pickled_shards(path: pathlib.Path, tensors: dict[str, torch.Tensor]) -> None:
    shards = {f"pytorch_model-0000{i}-of-00002.bin": sorted(tensors)[i - 1 :: 2] for i in (1, 2)}
    for file, names in shards.items():
        torch.save({name: tensors[name] for name in names}, path / file)
    index = {"weight_map": {name: file for file, names in shards.items() for name in names}}
    (path / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def write_msgpack(path: pathlib.Path, tensors: dict[str, torch.Tensor]) -> None:
    """As transformers' Flax T5 saved them."""
    tree: dict[str, Any] = {}
    for name, tensor in tensors.items():
        *module, _ = name.split(".")
        kind = "embedding" if module[-1] in ("shared", "relative_attention_bias") else "kernel"
        kind = "weight" if module[-1].endswith("layer_norm") else kind
        array = tensor.numpy()
        tree["/".join([*module, kind])] = array.T if kind == "kernel" else array
    nested = flax.traverse_util.unflatten_dict(tree, sep="/")
    (path / "flax_model.msgpack").write_bytes(flax.serialization.msgpack_serialize(nested))


FORMATS = {"shards": None, "pickle": write_pickle, "pickled shards": write_pickled_shards, "msgpack": write_msgpack}


# transformers leaves a tied head out of safetensors: only config.json then says that there is none.
SAID = [(format, said) for format in FORMATS for said in (None, True, False) if (format, said) != ("shards", False)]


@pytest.mark.parametrize(("format", "says_tied"), SAID)
def test_every_format_holds_the_same(
    saved: pathlib.Path, format: str, says_tied: bool | None, tmp_path: pathlib.Path
) -> None:
    """Also beside a config.json that is wrong about the head: transformers 5 writes of every T5 that it is tied."""
    model, write = from_transformers(saved), FORMATS[format]
    shutil.copytree(saved, tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").unlink()
    if write is None:
        model.save_pretrained(tmp_path / "other", max_shard_size="20KB")
        assert len(list((tmp_path / "other").glob("*.safetensors"))) > 2
    else:
        tensors = model.state_dict()
        write(tmp_path / "other", {n: t for n, t in tensors.items() if not n.endswith("coder.embed_tokens.weight")})
    if says_tied is not None:
        scaled = convert.read_config(saved).scale_decoder_outputs
        edit_json(tmp_path / "other" / "config.json", tie_word_embeddings=says_tied, scale_decoder_outputs=scaled)
    assert convert.read_config(tmp_path / "other") == convert.read_config(saved)
    assert_same(read(tmp_path / "other"), read(saved))


def test_of_several_formats_the_first_whole_one_is_read(saved: pathlib.Path, tmp_path: pathlib.Path) -> None:
    several, tensors = tmp_path / "several", from_transformers(saved).state_dict()
    shutil.copytree(saved, several)
    write_pickle(several, {name: tensor + 1 for name, tensor in tensors.items()})
    write_msgpack(several, {name: tensor + 2 for name, tensor in tensors.items() if "embed_tokens" not in name})
    plus = dict(read(saved))
    assert_same(read(several), plus)
    (several / "model.safetensors").rename(several / "model-00001-of-00002.safetensors")
    (several / "model.safetensors.index.json").write_text(
        json.dumps(
            {
                "weight_map": {
                    "shared.weight": "model-00001-of-00002.safetensors",
                    "x": "model-00002-of-00002.safetensors",
                }
            }
        )
    )
    np.testing.assert_array_equal(read(several)["embedding"], plus["embedding"] + 1)
    (several / "pytorch_model.bin").unlink()
    (several / "model.safetensors.index.json").unlink()
    np.testing.assert_array_equal(read(several)["embedding"], plus["embedding"] + 2)


@pytest.mark.parametrize("stored", ["float16", "bfloat16"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_half_precision_files(checkpoint: pathlib.Path, stored: str, dtype: str) -> None:
    full, weights = read(checkpoint), checkpoint / "model.safetensors"
    save_file({name: array.astype(jnp.dtype(stored)) for name, array in load_file(weights).items()}, weights)
    expected = {leaf: array.astype(jnp.dtype(stored)).astype(jnp.dtype(dtype)) for leaf, array in full.items()}
    assert_same(read(checkpoint, dtype), expected)
    assert {array.dtype for array in read(checkpoint, dtype).values()} == {jnp.dtype(dtype)}


def test_export_gives_transformers_the_same_logits(saved: pathlib.Path, tmp_path: pathlib.Path) -> None:
    config = dataclasses.replace(convert.read_config(saved), takes_eos=False)
    (tmp_path / "spiece.model").write_bytes(b"pieces")
    convert.export(tmp_path / "new", config, read(saved).items(), [tmp_path / "spiece.model"])
    assert convert.read_config(tmp_path / "new") == config
    assert convert.read_config(tmp_path / "new", takes_eos="yes").takes_eos
    assert_same(read(tmp_path / "new"), read(saved))
    assert (tmp_path / "new" / "spiece.model").read_bytes() == b"pieces"
    expected = torch_logits(from_transformers(saved), INPUTS, TARGETS)
    np.testing.assert_allclose(torch_logits(from_transformers(tmp_path / "new"), INPUTS, TARGETS), expected, atol=1e-6)
    # transformers before version 5 reads both switches from this one.
    assert json.loads((tmp_path / "new" / "config.json").read_text())["tie_word_embeddings"] is config.tied


def test_export_of_a_head_that_is_tied_but_not_scaled(saved: pathlib.Path, tmp_path: pathlib.Path) -> None:
    config = dataclasses.replace(convert.read_config(saved), tied=True, scale_decoder_outputs=False)
    leaves = {leaf: array for leaf, array in read(saved).items() if leaf != "head"}
    convert.export(tmp_path / "new", config, leaves.items())
    assert convert.read_config(tmp_path / "new") == config
    # To transformers before version 5, true would mean scaled.
    assert json.loads((tmp_path / "new" / "config.json").read_text())["tie_word_embeddings"] is False
    np.testing.assert_allclose(
        torch_logits(from_transformers(tmp_path / "new"), INPUTS, TARGETS),
        logits(tiny_t5.load(tmp_path / "new"), INPUTS, TARGETS),
        atol=1e-4,
    )


def test_export_leaves_nothing_behind_when_it_fails(checkpoint: pathlib.Path, tmp_path: pathlib.Path) -> None:
    config, leaves = convert.read_config(checkpoint), read(checkpoint)
    with pytest.raises(UserError, match="choose another"):
        convert.export(checkpoint, config, leaves.items())
    with pytest.raises(FileNotFoundError):
        convert.export(tmp_path / "new", config, leaves.items(), [tmp_path / "no tokenizer"])
    with pytest.raises(UserError, match="weights='int8' cannot be exported: load the backbone with weights='full'"):
        convert.export(tmp_path / "new", dataclasses.replace(config, weights="int8"), leaves.items())
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.name]


def test_fingerprint_tells_weights_not_formats(saved: pathlib.Path, checkpoint: pathlib.Path) -> None:
    expected = fingerprint(saved)
    assert len(expected) == 16
    assert fingerprint(checkpoint) != expected
    config, leaves = convert.read_config(saved), list(read(saved).items())
    backwards = convert.Fingerprint(config)
    for leaf, array in reversed(leaves):
        backwards.add(of_array(leaf, array * (1.01 if leaf == "encoder/norm/scale" else 1.0)))
    assert backwards.hexdigest() != expected
    backwards.add(of_array("encoder/norm/scale", dict(leaves)["encoder/norm/scale"]))
    assert backwards.hexdigest() == expected


@pytest.mark.parametrize("field", ["layer_norm_epsilon", "scale_decoder_outputs", "relative_max_distance", "takes_eos"])
def test_fingerprint_tells_what_the_weights_compute(field: str) -> None:
    config = T5Config(17, 8, 4, 16, 1, 1, 2)
    value = getattr(config, field)
    other = dataclasses.replace(config, **{field: not value if isinstance(value, bool) else 2 * value})
    assert convert.Fingerprint(config).hexdigest() != convert.Fingerprint(other).hexdigest()


def test_fingerprint_samples_every_column() -> None:
    config = T5Config(17, 8, 4, 16, 1, 1, 2)
    array = np.zeros((8192, 8), np.float32)
    found = set()
    for column in range(-1, 8):
        digest = convert.Fingerprint(config)
        digest.add(of_array("embedding", array + (np.arange(8) == column)[None]))
        found.add(digest.hexdigest())
    assert len(found) == 9


WEIGHTS = "model.safetensors"
WO = "encoder__block__1__layer__1__DenseReluDense__wo__weight"


def index(path: pathlib.Path, file: str) -> None:
    (path / WEIGHTS).rename(path / "model-1.safetensors")
    names = dict.fromkeys(load_file(path / "model-1.safetensors"), "model-1.safetensors")
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names | {"shared.weight": file}}))


def cut(path: pathlib.Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def float8(path: pathlib.Path) -> None:
    from safetensors.torch import save_file

    tensors = {name: torch.from_numpy(array) for name, array in load_file(path / WEIGHTS).items()}
    name = WO.replace("__", ".")
    tensors[name] = tensors[name].to(torch.float8_e4m3fn)
    save_file(tensors, path / WEIGHTS)


# Values of config.json that are of another type or that no T5 can have.
VALUES: list[tuple[str, Any, str]] = [
    ("layer_norm_epsilon", 0, "layer_norm_epsilon 0 in its config.json, but a number from 1.17549e-38 to 1"),
    ("layer_norm_epsilon", 1e-50, "layer_norm_epsilon 1e-50"),
    ("layer_norm_epsilon", "1e-6", "layer_norm_epsilon '1e-6'"),
    ("layer_norm_epsilon", True, "layer_norm_epsilon True"),
    ("dropout_rate", 1.5, "dropout_rate 1.5 in its config.json, but a number from 0 to 1"),
    ("tie_word_embeddings", "false", "tie_word_embeddings 'false' in its config.json, but true or false was expected"),
    ("scale_decoder_outputs", 0, "scale_decoder_outputs 0"),
    ("takes_eos", "no", "takes_eos 'no'"),
    ("d_kv", True, "d_kv True in its config.json, but a whole number from 1 to 16,777,216 was expected"),
    ("d_kv", 4.0, "d_kv 4.0"),
    ("d_ff", -16, "d_ff -16"),
    ("vocab_size", 10**12, "vocab_size 1000000000000"),
    ("num_layers", [2], r"num_layers \[2\]"),
    ("relative_attention_num_buckets", 3, "relative_attention_num_buckets 3 and .* at least 4 buckets"),
    (
        "relative_attention_max_distance",
        16,
        "relative_attention_num_buckets 32 and relative_attention_max_distance 16 .* a distance beyond half",
    ),
    ("model_type", ["t5"], r"model_type \['t5'\]"),
    ("feed_forward_proj", {"relu": 1}, "feed_forward_proj {'relu': 1}"),
    ("quantization_config", {"quant_method": "bitsandbytes"}, "has a quantization_config .* backbone.weights=int8"),
]


@pytest.mark.parametrize("field,value,message", VALUES)
def test_values_that_no_t5_has_are_refused_by_name(
    checkpoint: pathlib.Path, field: str, value: Any, message: str
) -> None:
    edit_json(checkpoint / "config.json", **{field: value})
    with pytest.raises(UserError, match=f"^backbone.name: .* has (a )?{message.removeprefix('has a ')}") as caught:
        convert.read_config(checkpoint)
    assert "\n" not in str(caught.value)


DAMAGES: dict[str, tuple[Callable[[pathlib.Path], Any], str]] = {
    "no config": (lambda path: (path / "config.json").unlink(), "no config.json"),
    "no JSON": (lambda path: cut(path / "config.json", 20), "config.json that cannot be read: it is not JSON"),
    "no object": (lambda path: (path / "config.json").write_text("[]"), "config.json .* holds list, but a JSON object"),
    "NaN in it": (
        lambda path: edit_json(path / "config.json", layer_norm_epsilon=float("nan")),
        "config.json .*NaN is not a finite number",
    ),
    "infinity in it": (
        lambda path: edit_json(path / "config.json", layer_norm_epsilon=float("inf")),
        "config.json .*Infinity is not a finite number",
    ),
    "a key twice in it": (
        lambda path: (path / "config.json").write_text('{"d_kv": 1, "d_kv": 4}'),
        "config.json .*an object has the key 'd_kv' twice, line 1, column 13",
    ),
    "BERT": (lambda path: edit_json(path / "config.json", model_type="bert"), "model_type 'bert'"),
    "SiLU": (lambda path: edit_json(path / "config.json", feed_forward_proj="gated-silu"), "'gated-silu'"),
    "no size": (lambda path: edit_json(path / "config.json", d_kv=None), "d_kv None"),
    "padding": (lambda path: edit_json(path / "config.json", pad_token_id=3), "pad_token_id 3"),
    "no weights": (lambda path: (path / WEIGHTS).unlink(), "no weights"),
    "cut header": (lambda path: cut(path / WEIGHTS, 100), "truncated or damaged"),
    "cut data": (lambda path: cut(path / WEIGHTS, -4), "truncated or damaged"),
    "missing": (lambda path: edit_tensors(path / WEIGHTS, **{WO: None}), f"lacks the tensor {WO.replace('__', '.')}"),
    "shape": (lambda path: edit_tensors(path / WEIGHTS, **{WO: np.zeros((8, 15), "f")}), r"\[8, 15\].*\[8, 16\]"),
    "integers": (lambda path: edit_tensors(path / WEIGHTS, **{WO: np.zeros((8, 16), "i1")}), "as int8"),
    "float8": (float8, r"wo\.weight in a form that cannot be read: F8_E4M3"),
    "NaN": (
        lambda path: edit_tensors(path / WEIGHTS, **{WO: np.full((8, 16), np.nan, "f")}),
        "NaN or inf.*block.1.*wo",
    ),
    "infinity": (lambda path: edit_tensors(path / WEIGHTS, **{WO: np.full((8, 16), np.inf, "f2")}), "NaN or inf.*wo"),
    "layers": (lambda path: edit_json(path / "config.json", num_layers=1), "only 1 layers"),
    "no embeddings": (
        lambda path: edit_tensors(path / WEIGHTS, shared__weight=None),
        "lacks the tensor shared.weight",
    ),
    "no head": (
        lambda path: edit_tensors(path / WEIGHTS, lm_head__weight=None),
        'has "tie_word_embeddings": false in its config.json, but no lm_head.weight.*write "tie_word_embeddings": true',
    ),
    "two embeddings": (lambda path: rename_embeddings(path, encoder=1.0, decoder=2.0), "decoder.embed.* differ"),
    "umT5": (lambda path: edit_json(path / "config.json", model_type="umt5"), "model_type 'umt5'.*in every layer"),
    "empty index": (
        lambda path: (path / WEIGHTS).replace(path / "model.safetensors.index.json").write_text("{}"),
        "without a weight_map",
    ),
    "lost shard": (lambda path: index(path, "model-2.safetensors"), "lacks the file 'model-2"),
    "outside": (lambda path: index(path, "../t5/model-1.safetensors"), "points outside"),
    "absolute": (lambda path: index(path, "/etc/passwd"), "points outside"),
    "no name": (lambda path: index(path, "m" * 300 + ".safetensors"), "lacks the file 'mmm"),
    "deep JSON": (lambda path: (path / "config.json").write_text("[" * 100_000), "config.json .* nested too deeply"),
    "pointer": (
        lambda path: (path / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "holds a pointer of Git LFS in place of model.safetensors: run `git lfs pull`",
    ),
    "no weight file": (lambda path: index(path, "config.json"), "'config.json', which is not a file of weights"),
    "not msgpack": (lambda path: (path / WEIGHTS).rename(path / "flax_model.msgpack"), "msgpack that is truncated or"),
}


@pytest.mark.parametrize("damage,message", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_refused_in_one_sentence(checkpoint: pathlib.Path, damage: Callable, message: str) -> None:
    read(checkpoint)
    damage(checkpoint)
    with pytest.raises(UserError, match=message) as caught:
        read(checkpoint)
    assert str(caught.value).startswith("backbone.name: ") and "\n" not in str(caught.value)


def test_pickles_run_no_code(checkpoint: pathlib.Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Callable, tuple]:
            return os.system, (f"touch {checkpoint / 'touched'}",)

    (checkpoint / WEIGHTS).unlink()
    torch.save({"shared.weight": Attack()}, checkpoint / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"^backbone\.name: '.*' holds a pytorch_model\.bin that calls posix\.system"):
        read(checkpoint)
    assert not (checkpoint / "touched").exists()
