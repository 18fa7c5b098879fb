"""Saved prompts in all four formats: values, shapes, types, headers, metadata, missing and damaged files.

What is accepted must have the value that was saved.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import pathlib
import pickle
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.fuzz import tensors
from experiments.fuzz.cases import Case
from infoprompt_jax.prompts.saved import Prompt, listed, load_prompt, save_prompt

P, D = 4, 8


def case(choose: random.Random, folder: pathlib.Path) -> Case:
    """One saved prompt."""
    return choose.choice([arrays, own, own, peft, peft, bytes_of, places, pickles])(choose, folder)


def _value(choose: random.Random) -> np.ndarray:
    return np.random.default_rng(choose.randrange(2**32)).normal(size=(P, D)).astype(np.float32)


def digest(value: np.ndarray) -> list[Any]:
    """The shape and a hash of the values, as float32."""
    return [list(value.shape), hashlib.sha256(np.ascontiguousarray(value, "<f4").tobytes()).hexdigest()]


def _load(path: pathlib.Path) -> Callable[[], list[Any]]:
    def run() -> list[Any]:
        listed(path)
        return digest(load_prompt(path).value_PD)

    return run


def arrays(choose: random.Random, folder: pathlib.Path) -> Case:
    """NumPy files."""
    value = _value(choose)
    odd: dict[str, tuple[Any, bool]] = {
        "float64": (value.astype(np.float64), True),
        "Fortran order": (np.asfortranarray(value), True),
        "big-endian": (value.astype(">f4"), True),
        "float16": (value.astype(np.float16), False),
        "NaN": (np.where(np.arange(D) == 3, np.nan, value), False),
        "infinity": (np.where(np.arange(D) == 3, np.inf, value), False),
        "float64 beyond float32": (value.astype(np.float64) * 1e300, False),
        "integers": (value.astype(np.int64), False),
        "bool": (value > 0, False),
        "complex": (value.astype(np.complex64), False),
        "texts": (np.array([["a", "b"]]), False),
        "objects": (np.array([[None, 1]], dtype=object), False),
        "one axis": (value[0], False),
        "three axes": (value[None], False),
        "no axes": (np.float32(3), False),
        "empty": (value[:0], False),
        "no width": (value[:, :0], False),
        "records": (np.zeros((4, 8), [("a", "<f4")]), False),
        "dates": (np.zeros((4, 8), "datetime64[D]"), False),
    }
    what = choose.choice(list(odd))
    array, is_equal = odd[what]
    np.save(folder / "prompt.npy", array, allow_pickle=True)
    right = digest(value) if is_equal else digest(array.astype(np.float32)) if what == "float16" else None
    return Case(f"NumPy: {what}", _load(folder / "prompt.npy"), right)


def own(choose: random.Random, folder: pathlib.Path) -> Case:
    """This project's directory."""
    path, value = folder / "prompt", _value(choose)
    save_prompt(path, Prompt(value, {"backbone": "b", "fingerprint": "f", "init": "text"}))
    metadata, weights = path / "prompt.json", path / "prompt.safetensors"
    what, right = choose.choice(["metadata", "tensors", "header"]), None
    if what == "metadata":
        what, right = _damage_json(choose, metadata)
        return Case(f"prompt.json: {what}", _load(path), digest(value) if right else None)
    if what == "header":
        what = tensors.damage_header(choose, weights)
        return Case(f"prompt.safetensors: {what}", _load(path))
    named: dict[str, tuple[dict[str, np.ndarray], bool]] = {
        "another name": ({"value": value}, False),
        "a tensor more": ({"prompt/value": value, "other": value}, True),
        "NaN beside": ({"prompt/value": value, "generator/down": np.full((2, 2), np.nan, np.float32)}, False),
        "half a generator": ({"prompt/value": value, "generator/down": value}, True),
        "three axes": ({"prompt/value": value[None]}, False),
        "integers": ({"prompt/value": value.astype(np.int32)}, False),
        "NaN": ({"prompt/value": value * np.float32(math.nan)}, False),
        "nothing": ({}, False),
        "empty": ({"prompt/value": value[:0]}, False),
        "float64": ({"prompt/value": value.astype(np.float64)}, True),
    }
    what = choose.choice(list(named))
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(array) for name, array in named[what][0].items()}, weights)
    return Case(f"prompt.safetensors: {what}", _load(path), digest(value) if named[what][1] else None)


