"""Reads files of `torch.save` (pytorch_model.bin, adapter_model.bin) without torch and without trusting them.

A file is an uncompressed zip archive. `<prefix>/data.pkl` is a pickle of a dict of tensors; a tensor is a view of a
storage. `<prefix>/data/<key>` is one storage.

A pickle is a program, and Python's unpickler runs whatever it calls. `_unpickle` accepts only the instructions that
torch.save writes for a dict of tensors, and builds only dicts, tuples, text, numbers and `View`s. It imports and calls
nothing that a file names, and no number in a file determines how much memory is allocated. Dict keys must be text: a
few nested tuples can take forever to hash.

The archive, the pickle and the bounds of every view are checked when the file is opened. Only data.pkl's checksum is
verified: the storages are mapped into memory (`mapped`) and would have to be read completely.
"""

from __future__ import annotations

import dataclasses
import enum
import io
import math
import mmap
import os
import pathlib
import pickletools
import reprlib
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np

from infoprompt_jax import foreign
from infoprompt_jax.t5.mapped import Index, MappedFile

MAX_BYTES = 2**21  # of the pickle and of the zip directory: fifteen times those of the largest T5
MAX_AXES = 8
MAX_NUMBER = 2**48  # times the size of an element, this fits into NumPy's 64-bit integers
LEGACY = bytes.fromhex("80028a0a6cfc9c46f9206aa85019")  # the first bytes of files saved before torch 1.6
LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of the name and of the extra field
ENCRYPTED, UTF8 = 0x1, 0x800  # flags of a zip entry
DTYPES = {
    "torch.FloatStorage": "<f4",
    "torch.DoubleStorage": "<f8",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": ml_dtypes.bfloat16,
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "?",
}
QUOTE = reprlib.Repr()
QUOTE.maxstring = 200


class TorchPickleError(ValueError):
    """Why a file is refused: a clause that continues "the file ..."."""


class TorchPickle:
    """The tensors of one file, by name; a tensor is read when it is requested. The file must not change meanwhile.

    Raises:
      TorchPickleError: the file is not a plain dict of tensors; no other exception is raised.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        damaged = "is truncated or damaged, or was not written by torch.save"
        with foreign.calling(damaged, kind=TorchPickleError), _bounded(path) as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                self._views = _views(file, content)
            self._file = MappedFile(file)
        self.names = frozenset(self._views)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without its values; KeyError where there is none of that name."""
        return self._views[name].shape

    def dtype(self, name: str) -> np.dtype:
        """A tensor's NumPy type; KeyError where there is none of that name."""
        return self._views[name].storage.dtype

    def read(self, name: str, index: Index = ()) -> np.ndarray:
        """The elements of the tensor at `index`, read-only, with the strides that they were saved with."""
        view, dtype = self._views[name], self.dtype(name)
        start = view.storage.start + view.offset * dtype.itemsize
        strides = tuple(stride * dtype.itemsize for stride in view.strides)
        return self._file.array(start, view.shape, dtype, index, strides)


@dataclasses.dataclass(frozen=True)
class Entry:
    """The place of one zip entry's content, in bytes of the file."""

    start: int
    size: int
    checksum: int


@dataclasses.dataclass(frozen=True)
class Storage:
    """Consecutive numbers that begin at byte `start` of the file."""

    start: int
    dtype: np.dtype
    elements: int


@dataclasses.dataclass(frozen=True)
class View:
    """A tensor as a view of a storage; offset and strides are in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Call(enum.Enum):
    """The functions that a pickle of tensors calls; `_result` computes what they would return."""

    ORDERED_DICT = "collections.OrderedDict"
    TENSOR = "torch._utils._rebuild_tensor_v2"
    PARAMETER = "torch._utils._rebuild_parameter"


CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
GLOBALS = {call.value: call for call in Call} | {name: np.dtype(code) for name, code in DTYPES.items()}
Find = Callable[[Any], Storage]  # by persistent id


class _BoundedFile(io.FileIO):
    """A file with bounded reads: an archive's own fields determine how much zipfile reads at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_BYTES:
            raise TorchPickleError(f"has a zip directory of {size} bytes, but at most {MAX_BYTES} were expected")
        return super().read(size)


