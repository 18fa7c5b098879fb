"""Tokenised rows of (task, split), as flat arrays on disk.

Texts are tokenised once and kept in a folder named by the fingerprint of everything they depend on, so a later run
opens them at once. One folder may hold several tasks, the parts, so that thousands of templates cost one read; each
part is then a view. Ragged lists are stored flat: item i of `values` is values[offsets[i] : offsets[i + 1]]. Targets
and lists of answer choices repeat from row to row: each is stored once, and a row holds its number.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from infoprompt_jax import checksums, foreign
from infoprompt_jax.errors import UserError
from infoprompt_jax.t5.tokenizer import PAD

FORMAT = 1  # of the files; part of the fingerprint
RULES = 8  # of what rows may hold; files written under other rules are written again, and are the same data
MAPPED_BYTES = 2**26  # larger arrays are memory-mapped; smaller ones are read, as a map holds a file open
ARRAYS = {
    "input_tokens": np.int32,
    "input_offsets": np.int64,
    "target_tokens": np.int32,  # distinct targets
    "target_offsets": np.int64,
    "target_bytes": np.uint8,  # their texts, UTF-8
    "target_byte_offsets": np.int64,
    "target_index": np.int32,  # [rows]
    "choice_tokens": np.int32,
    "choice_offsets": np.int64,
    "choice_starts": np.int64,  # distinct list i is choices choice_starts[i] ... choice_starts[i + 1] - 1
    "choice_index": np.int32,  # [rows]
    "labels": np.int32,  # [rows]
    "input_cut": np.bool_,  # [rows]: the input was longer
    "target_cut": np.bool_,  # of distinct targets
    "choice_cut": np.bool_,  # as choice_offsets has them
    "part_starts": np.int64,  # part i is rows part_starts[i] ... part_starts[i + 1] - 1
    "left_out": np.int64,  # [parts]: rows of the source that the template does not apply to
}

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Tokenised rows; lengths in tokens, EOS included."""

    arrays: dict[str, np.ndarray]
    name: str
    fingerprint: str  # of the source, the template, the vocabulary and the lengths
    truncated_inputs: int  # rows whose input was cut at the end
    truncated_answers: int  # rows whose target or one of whose choices was cut
    max_input_length: int
    max_target_length: int  # of targets and choices
    max_choices: int  # 0: free text

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def labels(self) -> np.ndarray:
        """The number of each row's right answer choice, int32 [rows]; -1 for free text."""
        return self.arrays["labels"]

    @functools.cached_property
    def content(self) -> str:
        """A checksum of the rows themselves: another version of this program may read others from the same source."""
        arrays, length = self.arrays, self.max_target_length
        first, last = arrays["input_offsets"][[0, -1]]
        targets, target_B = by_appearance(arrays["target_index"])
        lists, list_B = by_appearance(arrays["choice_index"])
        choices = [number for one in lists for number in range(*arrays["choice_starts"][one : one + 2])]
        return checksums.of_arrays(
            {
                "inputs": arrays["input_tokens"][first:last],
                "input_lengths": self.input_lengths,
                "targets": dense(arrays["target_tokens"], arrays["target_offsets"], targets, length),
                "target_of": target_B,
                "choices": dense(arrays["choice_tokens"], arrays["choice_offsets"], np.array(choices, int), length),
                "choices_of": list_B,
                "counts": np.diff(arrays["choice_starts"])[lists],
                "labels": self.labels,
            }
        )

    @property
    def left_out(self) -> int:
        """How many rows of the source are not among these, because the template does not apply to them."""
        return int(self.arrays["left_out"].sum())

    @functools.cached_property
    def input_lengths(self) -> np.ndarray:
        """Tokens of each input, EOS included, int32 [rows]."""
        return np.diff(self.arrays["input_offsets"]).astype(np.int32)

    @functools.cached_property
    def answer_lengths(self) -> np.ndarray:
        """Tokens of each row's longest answer, of its target and its choices, EOS included, int32 [rows]."""
        lists, inverse = np.unique(self.arrays["choice_index"], return_inverse=True)  # not those of other parts
        first, last = (self.arrays["choice_starts"][lists + after] for after in (0, 1))
        lengths = np.append(np.diff(self.arrays["choice_offsets"]), 0)
        bounds = np.stack([first, last], axis=1).reshape(-1)
        longest = np.where(last > first, np.maximum.reduceat(lengths, bounds)[::2], 0)  # free text has an empty list
        targets = np.diff(self.arrays["target_offsets"])[self.arrays["target_index"]]
        return np.maximum(targets, longest[inverse]).astype(np.int32)

    def choice_counts(self, rows: np.ndarray) -> np.ndarray:
        """How many answer choices each of `rows` has, [B]."""
        return np.diff(self.arrays["choice_starts"])[self.arrays["choice_index"][rows]]

    def choice_list(self, number: int) -> list[tuple[int, ...]]:
        """The tokens of the answer choices in distinct list `number`, which rows name in `choice_index`."""
        tokens, offsets = self.arrays["choice_tokens"], self.arrays["choice_offsets"]
        first, last = self.arrays["choice_starts"][number : number + 2]
        return [tuple(tokens[offsets[c] : offsets[c + 1]].tolist()) for c in range(first, last)]

    def shared_choices(self, rows: np.ndarray) -> np.ndarray | None:
        """The places [B, C] of each row's choices among the first row's; None unless rows differ only in order."""
        index_B = self.arrays["choice_index"][rows]
        lists, inverse = np.unique(index_B, return_inverse=True)
        choices = [self.choice_list(one) for one in lists.tolist()]
        number = {choice: c for c, choice in enumerate(self.choice_list(int(index_B[0])))}
        if any(len(listed) != len(number) or set(listed) != number.keys() for listed in choices):
            return None
        return np.array([[number[choice] for choice in listed] for listed in choices], np.int32)[inverse]

    def inputs(self, rows: np.ndarray, length: int) -> np.ndarray:
        """Input tokens of `rows`, [B, length], PAD after their end."""
        return dense(self.arrays["input_tokens"], self.arrays["input_offsets"], rows, length)

    def take(self, rows: np.ndarray) -> Rows:
        """Some of the rows, in the order given; the fingerprint and the largest lengths stay those of all rows."""
        offsets = self.arrays["input_offsets"]
        starts = np.cumsum([0, *self.input_lengths[rows]])
        index = np.repeat(offsets[rows] - starts[:-1], np.diff(starts)) + np.arange(starts[-1])
        taken = {key: self.arrays[key][rows] for key in ("target_index", "choice_index", "labels", "input_cut")}
        taken |= {"input_tokens": self.arrays["input_tokens"][index], "input_offsets": starts}
        return dataclasses.replace(self, arrays=self.arrays | taken)

    def part(self, number: int, name: str, fingerprint: str) -> Rows:
        """The rows of one part, as a view: distinct targets and choices stay those of all parts."""
        first, last = self.arrays["part_starts"][number : number + 2]
        rows = {key: self.arrays[key][first:last] for key in ("target_index", "choice_index", "labels", "input_cut")}
        rows |= {"input_offsets": self.arrays["input_offsets"][first : last + 1]}
        rows |= {"part_starts": np.array([0, last - first]), "left_out": self.arrays["left_out"][number : number + 1]}
        return described(self.arrays | rows, name, fingerprint)

    def same_inputs(self) -> bool:
        """Whether there are several rows, and their inputs, none of them cut, are all the same tokens."""
        if len(self) < 2 or self.truncated_inputs or self.input_lengths.min() != self.input_lengths.max():
            return False
        first, last = self.arrays["input_offsets"][[0, -1]]
        tokens_BL = self.arrays["input_tokens"][first:last].reshape(len(self), -1)
        return bool((tokens_BL == tokens_BL[0]).all())

    def same_targets(self, limit: int = 0) -> bool:
        """Whether there are several rows, and the targets of the first `limit` (0 = all) are all the same text."""
        index_B = self.arrays["target_index"][: limit or None]
        return len(index_B) > 1 and bool((index_B == index_B[0]).all())

    def target_text(self, row: int) -> str:
        """The target before tokenisation."""
        start, end = self.arrays["target_byte_offsets"][self.arrays["target_index"][row] :][:2]
        return self.arrays["target_bytes"][start:end].tobytes().decode("utf-8", "surrogatepass")

    def gather(self, rows: np.ndarray, length: int, target_length: int, choices: int) -> dict[str, np.ndarray]:
        """The rows' arrays, int32: inputs [B, L], targets [B, T], choices [B, C, T] and label [B].

        Inputs longer than `length`, and targets and choices longer than `target_length`, are cut. A choice that does
        not exist is all PAD.
        """
        arrays = self.arrays
        targets = dense(arrays["target_tokens"], arrays["target_offsets"], arrays["target_index"][rows], target_length)
        first = arrays["choice_starts"][arrays["choice_index"][rows]]
        last = arrays["choice_starts"][arrays["choice_index"][rows] + 1]
        choice_BC = first[:, None] + np.arange(choices)[None]
        exists_BC = choice_BC < last[:, None]
        choices_BCT = np.full((*choice_BC.shape, target_length), PAD, np.int32)
        tokens, offsets = arrays["choice_tokens"], arrays["choice_offsets"]
        choices_BCT[exists_BC] = dense(tokens, offsets, choice_BC[exists_BC], target_length)
        return {
            "inputs": self.inputs(rows, length),
            "targets": targets,
            "choices": choices_BCT,
            "label": np.array(self.labels[rows]),
        }


