"""Checkpoints of backbones: config.json, safetensors, their index, pickles, msgpack, T5X.

What is accepted must have the sizes and all weights of the clean checkpoint.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import math
import pathlib
import pickle
import random
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.fuzz import tensors
from experiments.fuzz.cases import Case
from infoprompt_jax.t5 import convert
from infoprompt_jax.t5.backbone import load_backbone
from infoprompt_jax.t5.config import T5Config
from infoprompt_jax.t5.model import T5

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "d_model": 8,
    "d_kv": 4,
    "d_ff": 12,
    "num_layers": 2,
    "num_decoder_layers": 1,
    "num_heads": 2,
}
HUGE = "9" * 5000
ANY = [
    None,
    True,
    False,
    0,
    -1,
    1,
    3,
    5.0,
    0.5,
    1e39,
    math.nan,
    math.inf,
    10**12,
    10**400,
    "8",
    "",
    "false",
    [],
    [1],
    {},
    {"a": 1},
]
KEYS = (*SIZES, "layer_norm_epsilon", "feed_forward_proj", "tie_word_embeddings", "scale_decoder_outputs", "takes_eos",
        "model_type", "relative_attention_num_buckets", "relative_attention_max_distance", "decoder_start_token_id",
        "pad_token_id", "eos_token_id", "quantization_config", "architectures", "torch_dtype")  # fmt: skip
UNUSED = ("architectures", "torch_dtype")  # what they hold changes nothing; the weights have types of their own


def case(choose: random.Random, folder: pathlib.Path) -> Case:
    """One checkpoint."""
    path = folder / "checkpoint"
    shutil.copytree(clean_directory(), path)
    makers = [settings, settings, settings, texts, header, values, values, index, pickles, msgpack, places]
    return choose.choice(makers)(choose, path)


@functools.cache
def clean_directory() -> pathlib.Path:
    """A checkpoint of a few hundred weights, made once in each process."""
    import jax.numpy as jnp
    from flax import nnx

    folder = tempfile.mkdtemp(prefix="fuzz-clean-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    config = T5Config(**SIZES, feed_forward="gated-gelu", tied=False, scale_decoder_outputs=False)
    state = nnx.to_flat_state(nnx.split(T5(config, nnx.Rngs(0)))[1])
    leaves = [("/".join(map(str, path)), np.asarray(value[...], jnp.float32)) for path, value in state]
    convert.export(pathlib.Path(folder) / "clean", config, leaves)
    return pathlib.Path(folder) / "clean"


def load(path: pathlib.Path) -> dict[str, Any]:
    """Sizes, and a hash of all weights. Raises UserError as the program does."""
    from flax import nnx

    from experiments.fuzz.libraries import mesh

    backbone = load_backbone(str(path), tokenizer="bytes", mesh=mesh())
    config = {name: value for name, value in vars(backbone.config).items() if name != "tokenizer"}
    digest = hashlib.sha256()
    for name, leaf in sorted(nnx.to_flat_state(backbone.frozen), key=lambda pair: str(pair[0])):
        digest.update(str(name).encode() + np.asarray(leaf[...], "<f4").tobytes())
    return {"config": {name: str(value) for name, value in config.items()}, "weights": digest.hexdigest()}


@functools.cache
def clean() -> dict[str, Any]:
    """What the clean checkpoint is."""
    return load(clean_directory())


def settings(choose: random.Random, path: pathlib.Path) -> Case:
    """One key of config.json holds another value, or is missing."""
    content = json.loads((path / "config.json").read_text())
    key, value = choose.choice(KEYS), choose.choice(ANY)
    if choose.random() < 0.15:
        content.pop(key, None)
        what = f"without {key}"
    else:
        content[key] = value
        what = f"{key}={value!r:.60}"
    right = clean()
    documented = means(key, value, right) if what.startswith(key) else (lambda result: _same_weights(result, right))
    (path / "config.json").write_text(json.dumps(content))
    return Case(f"config.json: {what}", lambda: load(path), right, (documented,) if documented else ())


def _same_weights(result: dict[str, Any], right: dict[str, Any]) -> bool:
    return result["weights"] == right["weights"]


def means(key: str, value: Any, right: dict[str, Any]) -> Any:
    """The result where a valid value of config.json means what it says; None where only the clean result is right."""
    names = {"layer_norm_epsilon": "layer_norm_epsilon", "relative_attention_max_distance": "relative_max_distance",
             "scale_decoder_outputs": "scale_decoder_outputs", "takes_eos": "takes_eos"}  # fmt: skip
    if value is None:
        return lambda result: _same_weights(result, right)  # as if it were not there
    if key not in names or not _is_valid(key, value):
        return None
    field = "layer_norm_epsilon" if key == "layer_norm_epsilon" else names[key]
    written = float(value) if key == "layer_norm_epsilon" else value
    return right | {"config": right["config"] | {field: str(written)}}


def _is_valid(key: str, value: Any) -> bool:
    if key == "layer_norm_epsilon":
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1
    if key == "relative_attention_max_distance":  # beyond the buckets of single distances
        return isinstance(value, int) and not isinstance(value, bool) and 16 < value < 2**31
    return isinstance(value, bool)


def texts(choose: random.Random, path: pathlib.Path) -> Case:
    """config.json is no JSON, or hardly."""
    text, right = (path / "config.json").read_text(), clean()
    place = choose.randrange(len(text) - 2)
    odd = {
        "cut": (text[:place], None),
        "empty": ("", None),
        "a list": ("[]", None),
        "null": ("null", None),
        "deep": ("[" * 100_000, None),
        "deep inside": (text.replace("{", '{"other": ' + "[" * 100_000 + "]" * 100_000 + ",", 1), right),
        "an integer of 5,000 digits": (text.replace("{", f'{{"other": {HUGE},', 1), right),
        "NaN": (text.replace("{", '{"other": NaN,', 1), right),
        "a mark": ("\ufeff" + text, right),
        "a key twice": (text.replace("{", '{"d_kv": 5,', 1), right),
        "spaces": (f"{text}\n", right),
        "NUL": (f"{text}\0", None),
        "quantization_config": (text.replace("{", '{"quantization_config": {"bits": 4},', 1), None),
    }
    what = choose.choice(list(odd))
    (path / "config.json").write_text(odd[what][0], encoding="utf-8")
    return Case(f"config.json: {what}", lambda: load(path), odd[what][1])


def header(choose: random.Random, path: pathlib.Path) -> Case:
    """model.safetensors with a damaged header."""
    what = tensors.damage_header(choose, path / "model.safetensors")
    return Case(f"model.safetensors: {what}", lambda: load(path))


def values(choose: random.Random, path: pathlib.Path) -> Case:
    """Tensors of other types, shapes and values; missing and additional ones."""
    import ml_dtypes
    from safetensors.numpy import load_file, save_file

    file, right = path / "model.safetensors", clean()
    stored = load_file(file)
    name = choose.choice(sorted(stored))
    array = stored[name]
    flat = np.array(array)
    flat.flat[choose.randrange(flat.size)] = choose.choice([math.nan, math.inf, -math.inf])
    odd: dict[str, tuple[dict[str, Any], Any]] = {
        "NaN or infinity": ({name: flat}, None),
        "float64": ({name: array.astype(np.float64)}, right),
        "float64 beyond float32": ({name: array.astype(np.float64) * 1e300 + 1e300}, None),
        "float16": ({name: array.astype(np.float16)}, lambda result: True),
        "bfloat16": ({name: array.astype(ml_dtypes.bfloat16)}, lambda result: True),
        "int8": ({name: array.astype(np.int8)}, None),
        "bool": ({name: array > 0}, None),
        "int64": ({name: array.astype(np.int64)}, None),
        "another shape": ({name: array[..., :-1]}, None),
        "an axis more": ({name: array[None]}, None),
        "no values": ({name: array[:0]}, None),
        "a layer more": ({"encoder.block.2.layer.0.SelfAttention.q.weight": array}, None),
        "a tensor more": ({"other.weight": array}, right),
        "a quantisation scale more": ({f"{name}_scale": np.ones(1, np.float32)}, lambda result: True),
        "missing": ({}, None),
    }
    what = choose.choice(list(odd))
    changed = {key: value for key, value in stored.items() if what != "missing" or key != name} | odd[what][0]
    save_file({key: np.ascontiguousarray(value) for key, value in changed.items()}, file)
    return Case(f"{name}: {what}", lambda: load(path), odd[what][1])


def index(choose: random.Random, path: pathlib.Path) -> Case:
    """An index of shards."""
    from safetensors.numpy import load_file, save_file

    right, stored = clean(), load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    names = sorted(stored)
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    parts = [{n: stored[n] for n in names[::2]}, {n: stored[n] for n in names[1::2]}]
    for shard, part in zip(shards, parts, strict=True):
        save_file(part, path / shard)
    listed = {n: shards[0] for n in names[::2]} | {n: shards[1] for n in names[1::2]}
    some = choose.choice(names)
    odd: dict[str, tuple[Any, Any]] = {
        "whole": ({"weight_map": listed}, right),
        "another total size": ({"metadata": {"total_size": -5}, "weight_map": listed}, right),
        "a tensor not listed": ({"weight_map": {n: f for n, f in listed.items() if n != some}}, right),
        "the other shard": ({"weight_map": listed | {some: shards[1 - shards.index(listed[some])]}}, right),
        "a missing file": ({"weight_map": listed | {some: "model-3.safetensors"}}, None),
        "a file outside": ({"weight_map": listed | {some: "../model.safetensors"}}, None),
        "an absolute file": ({"weight_map": listed | {some: "/etc/passwd"}}, None),
        "a file of another kind": ({"weight_map": listed | {some: "config.json"}}, None),
        "NUL": ({"weight_map": listed | {some: "a\0.safetensors"}}, None),
        "a long name": ({"weight_map": listed | {some: "a" * 300 + ".safetensors"}}, None),
        "a number": ({"weight_map": listed | {some: 5}}, None),
        "empty": ({"weight_map": {}}, None),
        "a list": ({"weight_map": [1]}, None),
        "no map": ({}, None),
        "no object": ([1], None),
        "a tensor that is nowhere": ({"weight_map": listed | {"nowhere": shards[0]}}, right),
    }
    what = choose.choice([*odd, "deep", "no JSON"])
    text = {"deep": "[" * 100_000, "no JSON": "{"}.get(what) or json.dumps(odd[what][0])
    (path / "model.safetensors.index.json").write_text(text)
    return Case(f"index: {what}", lambda: load(path), odd[what][1] if what in odd else None)


class _Calls:
    """What a hostile pickle holds: a call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("executed",))


