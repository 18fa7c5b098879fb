"""T5X checkpoints: read as they are, and refused where they are damaged or not a T5's."""

from __future__ import annotations

import gzip
import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiny_t5
import tiny_t5x
from flax import serialization, traverse_util
from tiny_t5 import assert_same, fingerprint, logits, read, torch_logits

from infoprompt_jax.errors import UserError
from infoprompt_jax.t5 import convert
from infoprompt_jax.t5.config import T5Config

INPUTS, TARGETS = np.array([[5, 6, 7, 8], [9, 10, 0, 0]]), np.array([[11, 12, 13], [14, 15, 16]])


@pytest.fixture(params=["written", "real"])
def t5x_checkpoint(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> pathlib.Path:
    """A checkpoint to damage, written here or by T5X; beside the model, in checkpoint_3."""
    if request.param == "written":
        pytest.importorskip("tensorstore")
        tiny_t5x.write(tmp_path / "t5x" / "checkpoint_3")
        return tmp_path / "t5x"
    real = request.getfixturevalue("shared") / "fixtures" / "t5x" / "prompt_tuning_t5_1_1_tiny"
    return shutil.copytree(real, tmp_path / "t5x", copy_function=shutil.copyfile)


def t5x_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Read by hand, with zlib and NumPy."""
    tree = serialization.msgpack_restore((path / "checkpoint").read_bytes())["optimizer"]["target"]

    def arrays(tree: dict, prefix: str) -> dict[str, np.ndarray]:
        found = {}
        for key, value in tree.items():
            name = f"{prefix}{key}"
            if not isinstance(value, dict):
                found[name] = value
            elif "driver" not in value:
                found |= arrays(value, f"{name}.")
            else:
                chunks = value["metadata"]["chunks"]
                axis = int(value["metadata"]["shape"][1] > chunks[1])
                files = sorted((path / f"target.{name}").glob("[0-9]*.[0-9]*"))
                read = [np.frombuffer(gzip.decompress(file.read_bytes()), "<f4").reshape(chunks) for file in files]
                joined = np.concatenate(read, axis=axis)
                found[name] = joined[tuple(slice(n) for n in value["metadata"]["shape"])]
        return found

    return arrays(tree, "")


def torch_from_t5x(arrays: dict[str, np.ndarray]) -> Any:
    """A T5 v1.1 of transformers, filled with T5X's arrays."""
    torch = pytest.importorskip("torch")
    import transformers

    vocabulary = len(arrays["token_embedder.embedding"])
    sizes = {"vocab_size": vocabulary, "d_model": 4, "d_kv": 2, "d_ff": 8, "num_layers": 2, "num_heads": 2}
    config = transformers.T5Config(
        **sizes, relative_attention_num_buckets=4, feed_forward_proj="gated-gelu", tie_word_embeddings=False
    )
    model = transformers.T5ForConditionalGeneration(config).eval()
    model.lm_head.weight = torch.nn.Parameter(torch.empty(vocabulary, 4))
    state = {
        "shared.weight": arrays["token_embedder.embedding"],
        "lm_head.weight": arrays["decoder.logits_dense.kernel"].T,
    }
    for stack, own in (("encoder", "attention"), ("decoder", "self_attention")):
        state[f"{stack}.embed_tokens.weight"] = arrays["token_embedder.embedding"]
        state[f"{stack}.final_layer_norm.weight"] = arrays[f"{stack}.{stack}_norm.scale"]
        bias = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        state[bias] = arrays[f"{stack}.relpos_bias.rel_embedding"].T
        for i in range(2):
            theirs, ours = f"{stack}.layers_{i}", f"{stack}.block.{i}.layer"
            blocks = [(own, "SelfAttention", f"pre_{own}_layer_norm")]
            if stack == "decoder":
                blocks.append(("encoder_decoder_attention", "EncDecAttention", "pre_cross_attention_layer_norm"))
            blocks.append(("mlp", "DenseReluDense", "pre_mlp_layer_norm"))
            for j, (block, name, norm) in enumerate(blocks):
                state[f"{ours}.{j}.layer_norm.weight"] = arrays[f"{theirs}.{norm}.scale"]
                kernels = {"wi_0": "wi_0", "wi_1": "wi_1", "wo": "wo"}
                kernels = kernels if block == "mlp" else {"query": "q", "key": "k", "value": "v", "out": "o"}
                for kernel, letter in kernels.items():
                    state[f"{ours}.{j}.{name}.{letter}.weight"] = arrays[f"{theirs}.{block}.{kernel}.kernel"].T
    model.load_state_dict({name: torch.tensor(np.array(array)) for name, array in state.items()})
    return model


def test_t5x_gives_the_logits_of_the_same_arrays(t5x_checkpoint: pathlib.Path, tmp_path: pathlib.Path) -> None:
    model = torch_from_t5x(t5x_arrays(t5x_checkpoint / "checkpoint_3"))
    found = logits(tiny_t5.load(t5x_checkpoint), INPUTS, TARGETS)
    np.testing.assert_allclose(found, torch_logits(model, INPUTS, TARGETS), atol=1e-4)
    assert np.asarray(found).std() > 0.1
    model.save_pretrained(tmp_path / "saved")
    assert_same(read(t5x_checkpoint / "checkpoint_3"), read(tmp_path / "saved"))
    assert fingerprint(t5x_checkpoint) == fingerprint(tmp_path / "saved")


def test_t5x_kernels_with_heads_apart(tmp_path: pathlib.Path) -> None:
    """A v1.0 written by hand: [D, H, K] kernels, no head, one `wi`, all arrays in the msgpack file."""
    random = np.random.default_rng(0)

    def array(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    def attention() -> dict[str, Any]:
        kernels = {name: {"kernel": array(4, 2, 3)} for name in ("query", "key", "value")}
        return kernels | {"out": {"kernel": array(2, 3, 4)}}

    shared = {
        "pre_mlp_layer_norm": {"scale": array(4)},
        "mlp": {"wi": {"kernel": array(4, 5)}, "wo": {"kernel": array(5, 4)}},
    }
    encoder = {"attention": attention(), "pre_attention_layer_norm": {"scale": array(4)}, **shared}
    decoder = {"self_attention": attention(), "encoder_decoder_attention": attention(), **shared}
    decoder |= {f"pre_{name}_layer_norm": {"scale": array(4)} for name in ("self_attention", "cross_attention")}
    bias = {"relpos_bias": {"rel_embedding": array(2, 8)}}
    target = {
        "token_embedder": {"embedding": array(17, 4)},
        "encoder": {"layers_0": encoder, "encoder_norm": {"scale": array(4)}, **bias},
        "decoder": {"layers_0": decoder, "decoder_norm": {"scale": array(4)}, **bias},
    }
    (tmp_path / "checkpoint").write_bytes(serialization.msgpack_serialize({"optimizer": {"target": target}}))
    config, leaves = convert.read_config(tmp_path), read(tmp_path)
    assert config == T5Config(
        17, 4, 3, 5, 1, 1, 2, relative_buckets=8, feed_forward="relu", tied=True, scale_decoder_outputs=True
    )
    np.testing.assert_array_equal(
        leaves["encoder/layers/attention/query"][0], encoder["attention"]["query"]["kernel"].reshape(4, 6)
    )
    np.testing.assert_array_equal(
        leaves["encoder/layers/attention/out"][0], encoder["attention"]["out"]["kernel"].reshape(6, 4)
    )


def scanned(arrays: dict[str, np.ndarray], group: str) -> dict[str, np.ndarray]:
    """The arrays as a model with scanned layers has them: those of all layers together, on axis 1."""
    merged = {name: array for name, array in arrays.items() if ".layers_" not in name}
    for name in arrays:
        stack, _, rest = name.partition(".layers_0.")
        if rest:
            layers = [arrays[f"{stack}.layers_{i}.{rest}"] for i in range(2)]
            merged[f"{stack}.{group.format(stack)}.{rest}"] = np.stack(layers, axis=1)
    return merged


def write_msgpack(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> pathlib.Path:
    target = traverse_util.unflatten_dict(arrays, sep=".")
    path.mkdir()
    (path / "checkpoint").write_bytes(serialization.msgpack_serialize({"optimizer": {"target": target}}))
    return path


@pytest.mark.parametrize(
    ("group", "bias"),
    [("{}", ""), ("{}", "{}.relpos_bias"), ("layers", ""), ("layers", "layers.relative_posemb")],
)
def test_scanned_layers_read_as_unscanned_ones(group: str, bias: str, t5x_checkpoint: pathlib.Path) -> None:
    """With position biases beside the layers, and scanned with them."""
    arrays = t5x_arrays(t5x_checkpoint / "checkpoint_3")
    together = scanned(arrays, group)
    for stack in ("encoder", "decoder") if bias else ():
        biases = np.stack([together.pop(f"{stack}.relpos_bias.rel_embedding")] * 2, axis=1)
        together[f"{stack}.{bias.format(stack)}.rel_embedding"] = biases
    path = write_msgpack(t5x_checkpoint / "scanned", together)
    assert convert.read_config(path) == convert.read_config(t5x_checkpoint)
    assert_same(read(path), read(t5x_checkpoint))
    if bias:
        together[f"decoder.{bias.format('decoder')}.rel_embedding"][:, 1] += 1
        other = write_msgpack(t5x_checkpoint / "other", together)
        with pytest.raises(UserError, match=r"relative positions for each layer, as umT5, .* \(decoder\."):
            read(other)


def test_scanned_arrays_may_be_zarr(tmp_path: pathlib.Path) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    tiny_t5x.write(tmp_path / "t5x")
    together = scanned(t5x_arrays(tmp_path / "t5x"), "{}")
    path = write_msgpack(tmp_path / "scanned", together)
    tree = serialization.msgpack_restore((path / "checkpoint").read_bytes())
    name = "encoder.encoder.mlp.wo.kernel"
    metadata = {"shape": [8, 2, 4], "chunks": [4, 1, 4], "dtype": "<f4", "compressor": None}
    spec = {"driver": "zarr", "metadata": metadata, "kvstore": {"driver": "file", "path": str(path / f"target.{name}")}}
    tensorstore.open(spec, create=True).result().write(together[name]).result()
    tree["optimizer"]["target"]["encoder"]["encoder"]["mlp"]["wo"]["kernel"] = spec
    (path / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))
    assert_same(read(path), read(tmp_path / "t5x"))


def integers(path: pathlib.Path) -> None:
    file = path / "target.token_embedder.embedding" / ".zarray"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"dtype": "<i4", "fill_value": 0}))


