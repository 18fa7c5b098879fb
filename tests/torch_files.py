"""Files of torch.save written by hand, honest and hostile, and read in bounded memory."""

from __future__ import annotations

import pathlib
import pickle
import tracemalloc
import zipfile
from typing import Any

import numpy as np
import pytest

from infoprompt_jax.t5.torch_pickle import TorchPickle, TorchPickleError

TENSOR, HOOKS = b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n)R"
NUMBERS = np.arange(12, dtype=np.float32)
MEMORY = 2**26  # bytes that opening a small file may take, whatever numbers it holds


def put(value: Any) -> bytes:
    """The instructions that put a number, a text or a tuple of such on the stack."""
    return pickle.dumps(value, 2)[2:-1]


def storage(elements: Any = 12, kind: str = "FloatStorage", key: Any = "0", first: Any = "storage") -> bytes:
    return b"(" + put(first) + f"ctorch\n{kind}\n".encode() + put(key) + put("cpu") + put(elements) + b"tQ"


def tensor(shape: Any = (3, 4), strides: Any = (4, 1), offset: Any = 0, stored: bytes | None = None) -> bytes:
    view = put(offset) + put(shape) + put(strides)
    return TENSOR + b"(" + (storage() if stored is None else stored) + view + put(False) + HOOKS + b"tR"


def state_dict(**tensors: bytes) -> bytes:
    return b"\x80\x02}(" + b"".join(put(name) + code for name, code in tensors.items()) + b"u."


def write(path: pathlib.Path, code: bytes, **entries: bytes) -> zipfile.ZipFile:
    """A file of torch.save's layout, whose directory is written when it is closed."""
    archive = zipfile.ZipFile(path, "w")
    contents = {"data.pkl": code, "byteorder": b"little", "data/0": NUMBERS.tobytes(), "version": b"3\n"} | entries
    for name, content in contents.items():
        archive.writestr(f"archive/{name}", content)
    return archive


def opened(path: pathlib.Path) -> TorchPickle:
    tracemalloc.start()
    try:
        return TorchPickle(path)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MEMORY


def refusal(path: pathlib.Path) -> str:
    with pytest.raises(TorchPickleError) as caught:
        opened(path)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 500
    return message
