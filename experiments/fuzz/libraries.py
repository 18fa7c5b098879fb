"""Source prompt libraries: damaged files, manifests that were made by others, appended sources, queries.

What is accepted must list, hold and retrieve what the clean library does.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import pathlib
import random
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.fuzz import tensors
from experiments.fuzz.cases import Case
from infoprompt_jax import checksums
from infoprompt_jax.errors import UserError
from infoprompt_jax.prompts.saved import Prompt
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.rospr.library_files import Entry, Model
from infoprompt_jax.rospr.library_sources import SourcePrompt

P, D, R, KEYS = 3, 8, 6, 5
MODEL, RETRIEVER = Model("backbone", "f" * 16, D), Model("retriever", "e" * 16, R)
QUERIES = np.random.default_rng(0).normal(size=(4, R)).astype(np.float32)


def case(choose: random.Random, folder: pathlib.Path) -> Case:
    """One library, of two segments."""
    path = folder / "library"
    made = create(path)
    return choose.choice([flips, files, files, manifests, manifests, appends, appends, queries, headers])(
        choose, path, made
    )


def source(number: int, **changed: Any) -> SourcePrompt:
    """A source prompt; its values depend on its number."""
    rng = np.random.default_rng(number)
    prompt = Prompt(rng.normal(size=(P, D)).astype(np.float32), {"fingerprint": MODEL.fingerprint})
    keys = rng.normal(size=(KEYS, R)).astype(np.float32)
    entry = Entry(f"source {number}", f"data {number}", "t", "family", "yes/no", ("Yes", "No"), {"accuracy": 0.5})
    made = SourcePrompt(entry, prompt, keys, [f"text {number}.{n} é" for n in range(KEYS)])
    return dataclasses.replace(made, **changed)


def create(path: pathlib.Path) -> dict[str, Any]:
    """Writes the clean library; returns `content` of it."""
    library = PromptLibrary.create(path, RETRIEVER, MODEL, [source(0), source(1)], mesh=mesh())
    library.append(RETRIEVER, [source(2)])
    return content(path)


@functools.cache
def mesh() -> Any:
    """One device: compiling for it is cheap."""
    import jax

    from infoprompt_jax.t5 import partition

    return partition.make_mesh(devices=jax.devices()[:1])


def content(path: pathlib.Path) -> dict[str, Any]:
    """What the library lists, holds and retrieves. Raises UserError as the program does."""
    library = PromptLibrary.load(path, mesh())
    hits = library.search(QUERIES, top=3)
    choice = library.retrieve(QUERIES, top=3, interpolate=2)
    return {
        "listing": library.listing(),
        "prompts": digest(library.prompts_MPD),
        "keys": digest(library.keys_KR),
        "texts": [library.text(key) for key in range(len(library.owners_K))],
        "owners": hits.owners_QN.tolist(),
        "scores": hits.scores_QN.tolist(),
        "choice": [list(choice.owners), digest(np.asarray(choice.prompt_PD))],
    }


def digest(values: np.ndarray) -> str:
    """A hash of the shape and the values."""
    return hashlib.sha256(repr(values.shape).encode() + np.ascontiguousarray(values, "<f4").tobytes()).hexdigest()


def flips(choose: random.Random, path: pathlib.Path, made: dict[str, Any]) -> Case:
    """One bit of one file."""
    file = choose.choice(sorted(path.glob("[!.]*")))
    raw = bytearray(file.read_bytes())
    place = choose.randrange(len(raw))
    raw[place] ^= 1 << choose.randrange(8)
    file.write_bytes(bytes(raw))
    return Case(f"{file.name}: a bit flipped at {place}", lambda: content(path), made)


def files(choose: random.Random, path: pathlib.Path, made: dict[str, Any]) -> Case:
    """Files that are missing, cut, exchanged or too many."""
    manifest, first, second = (
        path / name for name in ("manifest.json", *sorted(f.name for f in path.glob("segment-*")))
    )
    raw = first.read_bytes()
    harmless: dict[str, Callable[[], Any]] = {
        "a note beside": lambda: (path / "notes.txt").write_text("hello"),
        "a segment that is not listed": lambda: shutil.copy(first, path / "segment-00007.safetensors"),
        "a partial file": lambda: (path / ".manifest.json.1.partial").write_text("{"),
        "a directory beside": lambda: (path / "more").mkdir(),
    }
    broken: dict[str, Callable[[], Any]] = {
        "a segment missing": lambda: second.unlink(),
        "the manifest missing": lambda: manifest.unlink(),
        "the manifest empty": lambda: manifest.write_text(""),
        "the manifest deep": lambda: manifest.write_text("[" * 100_000),
        "the manifest a list": lambda: manifest.write_text("[]"),
        "the manifest a number": lambda: manifest.write_text("5"),
        "an integer of 5,000 digits": lambda: manifest.write_text('{"checksum": ' + "9" * 5000 + "}"),
        "the manifest not UTF-8": lambda: manifest.write_bytes(b"\xff\xfe{}"),
        "a segment cut": lambda: first.write_bytes(raw[: choose.randrange(len(raw))]),
        "a segment empty": lambda: first.write_bytes(b""),
        "a segment longer": lambda: first.write_bytes(raw + b"\0"),
        "segments exchanged": lambda: (first.write_bytes(second.read_bytes()), second.write_bytes(raw)),
        "a segment a directory": lambda: (first.unlink(), first.mkdir()),
        "a segment of the same size": lambda: first.write_bytes(b"\0" * len(raw)),
        "everything missing": lambda: [file.unlink() for file in path.iterdir()],
        "the library a file": lambda: (shutil.rmtree(path), path.write_text("")),
        "a segment a pipe": lambda: (first.unlink(), __import__("os").mkfifo(first)),
        "the manifest a pipe": lambda: (manifest.unlink(), __import__("os").mkfifo(manifest)),
    }
    kinds = harmless if choose.random() < 0.2 else broken
    what = choose.choice(list(kinds))
    kinds[what]()
    return Case(what, lambda: content(path), made if kinds is harmless else None)


def headers(choose: random.Random, path: pathlib.Path, made: dict[str, Any]) -> Case:
    """A segment with a damaged header, and a manifest that has its size and checksum."""
    from infoprompt_jax.rospr import library_files

    file = path / "segment-00000.safetensors"
    what = tensors.damage_header(choose, file)

    def restate(library: dict[str, Any]) -> None:
        library["segments"][0] |= {"size": file.stat().st_size, "sha256": library_files.sha256(file)}

    _restated(path, restate)
    return Case(f"a segment with {what}", lambda: content(path), made)


def _restated(path: pathlib.Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """A manifest with another content and right checksums: of format 2, or of format 1 where 2 cannot hold it."""
    head = json.loads((path / "manifest.json").read_text())
    listed = [json.loads(line) for line in (path / "segments.jsonl").read_text().splitlines()]
    library = {name: value for name, value in head["library"].items() if name != "journal"}
    library |= {
        "segments": [line["segment"] for line in listed],
        "entries": [entry for line in listed for entry in line["entries"]],
    }
    change(library)
    lines = _lines(library)
    if lines is not None:
        del library["segments"], library["entries"]
        chain, encoded = "", [json.dumps(line).encode() + b"\n" for line in lines]
        for line in encoded:
            chain = hashlib.sha256(chain.encode() + line).hexdigest()
        (path / "segments.jsonl").write_bytes(b"".join(encoded))
        library["journal"] = {"size": sum(map(len, encoded)), "checksum": chain}
    checksums.write_json(path / "manifest.json", {"format": 1 if lines is None else 2, "library": library})


def _lines(library: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The lines of format 2's list of segments; None where segments are no list."""
    segments, entries = library.get("segments"), list(library["entries"])
    if not segments or len(segments) % 2:  # one segment is written as format 1
        return None
    lines = []
    for number, segment in enumerate(segments, 1):
        count = segment["prompts"] if number < len(segments) else len(entries)
        lines.append({"segment": segment, "entries": entries[:count]})
        entries = entries[count:]
    return lines