def pickles(choose: random.Random, path: pathlib.Path) -> Case:
    """pytorch_model.bin that is no archive of tensors."""
    import io
    import zipfile

    (path / "model.safetensors").unlink()
    contents = {
        "a call": pickle.dumps(_Calls()),
        "a dict of calls": pickle.dumps({"shared.weight": _Calls()}),
        "no pickle": b"hello",
        "a cut pickle": pickle.dumps({"a": [1, 2, 3]})[:-3],
        "numbers": pickle.dumps({"shared.weight": 5}),
        "nothing": b"",
        "memo": b"\x80\x02}q\x00(" + b"h\x00" * 1000 + b"u.",
        "deep": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    }
    what = choose.choice(list(contents))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", choose.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        archive.writestr("archive/data.pkl", contents[what])
    raw = made.getvalue()
    shape = choose.choice(["whole", "whole", "cut", "bare"])
    raw = {"whole": raw, "cut": raw[: choose.randrange(len(raw))], "bare": contents[what]}[shape]
    (path / "pytorch_model.bin").write_bytes(raw)
    return Case(f"pytorch_model.bin: {what}, {shape}", lambda: load(path))


def msgpack(choose: random.Random, path: pathlib.Path) -> Case:
    """flax_model.msgpack, or T5X's checkpoint, that is rubbish."""
    (path / "model.safetensors").unlink()
    rubbish = [b"", b"\0", b"\xc1", b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\x91" * 100_000,
    b"\x81\xa1a" * 2000,
               bytes(range(256)), b"\xc6\xff\xff\xff\xff", b"\x81\xa6params\x80", b"\x80",
               b"\xc7\x05\x01\x93\x90\xa3abc",
               b"\x81\xa9optimizer\x81\xa6target\x81\xa1a\xc7\x02\x01\x90\x90"]  # fmt: skip
    number = choose.randrange(len(rubbish))
    name = choose.choice(["flax_model.msgpack", "checkpoint"])
    (path / name).write_bytes(rubbish[number])
    return Case(f"{name}: rubbish {number}, {rubbish[number][:20]!r}", lambda: load(path))