T5X_DAMAGES: dict[str, tuple[Callable[[pathlib.Path], Any], str]] = {
    "a lost chunk": (lambda path: (path / "target.token_embedder.embedding" / "3.0").unlink(), "only 7 of 8 chunks"),
    "a cut chunk": (
        lambda path: (path / "target.encoder.layers_1.mlp.wo.kernel" / "0.0").write_bytes(b"\x1f\x8b"),
        "is damaged",
    ),
    "a chunk of another name": (
        lambda path: (path / "target.token_embedder.embedding" / "3.0").rename(
            path / "target.token_embedder.embedding" / "3.9"
        ),
        "is damaged: .* is missing",
    ),
    "integers": (
        integers,
        "stores token_embedder.embedding as int32, but only float16, bfloat16, float32, float64 can be read",
    ),
    "a lost array": (
        lambda path: shutil.rmtree(path / "target.encoder.layers_1.mlp.wo.kernel"),
        r"lacks a readable \.zarray",
    ),
    "a cut msgpack": (lambda path: (path / "checkpoint").write_bytes(b"\x81\xa1a"), "holds no parameters"),
    "two steps": (lambda path: shutil.copytree(path, path.with_name("checkpoint_4")), "checkpoint_3, checkpoint_4"),
}


@pytest.mark.parametrize("damage,message", T5X_DAMAGES.values(), ids=T5X_DAMAGES)
def test_damaged_t5x_is_refused(t5x_checkpoint: pathlib.Path, damage: Callable, message: str) -> None:
    damage(t5x_checkpoint / "checkpoint_3")
    with pytest.raises(UserError, match=message):
        read(t5x_checkpoint)


def test_foreign_t5x_is_refused(tmp_path: pathlib.Path) -> None:
    """A model without T5's embeddings, as T5X's tests have one."""
    target = {"decoder": {"logits_dense": {"kernel": np.zeros((4, 16), np.float32)}}}
    (tmp_path / "checkpoint").write_bytes(serialization.msgpack_serialize({"optimizer": {"target": target}}))
    with pytest.raises(UserError, match=r"backbone\.name.*no matrix token_embedder.*not a T5\."):
        convert.read_config(tmp_path)