def manifests(choose: random.Random, path: pathlib.Path, made: dict[str, Any]) -> Case:
    """A manifest of another writer: whole, but wrong."""
    odd: dict[str, Callable[[dict[str, Any]], Any]] = {
        "an unknown similarity": lambda m: m.update(similarity="euclid"),
        "a similarity that is null": lambda m: m.update(similarity=None),
        "a similarity that is a list": lambda m: m.update(similarity=["cosine"]),
        "a segment listed twice": lambda m: m.update(segments=[m["segments"][0]] * 2),
        "a segment and its prompts listed twice": lambda m: m.update(
            segments=[*m["segments"], m["segments"][1]], entries=[*m["entries"], m["entries"][2] | {"name": "again"}]
        ),
        "segments null": lambda m: m.update(segments=None),
        "no segments": lambda m: m.update(segments=[]),
        "segments and entries empty": lambda m: m.update(segments=[], entries=[]),
        "an entry less": lambda m: m.update(entries=m["entries"][:-1]),
        "an entry more": lambda m: m.update(entries=[*m["entries"], m["entries"][0] | {"name": "more"}]),
        "entries of one name": lambda m: m["entries"][0].update(name=m["entries"][1]["name"]),
        "an entry without a name": lambda m: m["entries"][0].pop("name"),
        "a name that is null": lambda m: m["entries"][0].update(name=None),
        "a name that is a number": lambda m: m["entries"][0].update(name=5),
        "choices as a text": lambda m: m["entries"][0].update(choices="yes"),
        "choices as a number": lambda m: m["entries"][0].update(choices=5),
        "metrics as a list": lambda m: m["entries"][0].update(metrics=[1]),
        "a metric that is a text": lambda m: m["entries"][0].update(metrics={"accuracy": "good"}),
        "an unknown field": lambda m: m["entries"][0].update(other=1),
        "a length of 0": lambda m: m.update(prompt_length=0),
        "a length of -3": lambda m: m.update(prompt_length=-P),
        "a length of 3.0": lambda m: m.update(prompt_length=3.5),
        "a length that is a text": lambda m: m.update(prompt_length="3"),
        "a width that is huge": lambda m: m["retriever"].update(width=10**12),
        "a width that is null": lambda m: m["retriever"].update(width=None),
        "no retriever": lambda m: m.pop("retriever"),
        "a retriever that is a text": lambda m: m.update(retriever="t5"),
        "a file outside": lambda m: m["segments"][0].update(file="../segment-00000.safetensors"),
        "a file with a newline": lambda m: m["segments"][0].update(file="segment-00000.safetensors\n"),
        "a file that is a number": lambda m: m["segments"][0].update(file=5),
        "a size that is a text": lambda m: m["segments"][0].update(size="5"),
        "keys that are negative": lambda m: m["segments"][0].update(keys=-1),
        "no checksum of a segment": lambda m: m["segments"][0].update(sha256=""),
        "a field more": lambda m: m.update(other=1),
        "entries in another order": lambda m: m.update(entries=[m["entries"][n] for n in (2, 0, 1)]),
    }
    what = choose.choice(list(odd))
    _restated(path, odd[what])
    # Whose prompt is whose is known to the writer alone.
    right = {"entries in another order": lambda result: True, "a field more": made}.get(what)
    return Case(f"a manifest with {what}", lambda: content(path), right)


