"""Damage to a safetensors file: its header, its length, its bytes."""

from __future__ import annotations

import json
import pathlib
import random
import struct
from typing import Any

Header = dict[str, Any]


def parts(path: pathlib.Path) -> tuple[Header, bytes]:
    """The header and the data."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write(path: pathlib.Path, header: Header | str, data: bytes, length: int | None = None) -> None:
    """Writes the parts; `length` replaces that of the header."""
    text = (header if isinstance(header, str) else json.dumps(header)).encode("utf-8", "surrogatepass")
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def damage_header(choose: random.Random, path: pathlib.Path) -> str:
    """Damages the file so that it must be refused; returns what was done."""
    header, data = parts(path)
    name = choose.choice([key for key in header if key != "__metadata__"])
    entry = header[name]
    first, last = entry["data_offsets"]
    huge = {**header, name: entry | {"shape": [10**6, 25_000], "data_offsets": [0, 10**11]}}  # 95 GiB
    changes: dict[str, Any] = {
        "claims 95 GiB": lambda: write(path, huge, data),
        "claims 95 GiB in its shape": lambda: write(path, {**header, name: entry | {"shape": [10**6, 25_000]}}, data),
        "a header of 2 ** 60 bytes": lambda: write(path, header, data, 2**60),
        "a header of 95 GiB": lambda: write(path, header, data, 95 * 2**30),
        "a header of 0 bytes": lambda: write(path, header, data, 0),
        "a header that is too short": lambda: write(path, header, data, 5),
        "a header that is a list": lambda: write(path, "[]", data),
        "a header that is deep": lambda: write(path, "[" * 100_000, data),
        "a header of numbers": lambda: write(path, '{"a": 5}', data),
        "an unknown type": lambda: write(path, {**header, name: entry | {"dtype": "X99"}}, data),
        "another type": lambda: write(path, {**header, name: entry | {"dtype": "I64"}}, data),
        "offsets that overlap": lambda: write(path, {**header, "copy": entry}, data),
        "offsets backwards": lambda: write(path, {**header, name: entry | {"data_offsets": [last, first]}}, data),
        "offsets beyond the end": lambda: write(
            path, {**header, name: entry | {"data_offsets": [first, last + 64]}}, data
        ),
        "offsets that are texts": lambda: write(path, {**header, name: entry | {"data_offsets": ["0", "1"]}}, data),
        "a negative shape": lambda: write(path, {**header, name: entry | {"shape": [-1, *entry["shape"][1:]]}}, data),
        "a shape that is a number": lambda: write(path, {**header, name: entry | {"shape": 5}}, data),
        "no shape": lambda: write(path, {**header, name: {k: v for k, v in entry.items() if k != "shape"}}, data),
        "no tensors": lambda: write(path, {}, b""),
        "no data": lambda: write(path, header, b""),
        "data that is cut": lambda: write(path, header, data[: choose.randrange(len(data))]),
        "data that is longer": lambda: write(path, header, data + b"\0" * 100),
        "an empty file": lambda: path.write_bytes(b""),
        "8 bytes": lambda: path.write_bytes(b"\0" * 8),
        "a pointer of Git LFS": lambda: path.write_bytes(
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
        ),
        "a page of HTML": lambda: path.write_bytes(b"<!DOCTYPE html><html>Not found</html>"),
    }
    what = choose.choice(list(changes))
    changes[what]()
    return what
