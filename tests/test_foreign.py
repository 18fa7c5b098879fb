"""The boundary for files of other people: every reader, with every damage, ends in one sentence that names the file."""

from __future__ import annotations

import ast
import json
import lzma
import os
import pathlib
import random
import shutil
import struct
from collections.abc import Callable
from typing import Any

import ml_collections
import numpy as np
import pytest
import tiny_t5
import tiny_t5x
import torch_files

from infoprompt_jax import foreign, settings
from infoprompt_jax.data import local_files, row_files
from infoprompt_jax.errors import Stopped, UserError
from infoprompt_jax.pretraining.corpus import Corpus
from infoprompt_jax.prompts.saved import Prompt, load_prompt, save_prompt
from infoprompt_jax.serving import predict
from infoprompt_jax.t5 import convert, hub
from infoprompt_jax.t5.tokenizer import load_tokenizer
from infoprompt_jax.training.prompt_config import prompt_path

PACKAGE = pathlib.Path(foreign.__file__).parent
ROWS = [{"text": f"{number} words", "label": number % 2} for number in range(20)]
BIGBENCH = {"examples": [{"input": "?", "target_scores": {"a": 1, "b": 0}}]}
USER_CODE = {
    "command_line.py",
    "training/trackers.py",
    "capacity/chips.py",
    "bucket.py",
    "data/templates.py",
    "disk.py",
    "reports/illustrations.py",
    "serving/server.py",  # an error belongs to one request of a batch
}

Read = Callable[[pathlib.Path], Any]


def rows(folder: pathlib.Path) -> Any:
    return [list(row_files.read(path, "data.file")) for path in sorted(folder.iterdir())]


def local(folder: pathlib.Path) -> Any:
    source = local_files.LocalSource(str(folder), "mine")
    return source.fingerprint("train"), source.lines("train")


def bigbench(folder: pathlib.Path) -> Any:
    return local_files.LocalSource(str(folder), "bigbench/metals").lines("validation")


def backbone(folder: pathlib.Path) -> Any:
    return tiny_t5.read(folder)


def corpus(folder: pathlib.Path) -> Any:
    config = settings.defaults()
    config.pretrain.corpus, config.data = str(folder), ml_collections.ConfigDict(config.data)
    config.data.cache_dir = str(folder / "cache")
    made = Corpus(config)
    return list(made.sample()), made.rows(load_tokenizer("bytes"))


# By what is damaged: what reads it, and the damages that leave a sound file or one of another meaning.
READERS: dict[str, tuple[Read, set[str]]] = {
    "rows.jsonl": (rows, {"object"}),
    "rows.json": (rows, set()),
    "rows.csv": (rows, set()),
    "rows.tsv": (rows, set()),
    "rows.parquet": (rows, set()),
    "rows.txt": (rows, {"cut", "deep", "digits", "array", "object"}),
    "local/mine/train.jsonl": (local, {"object"}),
    "bigbench/bigbench/metals/task.json": (bigbench, set()),
    "backbone/config.json": (backbone, set()),
    "backbone/model.safetensors": (backbone, set()),
    "sharded/model.safetensors.index.json": (backbone, set()),
    "pickled/pytorch_model.bin": (backbone, set()),
    "msgpack/flax_model.msgpack": (backbone, set()),
    "t5x/checkpoint": (backbone, set()),
    "t5x/target.token_embedder.embedding/.zarray": (backbone, set()),
    "t5x/target.token_embedder.embedding/0.0": (backbone, set()),
    "vocabulary/spiece.model": (load_tokenizer, set()),
    "vocabulary/added_tokens.json": (load_tokenizer, {"object"}),  # of a control token
    "prompt/prompt.json": (load_prompt, {"object"}),
    "prompt/prompt.safetensors": (load_prompt, set()),
    "adapter/adapter_config.json": (load_prompt, set()),
    "adapter/adapter_model.safetensors": (load_prompt, set()),
    "numpy/prompt.npy": (lambda folder: load_prompt(folder / "prompt.npy"), set()),
    "corpus/corpus.json": (corpus, set()),
    "corpus/rows/mine.jsonl.xz": (corpus, set()),
}