def _bounded(path: str | os.PathLike[str]) -> _BoundedFile:
    return _BoundedFile(foreign.regular(pathlib.Path(path)))


def _views(file: io.FileIO, content: mmap.mmap) -> dict[str, View]:
    """The tensors by name."""
    if content[: len(LEGACY)] == LEGACY:
        raise TorchPickleError(
            "was saved by torch before 1.6 or in its format: load it where you trust it, with a newer torch, and save "
            "it again with torch.save(torch.load(path, weights_only=True), path)"
        )
    entries = _entries(file, content)
    pickles = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise TorchPickleError(f"holds {len(pickles)} entries named data.pkl, but torch.save writes one")
    prefix = pickles[0].removesuffix("data.pkl")
    if f"{prefix}byteorder" in entries and _read(content, entries[f"{prefix}byteorder"]) != b"little":
        raise TorchPickleError("was saved on a big-endian machine, but little-endian numbers were expected")

    def find(identifier: Any) -> Storage:
        match identifier:
            case ("storage", np.dtype() as dtype, str() as key, str(), int() as elements):
                entry = entries.get(f"{prefix}data/{key}")
                if entry is None or entry.size != elements * dtype.itemsize:
                    actual = "is missing" if entry is None else f"has {entry.size} bytes"
                    expected = f"{QUOTE.repr(elements)} numbers of {dtype.itemsize} bytes were expected"
                    raise TorchPickleError(f"is damaged: storage {QUOTE.repr(key)} {actual}, but {expected}")
                return Storage(entry.start, dtype, elements)
        raise TorchPickleError("refers to something outside of it that is not a storage")

    tensors = _unpickle(_read(content, entries[pickles[0]]), find)
    if type(tensors) is not dict:
        raise TorchPickleError(f"holds {_kind(tensors)}, but a dict of tensors was expected")
    for name, value in tensors.items():
        if not isinstance(value, View):
            other = f"{_kind(value)} named {QUOTE.repr(name)}"
            raise TorchPickleError(f"holds {other}, but a dict of tensors was expected: save only the state dict")
    return tensors


def _entries(file: io.FileIO, content: mmap.mmap) -> dict[str, Entry]:
    """The entries of the archive in the order of their bytes, which do not overlap."""
    entries, end = {}, 0
    archive = zipfile.ZipFile(file)
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in archive.namelist()):
        raise TorchPickleError("is a TorchScript archive, but a dict of tensors was expected: save its state_dict()")
    for info in sorted(archive.filelist, key=lambda info: info.header_offset):
        name = QUOTE.repr(info.filename)
        if info.header_offset < end or info.filename in entries:
            raise TorchPickleError(f"is damaged: its zip entry {name} overlaps or repeats another")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise TorchPickleError(f"compresses {name}, which torch.save never does: save it again with torch.save")
        if info.flag_bits & ENCRYPTED:
            raise TorchPickleError(f"encrypts {name}, which torch.save never does: save it again with torch.save")
        signature, name_length, extra_length = LOCAL_HEADER.unpack_from(content, info.header_offset)
        name_end = info.header_offset + LOCAL_HEADER.size + name_length
        raw_name = content[name_end - name_length : name_end]
        encoding = "utf-8" if info.flag_bits & UTF8 else "cp437"
        if signature != b"PK\3\4" or raw_name.decode(encoding) != info.orig_filename:
            raise TorchPickleError(f"is damaged: its zip entry {name} is not where the directory says")
        entries[info.filename] = Entry(name_end + extra_length, info.file_size, info.CRC)
        end = name_end + extra_length + info.file_size
    if end > archive.start_dir:
        raise TorchPickleError("is damaged: its last zip entry runs into the directory")
    return entries


def _read(content: mmap.mmap, entry: Entry) -> bytes:
    """A small entry."""
    if entry.size > MAX_BYTES:
        raise TorchPickleError(f"describes its tensors in {entry.size} bytes, but at most {MAX_BYTES} were expected")
    data = content[entry.start : entry.start + entry.size]
    if entry.checksum and zlib.crc32(data) != entry.checksum:  # torch can be set to write none, which is 0
        raise TorchPickleError("is damaged: the description of its tensors has another checksum")
    return data