def appends(choose: random.Random, path: pathlib.Path, made: dict[str, Any]) -> Case:
    """Sources that must not be taken; the library stays as it was."""
    keys, prompt = source(3).keys_NR, source(3).prompt
    odd: dict[str, Any] = {
        "keys of 1e300": {"keys_NR": keys.astype(np.float64) * 1e300},
        "a key of 1e39": {"keys_NR": np.where(keys == keys[0, 0], 1e39, keys.astype(np.float64))},
        "NaN among the keys": {"keys_NR": np.where(keys == keys[0, 0], math.nan, keys)},
        "a prompt of 1e300": {"prompt": Prompt(prompt.value_PD.astype(np.float64) * 1e300, prompt.metadata)},
        "a prompt of NaN": {"prompt": Prompt(prompt.value_PD * np.float32(math.nan), prompt.metadata)},
        "a longer prompt": {"prompt": Prompt(np.ones((P + 1, D), np.float32), prompt.metadata)},
        "a wider prompt": {"prompt": Prompt(np.ones((P, D + 1), np.float32), prompt.metadata)},
        "a prompt of one axis": {"prompt": Prompt(np.ones(P, np.float32), prompt.metadata)},
        "a prompt of texts": {"prompt": Prompt(np.full((P, D), "a"), prompt.metadata)},
        "a complex prompt": {"prompt": Prompt(np.ones((P, D), np.complex64) * 1j, prompt.metadata)},
        "another backbone's prompt": {"prompt": Prompt(prompt.value_PD, {"fingerprint": "other"})},
        "no keys": {"keys_NR": keys[:0], "texts": []},
        "keys of another width": {"keys_NR": keys[:, :-1]},
        "keys of one axis": {"keys_NR": keys[0]},
        "keys of texts": {"keys_NR": np.full((KEYS, R), "a")},
        "complex keys": {"keys_NR": keys.astype(np.complex64) * 1j},
        "keys that are a list": {"keys_NR": keys.tolist()},
        "a text less": {"texts": ["a"]},
        "a text that is a number": {"texts": [5] * KEYS},
        "a name that is there": {"entry": Entry("source 0")},
        "a name that is a number": {"entry": Entry(5)},  # type: ignore[arg-type]
        "an empty name": {"entry": Entry("")},
        "a metric that is NaN": {"entry": Entry("new", metrics={"accuracy": math.nan})},
        "a metric that is a text": {"entry": Entry("new", metrics={"accuracy": "high"})},  # type: ignore[dict-item]
        "a metric that is None": {"entry": Entry("new", metrics={"accuracy": None})},  # type: ignore[dict-item]
        "a family that is a set": {"entry": Entry("new", family={"a"})},  # type: ignore[arg-type]
        "metrics in a list": {"entry": Entry("new", metrics=[1])},  # type: ignore[arg-type]
    }
    what = choose.choice(list(odd))

    def run() -> dict[str, Any]:
        refused = None
        try:
            PromptLibrary.load(path, mesh()).append(RETRIEVER, [source(3, **odd[what])])
        except UserError as error:
            refused = error
        after = content(path)  # an append that was refused must leave the library as it was
        if refused and after == made:
            raise refused
        return after

    right = what in ("keys that are a list", "an empty name")
    is_right = (
        (lambda result: result["listing"][:3] == made["listing"] and len(result["listing"]) == 4) if right else None
    )
    return Case(f"append {what}", run, is_right)