def _damage_json(choose: random.Random, path: pathlib.Path) -> tuple[str, bool]:
    """Damages a JSON file; what was done, and whether it is harmless."""
    text = path.read_text()
    odd = {
        "cut": (text[: choose.randrange(len(text) - 1)], False),
        "empty": ("", False),
        "a list": ("[]", False),
        "null": ("null", False),
        "deep": ("[" * 100_000, False),
        "an integer of 5,000 digits": ('{"step": ' + "9" * 5000 + "}", False),
        "NUL": (text + "\0", False),
        "a key twice": (text.replace("{", '{"backbone": "other",', 1), False),
        "a mark": ("\ufeff" + text, True),
        "spaces": (f"{text}\n \n", True),
    }
    what = choose.choice(list(odd))
    path.write_text(odd[what][0], encoding="utf-8")
    return what, odd[what][1]


def peft(choose: random.Random, folder: pathlib.Path) -> Case:
    """PEFT's directory."""
    path, value = folder / "adapter", _value(choose)
    save_prompt(path, Prompt(value, {"backbone": "b"}), format="peft")
    config = path / "adapter_config.json"
    how = choose.choice(["json", "fields", "fields", "header"])
    if how == "json":
        what, right = _damage_json(choose, config)
        if what == "a key twice":
            return Case("adapter_config.json: a key more", _load(path), digest(value))
        return Case(f"adapter_config.json: {what}", _load(path), digest(value) if right else None)
    if how == "header":
        what = tensors.damage_header(choose, path / "adapter_model.safetensors")
        return Case(f"adapter_model.safetensors: {what}", _load(path))
    odd: dict[str, tuple[dict[str, Any], Any]] = {
        "another type": ({"peft_type": "LORA"}, None),
        "a type that is a list": ({"peft_type": ["PROMPT_TUNING"]}, None),
        "a type that is null": ({"peft_type": None}, None),
        "no length": ({"num_virtual_tokens": None}, None),
        "a length that is true": ({"num_virtual_tokens": True}, None),
        "a length of 0": ({"num_virtual_tokens": 0}, None),
        "a length of -4": ({"num_virtual_tokens": -P}, None),
        "a length that is 4.0": ({"num_virtual_tokens": 4.0}, digest(value)),
        "a length that is a text": ({"num_virtual_tokens": "4"}, digest(value)),
        "half the length": ({"num_virtual_tokens": P // 2}, digest(value[: P // 2])),  # PEFT's two sub-modules
        "another width": ({"token_dim": D + 1}, None),
        "two sub-modules": ({"num_transformer_submodules": 2, "num_virtual_tokens": P // 2}, digest(value[: P // 2])),
        "a backbone that is a number": ({"base_model_name_or_path": 5}, digest(value)),
        "multitask without tasks": ({"peft_type": "MULTITASK_PROMPT_TUNING"}, None),
    }
    what = choose.choice(list(odd))
    config.write_text(json.dumps(json.loads(config.read_text()) | odd[what][0]))
    return Case(f"adapter_config.json: {what}", _load(path), odd[what][1])


def bytes_of(choose: random.Random, folder: pathlib.Path) -> Case:
    """A file of any format is cut, or one of its bytes is changed. Foreign formats have no checksum of the values."""
    value, form = _value(choose), choose.choice(["infoprompt", "peft", "npy"])
    path = folder / "saved"
    save_prompt(path, Prompt(value, {"backbone": "b", "step": 5}), format=form)
    files = [path] if path.is_file() else sorted(path.iterdir())
    file = choose.choice(files)
    content = file.read_bytes()
    if choose.random() < 0.5:
        length = choose.randrange(len(content))
        file.write_bytes(content[:length])
        return Case(f"{form}: {file.name} cut", _load(path), None if content[length:].strip() else digest(value))
    place = choose.randrange(len(content))
    flipped = bytearray(content)
    flipped[place] ^= 1 << choose.randrange(8)
    file.write_bytes(bytes(flipped))
    right: Any = digest(value) if form == "infoprompt" else lambda result: True
    return Case(f"{form}: a bit of {file.name} flipped at {place}", _load(path), right)


def places(choose: random.Random, folder: pathlib.Path) -> Case:
    """Paths that are not a prompt."""
    path, value = folder / "prompt", _value(choose)
    save_prompt(path, Prompt(value))
    odd: dict[str, Callable[[], tuple[Any, Any]]] = {
        "a missing path": lambda: (folder / "nothing", None),
        "an empty directory": lambda: ((folder / "empty").mkdir() or folder / "empty", None),
        "an empty file": lambda: (_file(folder / "empty", b""), None),
        "a text": lambda: (_file(folder / "text", b"hello"), None),
        "NUL in the name": lambda: (f"{path}\0", None),
        "a long name": lambda: (folder / ("n" * 300), None),
        "an empty name": lambda: ("", None),
        "a surrogate": lambda: (f"{path}\ud800", None),
        "a link to it": lambda: ((folder / "link").symlink_to(path) or folder / "link", digest(value)),
        "a link to itself": lambda: ((folder / "link").symlink_to(folder / "link") or folder / "link", None),
        "the weights missing": lambda: ((path / "prompt.safetensors").unlink() or path, None),
        "the metadata missing": lambda: ((path / "prompt.json").unlink() or path, None),
        "the weights a directory": lambda: (_directory(path / "prompt.safetensors") or path, None),
        "the metadata a directory": lambda: (_directory(path / "prompt.json") or path, None),
        "a pipe": lambda: (_pipe(folder / "pipe"), None),
        "the weights a pipe": lambda: (_pipe(path / "prompt.safetensors") and path, None),
        "a bad zarr": lambda: (_zarr(folder / "zarr", choose), None),
        "msgpack rubbish": lambda: (_checkpoint(folder / "t5x", choose), None),
    }
    what = choose.choice(list(odd))
    given, right = odd[what]()
    return Case(what, lambda: digest(load_prompt(given).value_PD), right)


def _file(path: pathlib.Path, content: bytes) -> pathlib.Path:
    path.write_bytes(content)
    return path


def _directory(path: pathlib.Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: pathlib.Path) -> pathlib.Path:
    import os

    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return path


def _zarr(path: pathlib.Path, choose: random.Random) -> pathlib.Path:
    """A zarr directory whose metadata is odd, or whose chunks are missing."""
    path.mkdir()
    metadata = {"zarr_format": 2, "shape": [P, D], "chunks": [P, D], "dtype": "<f4", "order": "C", "filters": None,
                "compressor": None, "fill_value": None}  # fmt: skip
    odd = choose.choice([{}, {"shape": [10**6, 10**6]}, {"chunks": [0, 0]}, {"dtype": "|O"}, {"shape": [-1, 8]},
                         {"dtype": "<U5"},
                         {"compressor": {"id": "nothing"}}, {"shape": "x"}, {"zarr_format": 3}])  # fmt: skip
    (path / ".zarray").write_text(json.dumps(metadata | odd))
    if odd:
        (path / "0.0").write_bytes(np.ones((P, D), "<f4").tobytes())
    return path


def _checkpoint(path: pathlib.Path, choose: random.Random) -> pathlib.Path:
    path.mkdir()
    rubbish = [
        b"",
        b"\x00",
        b"\xc1",
        b"\xdf\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\x81\xa1a" * 2000,
        bytes(range(256)),
    ]
    (path / "checkpoint").write_bytes(choose.choice(rubbish))
    return path


class _Calls:
    """What a hostile pickle holds: a call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("executed",))


def pickles(choose: random.Random, folder: pathlib.Path) -> Case:
    """adapter_model.bin that is a pickle of something else, an archive of rubbish, or cut."""
    import zipfile

    path = folder / "adapter"
    save_prompt(path, Prompt(_value(choose)), format="peft")
    (path / "adapter_model.safetensors").unlink()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        what = choose.choice(["a call", "no pickle", "a cut pickle", "a list", "deep", "nothing"])
        content = {
            "a call": pickle.dumps(_Calls()),
            "no pickle": b"hello",
            "a cut pickle": pickle.dumps({"a": [1, 2, 3]})[:-3],
            "a list": pickle.dumps([1, 2]),
            "deep": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
            "nothing": b"",
        }[what]
        archive.writestr("archive/data.pkl", content)
        if choose.random() < 0.5:
            archive.writestr("archive/data/0", b"\0" * 16)
    raw = made.getvalue()
    shape = choose.choice(["whole", "whole", "cut", "bare", "legacy", "length"])
    raw = {
        "whole": raw,
        "cut": raw[: choose.randrange(len(raw))],
        "bare": content,
        "legacy": pickle.dumps(0x1950A86A20F9469CFC6C) + content,
        "length": struct.pack("<Q", 2**60) + raw,
    }[shape]
    (path / "adapter_model.bin").write_bytes(raw)
    return Case(f"adapter_model.bin: {what}, {shape}", _load(path))