def dense(values: np.ndarray, offsets: np.ndarray, items: np.ndarray, length: int) -> np.ndarray:
    """Items of a ragged list as an int32 array [items, length], cut or padded with PAD at the end."""
    index = offsets[items][:, None] + np.arange(length)[None]
    inside = index < offsets[items + 1][:, None]
    padded = np.full(index.shape, PAD, np.int32)
    padded[inside] = values[index[inside]]
    return padded


def by_appearance(index_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct values in the order in which they appear, and each value's place among them [B]."""
    distinct, first, inverse_B = np.unique(index_B, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return distinct[order], np.argsort(order)[inverse_B]


def combined_fingerprint(*parts: object) -> str:
    """16 hexadecimal digits over strings, numbers and booleans; the order counts."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def data_fingerprint(rows: Iterable[Rows]) -> str:
    """One fingerprint for all the data of a run, whatever the order of its tasks."""
    return combined_fingerprint(*sorted({part.fingerprint for part in rows}))


def order_fingerprint(members: Iterable[Iterable[Rows]]) -> str:
    """One fingerprint for which data each member has and in which order its tasks come: batches depend on both."""
    return combined_fingerprint(*([part.fingerprint for part in rows] for rows in members))


def content_fingerprint(members: Iterable[Iterable[Rows]]) -> str:
    """One fingerprint for the rows themselves, as they are read, of each member."""
    return combined_fingerprint(*([part.content for part in rows] for rows in members))


def described(arrays: dict[str, np.ndarray], name: str, fingerprint: str) -> Rows:
    """The arrays as Rows, with the largest lengths among their rows."""
    targets, lists = np.unique(arrays["target_index"]), np.unique(arrays["choice_index"])
    counts, lengths = np.diff(arrays["choice_starts"])[lists], np.diff(arrays["choice_offsets"])
    cut_until = np.append(0, np.cumsum(arrays["choice_cut"]))[arrays["choice_starts"]]
    answer_cut = arrays["target_cut"][arrays["target_index"]] | (np.diff(cut_until) > 0)[arrays["choice_index"]]
    choices = np.arange(counts.sum()) + np.repeat(arrays["choice_starts"][lists] - (np.cumsum(counts) - counts), counts)
    return Rows(
        arrays,
        name,
        fingerprint,
        truncated_inputs=int(arrays["input_cut"].sum()),
        truncated_answers=int(answer_cut.sum()),
        max_input_length=int(np.diff(arrays["input_offsets"]).max()),
        max_target_length=int(max(np.diff(arrays["target_offsets"])[targets].max(), lengths[choices].max(initial=0))),
        max_choices=int(counts.max()),
    )


def write(rows: Rows, path: Path) -> None:
    """Writes rows into the new directory `path`: a .npy file for each array, and `manifest.json`.

    Raises OSError where `path` exists or cannot be written.
    """
    path.mkdir()
    for key, array in rows.arrays.items():
        np.save(path / f"{key}.npy", array)
    manifest = {field.name: getattr(rows, field.name) for field in dataclasses.fields(rows)[1:]}
    manifest["rules"] = RULES
    manifest["sha256"] = {key: checksums.of_file(path / f"{key}.npy") for key in rows.arrays}
    checksums.write_json(path / "manifest.json", manifest | {"rows": len(rows)})


def opened(path: Path) -> Rows | None:
    """The rows that `write` saved at `path`; None if they are absent or damaged, or of other rules."""
    if not path.exists():
        return None
    try:
        with foreign.reading(str(path), "the rows are tokenised again"):
            manifest = checksums.read_json(path / "manifest.json", "the rows are tokenised again")
            if manifest["rules"] != RULES or manifest["fingerprint"] != path.name:
                return None
            if damaged := [key for key in ARRAYS if checksums.of_file(path / f"{key}.npy") != manifest["sha256"][key]]:
                raise ValueError(f"{damaged[0]}.npy is not what was written")
            arrays = {key: read_array(path / f"{key}.npy") for key in ARRAYS}
            return Rows(arrays, **{field.name: manifest[field.name] for field in dataclasses.fields(Rows)[1:]})
    except UserError as error:
        log.warning("%s", error)
        return None


def read_array(path: Path) -> np.ndarray:
    """An array from a .npy file, mapped read-only where the file is larger than MAPPED_BYTES."""
    return np.load(path, mmap_mode="r" if path.stat().st_size > MAPPED_BYTES else None, allow_pickle=False)