def queries(choose: random.Random, path: pathlib.Path, made: dict[str, Any]) -> Case:
    """Queries and numbers that a search or a retrieval cannot take."""
    odd: dict[str, dict[str, Any]] = {
        "NaN": {"queries_QR": QUERIES * np.float32(math.nan)},
        "infinity": {"queries_QR": QUERIES * np.float32(math.inf)},
        "1e300": {"queries_QR": QUERIES.astype(np.float64) * 1e300},
        "3e38": {"queries_QR": np.full((1, R), 3e38)},
        "no queries": {"queries_QR": QUERIES[:0]},
        "another width": {"queries_QR": QUERIES[:, :2]},
        "one axis": {"queries_QR": QUERIES[0]},
        "three axes": {"queries_QR": QUERIES[None]},
        "texts": {"queries_QR": np.full((1, R), "a")},
        "a ragged list": {"queries_QR": [[1.0], [1.0, 2.0]]},
        "None": {"queries_QR": None},
        "complex": {"queries_QR": QUERIES * 1j},
        "top 0": {"top": 0},
        "top -1": {"top": -1},
        "top of all and one": {"top": 3 * KEYS + 1},
        "top 1.5": {"top": 1.5},
        "top a text": {"top": "3"},
        "top None": {"top": None},
        "interpolate 0": {"interpolate": 0},
        "interpolate -1": {"interpolate": -1},
        "interpolate 1.5": {"interpolate": 1.5},
        "exclude 99": {"exclude": [99]},
        "exclude -1": {"exclude": [-1]},
        "exclude all": {"exclude": [0, 1, 2]},
        "exclude a text": {"exclude": ["source 0"]},
    }
    what = choose.choice(list(odd))
    arguments = {"queries_QR": QUERIES, "top": 3, **odd[what]}
    is_search = not {"interpolate", "exclude"} & arguments.keys() and choose.random() < 0.5

    def run() -> Any:
        library = PromptLibrary.load(path, mesh())
        if is_search:
            return library.search(**arguments).owners_QN.tolist()
        return list(library.retrieve(**arguments).owners)

    return Case(f"{'search' if is_search else 'retrieve'} with {what}", run)