def places(choose: random.Random, path: pathlib.Path) -> Case:
    """Files that are missing, links, pipes or directories; odd names of checkpoints."""
    weights, config = path / "model.safetensors", path / "config.json"
    odd: dict[str, Callable[[], Any]] = {
        "no weights": lambda: weights.unlink(),
        "no config": lambda: config.unlink(),
        "the weights a directory": lambda: (weights.unlink(), weights.mkdir()),
        "the config a directory": lambda: (config.unlink(), config.mkdir()),
        "the weights a pipe": lambda: (weights.unlink(), __import__("os").mkfifo(weights)),
        "the config a pipe": lambda: (config.unlink(), __import__("os").mkfifo(config)),
        "the weights a link to nothing": lambda: (weights.unlink(), weights.symlink_to("nothing")),
        "the directory a file": lambda: (shutil.rmtree(path), path.write_text("")),
        "an empty directory": lambda: (weights.unlink(), config.unlink()),
    }
    names = {
        "NUL": f"{path}\0",
        "a long name": str(path.parent / ("n" * 300)),
        "empty": "",
        "a surrogate": f"{path}\ud800",
    }
    if choose.random() < 0.3:
        what = choose.choice(list(names))
        return Case(f"backbone.name: {what}", lambda: load(pathlib.Path(names[what])))
    what = choose.choice(list(odd))
    odd[what]()
    return Case(what, lambda: load(path))