def put(path: pathlib.Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def replaced(make: Read) -> Read:
    def damage(path: pathlib.Path) -> None:
        path.unlink()
        make(path)

    return damage


DAMAGES: dict[str, Read] = {
    "cut": lambda path: put(path, path.read_bytes()[: path.stat().st_size * 2 // 3]),
    "empty": lambda path: put(path, b""),
    "random": lambda path: put(path, random.Random(0).randbytes(500)),
    "deep": lambda path: put(path, b"[" * 100_000),
    "digits": lambda path: put(path, b'{"a": ' + b"9" * 5000 + b"}"),
    "array": lambda path: put(path, b"[1]"),
    "object": lambda path: put(path, b'{"a": 1}'),
    "directory": replaced(pathlib.Path.mkdir),
    "pipe": replaced(os.mkfifo),
    "endless": replaced(lambda path: path.symlink_to("/dev/zero")),
    "loop": replaced(lambda path: path.symlink_to(path)),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder with what every reader reads."""
    import pyarrow
    import pyarrow.parquet
    from flax import serialization, traverse_util
    from safetensors.numpy import load_file

    folder = tmp_path_factory.mktemp("sound")
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    cells = "".join(f"{row['text']},{row['label']}\n" for row in ROWS)
    contents = {
        "rows.jsonl": lines,
        "rows.json": json.dumps(ROWS),
        "rows.csv": f"text,label\n{cells}",
        "rows.tsv": f"text,label\n{cells}".replace(",", "\t"),
        "rows.txt": lines,
        "local/mine/train.jsonl": lines,
        "bigbench/bigbench/metals/task.json": json.dumps(BIGBENCH),
        "corpus/corpus.json": '{"shares": {"mine": 1}}',
    }
    for name, content in contents.items():
        path = folder / (f"{name}/{name}" if name.startswith("rows") else name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (folder / "rows.parquet").mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), folder / "rows.parquet" / "rows.parquet")
    tiny_t5.export(folder / "backbone")
    for name in ("sharded", "pickled", "msgpack"):
        shutil.copytree(folder / "backbone", folder / name)
    weights = folder / "sharded" / "model.safetensors"
    tensors = load_file(weights)
    weights.rename(weights.with_name("model-1.safetensors"))
    index = {"weight_map": dict.fromkeys(tensors, "model-1.safetensors")}
    weights.with_name("model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "msgpack" / "model.safetensors").unlink()
    flat = {tuple(name.split(".")): array.T if array.ndim == 2 else array for name, array in tensors.items()}
    flat = {(*path[:-1], "kernel" if array.ndim == 2 else path[-1]): array for path, array in flat.items()}
    tree = serialization.msgpack_serialize(traverse_util.unflatten_dict(flat))
    (folder / "msgpack" / "flax_model.msgpack").write_bytes(tree)
    (folder / "pickled" / "model.safetensors").unlink()
    codes, entries = {}, {}
    for number, (name, array) in enumerate(tensors.items()):
        strides = tuple(stride // array.itemsize for stride in array.strides)
        stored = torch_files.storage(array.size, key=str(number))
        codes[name], entries[f"data/{number}"] = (
            torch_files.tensor(array.shape, strides, stored=stored),
            array.tobytes(),
        )
    torch_files.write(folder / "pickled" / "pytorch_model.bin", torch_files.state_dict(**codes), **entries).close()
    tiny_t5x.write(folder / "t5x")
    shutil.copytree(PACKAGE / "nano" / "backbone", folder / "vocabulary")
    (folder / "vocabulary" / "added_tokens.json").write_text("{}")
    prompt = Prompt(np.ones((3, 4), np.float32))
    for name, format in (("prompt", "infoprompt"), ("adapter", "peft"), ("numpy/prompt.npy", "npy")):
        save_prompt(folder / name, prompt, format)
    row = {"dataset": "mine", "template": "t", "input": "a", "target": "b"}
    for name, content in (("text/a.txt.xz", "a line\n"), ("rows/mine.jsonl.xz", json.dumps(row) + "\n")):
        path = folder / "corpus" / name
        path.parent.mkdir()
        path.write_bytes(lzma.compress(content.encode()))
    return folder


def copied(sound: pathlib.Path, reader: str, tmp_path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """A copy of what the reader reads, and the file of it that is damaged."""
    name, _, file = reader.partition("/")
    shutil.copytree(sound / name, tmp_path / name)
    return tmp_path / name, tmp_path / name / (file or name)


@pytest.mark.parametrize("reader", READERS)
def test_what_is_sound_is_read(sound: pathlib.Path, tmp_path: pathlib.Path, reader: str) -> None:
    folder, path = copied(sound, reader, tmp_path)
    assert path.is_file() and READERS[reader][0](folder)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("reader", READERS)
def test_damage_is_one_sentence_that_names_the_file(
    sound: pathlib.Path, tmp_path: pathlib.Path, reader: str, damage: str
) -> None:
    read, harmless = READERS[reader]
    folder, path = copied(sound, reader, tmp_path)
    DAMAGES[damage](path)
    if damage in harmless:
        assert read(folder) is not None
        return
    with pytest.raises(UserError) as caught:
        read(folder)
    sentence = str(caught.value)
    assert str(folder) in sentence and sentence.endswith(".") and sentence.isprintable() and len(sentence) < 900


CLAIM = 95 * 2**30  # bytes


def claim_npy(folder: pathlib.Path) -> pathlib.Path:
    (folder / "a.npy").write_bytes(np.lib.format.MAGIC_PREFIX + b"\x01\x00" + npy_header((CLAIM // 4096, 1024)))
    return folder / "a.npy"


def npy_header(shape: tuple[int, ...]) -> bytes:
    text = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).encode()
    return struct.pack("<H", len(text)) + text


def claim_safetensors(folder: pathlib.Path) -> pathlib.Path:
    save_prompt(folder / "a", Prompt(np.ones((3, 4), np.float32)))
    (folder / "a" / "prompt.safetensors").write_bytes(struct.pack("<Q", CLAIM) + b"{}")
    return folder / "a"


def claim_tensor(folder: pathlib.Path) -> pathlib.Path:
    save_prompt(folder / "a", Prompt(np.ones((3, 4), np.float32)))
    shape = [CLAIM // 4096, 1024]
    header = json.dumps({"prompt/value": {"dtype": "F32", "shape": shape, "data_offsets": [0, CLAIM]}}).encode()
    (folder / "a" / "prompt.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return folder / "a"


def claim_zarr(folder: pathlib.Path, chunk: int = 2**20) -> pathlib.Path:
    metadata = {
        "shape": [CLAIM // 4096, 1024],
        "chunks": [chunk, 1024],
        "dtype": "<f4",
        "compressor": {"id": "gzip", "level": 1},
        "zarr_format": 2,
        "order": "C",
        "filters": None,
        "fill_value": 0,
    }
    (folder / ".zarray").write_text(json.dumps(metadata))
    for number in range(-(-CLAIM // 4096 // chunk)) if chunk > 1 else (0,):
        (folder / f"{number}.0").write_bytes(bytes(100))
    return folder


CLAIMS: dict[str, Callable[[pathlib.Path], pathlib.Path]] = {
    "npy": claim_npy,
    "safetensors header": claim_safetensors,
    "safetensors tensor": claim_tensor,
    "zarr": claim_zarr,
    "zarr, a chunk a row": lambda folder: claim_zarr(folder, 1),
}


@pytest.mark.parametrize("kind", CLAIMS)
def test_a_claim_of_95_gib_is_refused_before_it_is_allocated(kind: str, tmp_path: pathlib.Path) -> None:
    import resource

    path, limits = CLAIMS[kind](tmp_path), resource.getrlimit(resource.RLIMIT_AS)
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, limits[1]))
    try:
        with pytest.raises(UserError, match=r"^prompt\.init: ") as caught:
            load_prompt(path, "prompt.init")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert "more memory than there is" not in str(caught.value)


def test_an_index_of_far_too_many_shards_is_refused(sound: pathlib.Path, tmp_path: pathlib.Path) -> None:
    folder, path = copied(sound, "sharded/model.safetensors.index.json", tmp_path)
    path.write_text(json.dumps({"weight_map": {f"t{n}": f"model-{n}.safetensors" for n in range(20_000)}}))
    with pytest.raises(UserError, match="it names 20,000 files, but at most 10,000 were expected"):
        convert.read_config(folder)


@pytest.mark.parametrize("content", [{"extra_ids": 10**9}, {"extra_ids": 1.5}, {"extra_ids": True}, {"extra_ids": "٣"}])
def test_numbers_beside_a_vocabulary_that_are_none(
    sound: pathlib.Path, tmp_path: pathlib.Path, content: dict[str, Any]
) -> None:
    folder, path = copied(sound, "vocabulary/tokenizer_config.json", tmp_path)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"not a readable vocabulary: .* (extra_ids|is no id or count)"):
        load_tokenizer(folder)


@pytest.mark.parametrize("name", ["n" * 300, "n\0", "n/" * 3000])
def test_names_that_no_file_can_have(name: str, tmp_path: pathlib.Path) -> None:
    config = settings.defaults()
    config.prompt.init, config.data.file = str(tmp_path / name), str(tmp_path / f"{name}.csv")
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("rospr.library: ", lambda: load_prompt(tmp_path / name, "rospr.library")),
        ("backbone.name=", lambda: hub.find(str(tmp_path / name))),
        ("prompt.init=", lambda: prompt_path(config)),
        ("data.file=", lambda: predict.fingerprint(pathlib.Path(config.data.file))),
        ("", lambda: load_tokenizer(tmp_path / name)),
        ("data.dir", lambda: local_files.check_folder(str(tmp_path / name))),
        ("", lambda: local_files.find_files(str(tmp_path), name)),
        ("", lambda: list(row_files.read(tmp_path / f"{name}.csv"))),
        ("", lambda: save_prompt(tmp_path / name, Prompt(np.ones((3, 4), np.float32)))),
    ]
    for place, call in calls:
        with pytest.raises(UserError) as caught:
            call()
        assert str(caught.value).startswith(place) and len(str(caught.value)) < 7000


class PanicException(BaseException):
    """As libraries in Rust raise it."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(13, "Permission denied"), "Permission denied"),
        (ValueError("a\x1b[2J\nb"), r"a\?\[2J"),
        (KeyError("a"), "it lacks 'a'"),
        (MemoryError(), "it claims more memory than there is"),
        (RecursionError("deep"), "it is nested too deeply"),
        (PanicException("index out of bounds"), "index out of bounds"),
        (StopIteration(), "StopIteration"),
    ],
)
def test_whatever_is_raised_is_a_sentence(error: BaseException, reason: str) -> None:
    sentence = rf"^data\.file: 'a' cannot be read: {reason}: give another\.$"
    with pytest.raises(UserError, match=sentence), foreign.reading("data.file: 'a'", "give another"):
        raise error


@pytest.mark.parametrize("error", [UserError("A sentence."), Stopped("now"), KeyboardInterrupt()])
def test_what_is_no_fault_of_the_file_passes(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, foreign.reading("a file"):
        raise error
    assert caught.value is error


def test_no_reader_catches_everything_itself() -> None:
    """`except Exception` stands in foreign.py, and where code of the user's, a template or a service is called."""
    places = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ExceptHandler):
                caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
                if any(one is None or ast.unparse(one) in ("Exception", "BaseException") for one in caught):
                    places.add(file.relative_to(PACKAGE).as_posix())
    assert places <= USER_CODE | {"foreign.py"} and "foreign.py" in places
