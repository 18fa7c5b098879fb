"""Files in torch.save's layout that mean harm, or are damaged: refused in a sentence, with nothing run."""

from __future__ import annotations

import os
import pathlib
import pickle
import random
import re
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from torch_files import NUMBERS, TENSOR, opened, put, refusal, state_dict, storage, tensor, write

from infoprompt_jax.t5.torch_pickle import MAX_BYTES, TorchPickle, TorchPickleError


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_is_run(protocol: int, tmp_path: pathlib.Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    code = pickle.dumps(Hostile(), protocol)
    write(tmp_path / "a.bin", code).close()
    assert f"calls {os.system.__module__}.system, which no tensor needs; nothing was run" in refusal(tmp_path / "a.bin")
    assert not (tmp_path / "ran").exists()
    pickle.loads(code)
    assert (tmp_path / "ran").exists()


PAIRS = b"(t" + b"q\0h\0\x86" * 64  # ((x, x), (x, x)), ... 64 deep: small, and endless to hash, print or compare
DEEP = b")" + b"\x85" * 100_000
DAMAGED, ALIEN = "truncated or damaged", "something else than a dict"
HOSTILE = {
    "another function": (b"cbuiltins\neval\n" + put(("1",)) + b"R.", r"^calls builtins\.eval, which"),
    "a method of an allowed one": (b"ccollections\nOrderedDict.fromkeys\n.", r"^calls collections\.OrderedDict\.from"),
    "an odd name": (b"cos\x1b[2J\nsystem\n.", r"^calls os\\x1b\[2J\.system"),
    "an endless name": (b"c" + b"o" * 10**6 + b"\nsystem\n.", r"^calls o+\.\.\.o+\.system"),
    "an instance": (b"(ios\nsystem\n.", "instruction INST 'os system'"),
    "a call of a number": (put(1) + b")R.", "^calls a number with"),
    "a call of a storage": (b"ctorch\nFloatStorage\n)R.", "^calls something else with"),
    "a dict with arguments": (b"ccollections\nOrderedDict\n" + put((1,)) + b"R.", r"OrderedDict with arguments"),
    "a tensor of a number": (TENSOR + put((1, 0, (3,), (1,), False, 0)) + b"R.", "_rebuild_tensor_v2 with arguments"),
    "attributes of a tensor": (tensor() + b"}b.", "instruction BUILD"),
    "something outside": (put("/etc/passwd") + b"Q.", "outside of it"),
    "a module outside": (b"(" + put("module") + b"tQ.", "outside of it"),
    "a storage that is missing": (tensor(stored=storage(key="1")) + b".", "storage '1' is missing"),
    "a storage by its path": (tensor(stored=storage(key="../version")) + b".", r"'\.\./version' is missing"),
    "a short storage": (tensor(stored=storage(13)) + b".", "has 48 bytes, but 13 numbers of 4"),
    "a long storage": (tensor(stored=storage(11)) + b".", "has 48 bytes, but 11 numbers of 4"),
    "a storage of others": (tensor(stored=storage(12, "DoubleStorage")) + b".", "has 48 bytes, but 12 numbers of 8"),
    "a negative storage": (tensor(stored=storage(-12)) + b".", "has 48 bytes, but -12 numbers"),
    "a huge storage": (tensor(stored=storage(2**2000)) + b".", "has 48 bytes, but 1148130695274254"),
    "a number": (put(1) + b".", "^holds a number, but"),
    "numbers as names": (b"}" + put(1) + tensor() + b"s.", ALIEN),
    "pairs as names": (b"}" + PAIRS + put(1) + b"s.", ALIEN),
    "deep tuples as names": (b"}" + DEEP + put(1) + b"s.", ALIEN),
    "pairs as weights": (b"}" + put("a") + PAIRS + b"s.", "holds a tuple named 'a'"),
    "pairs": (PAIRS + b".", "holds a tuple"),
    "pairs as a function": (PAIRS + b")R.", "calls a tuple"),
    "pairs as arguments": (TENSOR + PAIRS + b"R.", "with arguments"),
    "pairs as a function's name": (PAIRS + put("a") + b"\x93.", "calls something without a name"),
    "pairs as a persistent id": (PAIRS + b"Q.", "outside of it"),
    "pairs as a key": (b"(" + put("storage") + b"ctorch\nFloatStorage\n" + PAIRS + PAIRS + PAIRS + b"tQ.", "outside"),
    "pairs as a shape": (TENSOR + b"(" + storage() + put(0) + PAIRS + PAIRS + b"NNtR.", "negative or far too large"),
    "deep tuples": (DEEP + b".", "holds a tuple"),
    "deep dicts": (b"}" + (put("a") + b"}") * 100_000 + b"s" * 100_000 + b".", "holds a dict named 'a'"),
    "a dict that holds itself": (b"}q\7" + put("a") + b"h\7s.", "holds a dict named 'a'"),
    "marks": (b"(" * 10**5 + b"t" * 10**5 + b".", "holds a tuple"),
    "a name for no value": (b"}(" + put("a") + b"u.", DAMAGED),
    "items of a tuple": (b")" + put("a") + put("b") + b"s.", ALIEN),
    "an empty stack": (b"\x86.", DAMAGED),
    "no mark": (b"t.", DAMAGED),
    "a memo that is empty": (b"j\xff\xff\xff\xff.", DAMAGED),
    "a huge text": (b"X\xff\xff\xff\xffa.", DAMAGED),
    "huge bytes": (b"\x8e" + b"\xff" * 7 + b"\x7fa.", DAMAGED),
    "a huge frame": (b"\x80\4\x95" + b"\xff" * 8 + b"}.", None),
    "a huge number": (put(2**80_000) + b".", "instruction LONG4"),
    "a huge number as text": (b"L" + b"9" * 10**6 + b"L\n.", DAMAGED),
    "not text": (b"X\2\0\0\0\xff\xff.", DAMAGED),
    "half a character": (b"}X\3\0\0\0\xed\xa0\x80N\x73.", r"named '\\ud800'"),
    "an unknown instruction": (b"\xff.", DAMAGED),
    "no end": (b"}", DAMAGED),
    "nothing": (b"", DAMAGED),
    "nothing left": (b".", DAMAGED),
    "too much left": (b"}}.", DAMAGED),
}


@pytest.mark.parametrize("code,message", HOSTILE.values(), ids=HOSTILE)
def test_hostile_pickles(code: bytes, message: str | None, tmp_path: pathlib.Path) -> None:
    write(tmp_path / "a.bin", code).close()
    if message is None:  # harmless
        assert not opened(tmp_path / "a.bin").names
    else:
        assert re.search(message, refusal(tmp_path / "a.bin")), refusal(tmp_path / "a.bin")


HUGE = 2**2000
VIEWS = {
    "one too many": ((13,), (1,), 0),
    "offset": ((3, 4), (4, 1), 1),
    "offset of a scalar": ((), (), 12),
    "offset of nothing": ((0,), (1,), 13),
    "stride": ((3, 4), (5, 1), 0),
    "expanded to more": ((12, 2), (1, 0), 0),
    "expanded to all memory": ((2**40,), (0,), 0),
    "negative offset": ((3,), (1,), -1),
    "negative size": ((-3, -4), (4, 1), 0),
    "negative stride": ((3,), (-1,), 2),
    "huge size": ((HUGE,), (0,), 0),
    "huge product": ((2**40,) * 8, (0,) * 8, 0),
    "huge nothing": ((0,) + (2**40,) * 7, (0,) * 8, 0),
    "huge stride": ((1,), (HUGE,), 0),
    "huge offset": ((0,), (1,), HUGE),
    "an overflow": ((2, 2), (2**63, 2**63), 0),
    "more sizes than strides": ((3, 4), (1,), 0),
    "many axes": ((1,) * 100_000, (1,) * 100_000, 0),
    "half a number": ((3.0,), (1,), 0),
    "no number": (("3",), (1,), 0),
    "a tuple": (((3,),), (1,), 0),
    "true": ((True,), (1,), 0),
}


@pytest.mark.parametrize("shape,strides,offset", VIEWS.values(), ids=VIEWS)
def test_views_outside_of_their_storage(shape: Any, strides: Any, offset: Any, tmp_path: pathlib.Path) -> None:
    write(tmp_path / "a.bin", state_dict(weight=tensor(shape, strides, offset))).close()
    expected = (
        r"is damaged: a tensor .*(exceeds|too large)|expands \d+ numbers to a tensor|"
        r"has a tensor of \d+ axes and \d+ strides"
    )
    assert re.match(expected, refusal(tmp_path / "a.bin"))


def edited(entry: str, **fields: Any) -> Callable[[zipfile.ZipFile], None]:
    """Changes what the directory says of an entry."""

    def edit(archive: zipfile.ZipFile) -> None:
        for field, value in fields.items():
            setattr(archive.getinfo(f"archive/{entry}"), field, value)

    return edit


def added(name: str, content: bytes = b"", compressed: int = zipfile.ZIP_STORED) -> Callable[[zipfile.ZipFile], None]:
    return lambda archive: archive.writestr(name, content, compressed)


def moved(archive: zipfile.ZipFile) -> None:
    archive.getinfo("archive/version").header_offset += 1


def crowded(archive: zipfile.ZipFile) -> None:
    for number in range(40):
        archive.writestr(f"{number:060000}", b"")


ARCHIVES: dict[str, tuple[Callable[[zipfile.ZipFile], Any], str]] = {
    "compressed": (added("archive/data/1", b"0" * 100, zipfile.ZIP_DEFLATED), "compresses 'archive/data/1'"),
    "a zip bomb": (added("archive/data/1", bytes(2**26), zipfile.ZIP_DEFLATED), "compresses 'archive/data/1'"),
    "a bomb of another kind": (added("archive/data/1", bytes(2**26), zipfile.ZIP_LZMA), "compresses"),
    "a size that is no size": (edited("data/0", file_size=2**40), "compresses 'archive/data/0'"),
    "more than the file": (edited("version", file_size=2**40, compress_size=2**40), "runs into the directory"),
    "said to be compressed": (edited("data/0", compress_type=zipfile.ZIP_DEFLATED), "compresses 'archive/data/0'"),
    "encrypted": (edited("data/0", flag_bits=1), "encrypts 'archive/data/0'"),
    "the same name": (added("archive/data/0", NUMBERS.tobytes()), "overlaps or repeats"),
    "the same bytes": (edited("version", header_offset=0), "overlaps or repeats"),
    "bytes of the next": (edited("data/0", file_size=120, compress_size=120), "'archive/version' overlaps or repeats"),
    "a header elsewhere": (moved, "'archive/version' is not where"),
    "a header behind the file": (edited("version", header_offset=2**31), "damaged"),
    "another name": (edited("version", filename="archive/versiom"), "'archive/versiom' is not where"),
    "another checksum": (edited("data.pkl", CRC=1), "another checksum"),
    "a second pickle": (added("other/data.pkl"), "2 entries named data.pkl"),
    "a crowd": (crowded, "zip directory of 2[0-9]+ bytes"),
    "TorchScript": (added("archive/code/__torch__.py"), "TorchScript"),
    "a version too new": (edited("version", extract_version=99), "damaged"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("edit,message", ARCHIVES.values(), ids=ARCHIVES)
def test_hostile_archives(edit: Callable, message: str, tmp_path: pathlib.Path) -> None:
    with write(tmp_path / "a.bin", state_dict(weight=tensor())) as archive:
        edit(archive)
    assert re.search(message, refusal(tmp_path / "a.bin")), refusal(tmp_path / "a.bin")


def test_pickles_that_are_too_large_are_not_read(tmp_path: pathlib.Path) -> None:
    for size, compression in ((MAX_BYTES + 1, zipfile.ZIP_STORED), (2**26, zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(tmp_path / "a.bin", "w", compression) as archive:
            archive.writestr("a/data.pkl", b"}" + b"0}" * (size // 2))
        assert re.match(f"describes its tensors in {size} bytes|compresses", refusal(tmp_path / "a.bin"))


def test_other_files(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.bin"
    assert "No such file" in refusal(path)
    for content in (b"", b"a text", b"PK\5\6" + bytes(18)):
        path.write_bytes(content)
        assert re.search("damaged|0 entries named data.pkl", refusal(path))
    write(path, state_dict(weight=tensor()), byteorder=b"big").close()
    assert "big-endian" in refusal(path)
    write(path, state_dict(weight=tensor())).close()
    path.write_bytes(path.read_bytes().replace(b"PK\3\4", b"PK\3\5", 2))
    assert "'archive/data.pkl' is not where the directory says" in refusal(path)


def test_cut_files(tmp_path: pathlib.Path) -> None:
    write(tmp_path / "a.bin", state_dict(weight=tensor())).close()
    content = (tmp_path / "a.bin").read_bytes()
    for length in range(0, len(content), 3):
        (tmp_path / "cut.bin").write_bytes(content[:length])
        with pytest.raises(TorchPickleError, match="truncated or damaged"):
            TorchPickle(tmp_path / "cut.bin")


@pytest.mark.parametrize("part", ["file", "pickle"])
def test_damage_never_ends_in_another_error(part: str, tmp_path: pathlib.Path) -> None:
    """A flipped byte of a pickle is found by its checksum, so that some pickles get another one."""
    code, draw, read = state_dict(first=tensor(), tied=tensor((4, 3), (1, 4))), random.Random(0), 0
    write(tmp_path / "a.bin", code).close()
    content = code if part == "pickle" else (tmp_path / "a.bin").read_bytes()
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(draw.choice([1, 1, 1, 4])):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        if part == "pickle":
            write(tmp_path / "a.bin", bytes(damaged)).close()
        else:
            (tmp_path / "a.bin").write_bytes(damaged)
        try:
            file = TorchPickle(tmp_path / "a.bin")
        except TorchPickleError:
            continue
        read += 1
        for name in file.names:
            array = file.read(name)
            assert array.size <= 12 and len(array.tobytes()) == array.size * file.dtype(name).itemsize
    assert 0 < read < 400