def _unpickle(data: bytes, find: Find) -> Any:
    """The object that the pickle describes; `find` gives the storages."""
    stack: list[Any] = []
    marked: list[list[Any]] = []  # the stacks below each mark
    memo: dict[int, Any] = {}
    instructions: Iterator[tuple[Any, Any, Any]] = pickletools.genops(data)
    for opcode, argument, _ in instructions:
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append(CONSTANTS[opcode.name])
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "MARK":
                marked.append(stack)
                stack = []
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = [stack.pop() for _ in range(int(opcode.name[-1]))]
                stack.append(tuple(reversed(items)))
            case "TUPLE":
                items, stack = tuple(stack), marked.pop()
                stack.append(items)
            case "EMPTY_DICT":
                stack.append({})
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _update(stack[-1], [key, value])
            case "SETITEMS":
                items, stack = stack, marked.pop()
                _update(stack[-1], items)
            case "BUILD" if len(stack) > 1 and type(stack[-2]) is dict:
                stack.pop()  # attributes: a state dict has the versions of its modules
            case "GLOBAL":
                stack.append(_global(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_global(module, name))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(_result(function, arguments))
            case "BINPERSID":
                stack.append(find(stack.pop()))
            case "STOP":
                break
            case other:
                what = f"{other} {QUOTE.repr(argument)}" if isinstance(argument, str) else other
                raise TorchPickleError(f"holds more than tensors, the pickle instruction {what}; nothing was run")
    (result,) = stack
    return result


def _global(module: Any, name: Any) -> Call | np.dtype:
    if not (isinstance(module, str) and isinstance(name, str)):  # anything else is unsafe to print
        raise TorchPickleError("calls something without a name, which no tensor needs; nothing was run")
    if (full_name := f"{module}.{name}") not in GLOBALS:
        raise TorchPickleError(f"calls {QUOTE.repr(full_name)[1:-1]}, which no tensor needs; nothing was run")
    return GLOBALS[full_name]


def _result(function: Any, arguments: Any) -> Any:
    match function, arguments:
        case Call.ORDERED_DICT, ():
            return {}
        case Call.TENSOR, (Storage() as storage, int() as offset, tuple() as shape, tuple() as strides, _, _):
            return _view(storage, offset, shape, strides)
        case Call.PARAMETER, (View() as view, _, _):
            return view
    name = function.value if isinstance(function, Call) else _kind(function)
    raise TorchPickleError(f"calls {name} with arguments that no tensor needs; nothing was run")


def _view(storage: Storage, offset: int, shape: tuple[Any, ...], strides: tuple[Any, ...]) -> View:
    if not len(shape) == len(strides) <= MAX_AXES:
        tensor = f"has a tensor of {len(shape)} axes and {len(strides)} strides"
        raise TorchPickleError(f"{tensor}, but as many of both and at most {MAX_AXES} were expected")
    if not all(type(number) is int and 0 <= number < MAX_NUMBER for number in (offset, *shape, *strides)):
        raise TorchPickleError("is damaged: a tensor has a negative or far too large offset, size or stride")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    described = f"a tensor of shape {list(shape)} and strides {list(strides)} at {offset}"
    if 0 in shape:
        fits = offset <= storage.elements and math.prod(filter(None, shape)) < MAX_NUMBER
    else:
        fits = last < storage.elements
    if fits and 0 not in shape and math.prod(shape) > storage.elements:  # strides of 0 expand to any size
        raise TorchPickleError(f"expands {storage.elements} numbers to {described}: save a contiguous copy of it")
    if not fits:
        raise TorchPickleError(f"is damaged: {described} exceeds its storage of {storage.elements} numbers")
    return View(storage, offset, shape, strides)


def _update(content: Any, items: list[Any]) -> None:
    """Adds `items`, in which keys and values alternate, to a dict."""
    if type(content) is not dict or not all(isinstance(key, str) for key in items[::2]):
        raise TorchPickleError("holds something else than a dict of tensors by name; nothing was run")
    content.update(zip(items[::2], items[1::2], strict=True))


def _kind(value: Any) -> str:
    kinds = {View: "a tensor", Call: "a function", dict: "a dict", tuple: "a tuple", str: "text"}
    return kinds.get(type(value), "a number" if isinstance(value, (int, float)) else "something else")
