"""Tokenised rows of one (task, split), as flat arrays on disk.

Texts are tokenised once and kept in a folder named by the fingerprint of everything they depend on, so a later run
opens them at once. Ragged lists are stored flat: item i of `values` is values[offsets[i] : offsets[i + 1]]. Targets and
lists of answer choices repeat from row to row: each is stored once, and a row holds its number.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infoprompt_jax.data.templates import Example
from infoprompt_jax.errors import UserError
from infoprompt_jax.progress import watched
from infoprompt_jax.t5.tokenizer import EOS, PAD, Tokenizer

FORMAT = 1  # of the files; part of the fingerprint
RULES = 2  # of what rows may hold; files written under other rules are written again, and are the same data
SHOWN = 200  # characters of an answer choice in a message
CHUNK = 8192  # examples per call of the tokenizer, which spreads them over its threads
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
}


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """Tokenised rows; lengths in tokens, EOS included."""

    arrays: dict[str, np.ndarray]
    name: str
    fingerprint: str  # of the source, the template, the vocabulary and the lengths
    truncated_inputs: int  # rows whose input was cut at the end
    truncated_targets: int
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
    def input_lengths(self) -> np.ndarray:
        """Tokens of each input, EOS included, int32 [rows]."""
        return np.diff(self.arrays["input_offsets"]).astype(np.int32)

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
        taken = {name: self.arrays[name][rows] for name in ("target_index", "choice_index", "labels")}
        taken |= {"input_tokens": self.arrays["input_tokens"][index], "input_offsets": starts}
        return dataclasses.replace(self, arrays=self.arrays | taken)

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


def tokenize(
    examples: Iterable[Example],
    tokenizer: Tokenizer,
    directory: str | Path,
    fingerprint: str,
    takes_eos: bool,
    max_input_length: int,
    max_target_length: int,
    name: str = "the data",
) -> Rows:
    """The tokenised rows of `examples`; if `directory` has them from an earlier call, no example is read.

    Args:
      fingerprint: `source_fingerprint` of the examples; vocabulary, lengths and `takes_eos` are added here.
      takes_eos: whether inputs end in EOS, also when cut. Targets and choices always do. An input without tokens is
        a single EOS, so that the mean over an input's tokens exists.
      name: of the data, for messages.

    Raises:
      UserError: there are no examples, two answer choices of one are the same tokens, or the directory cannot be
        written.
    """
    settings = (tokenizer.fingerprint, bool(takes_eos), max_input_length, max_target_length)
    fingerprint = combined_fingerprint(FORMAT, fingerprint, *settings)
    path = Path(directory) / fingerprint
    rows = opened(path)
    if rows is not None:
        return rows
    with partial_folder(Path(directory)) as partial:
        rows = tokenized(examples, tokenizer, fingerprint, takes_eos, max_input_length, max_target_length, name)
        write(rows, partial / fingerprint)
        if opened(path) is None:  # absent or damaged, unless another process was faster
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):  # it was, just now
                os.rename(partial / fingerprint, path)
    return opened(path) or rows


def combined_fingerprint(*parts: object) -> str:
    """16 hexadecimal digits over strings, numbers and booleans; the order counts."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def data_fingerprint(rows: Iterable[Rows]) -> str:
    """One fingerprint for all the data of a run, whatever the order of its tasks."""
    return combined_fingerprint(*sorted({part.fingerprint for part in rows}))


def tokenized(
    examples: Iterable[Example],
    tokenizer: Tokenizer,
    fingerprint: str,
    takes_eos: bool,
    max_input_length: int,
    max_target_length: int,
    name: str,
) -> Rows:
    """The rows, in memory."""
    inputs: list[np.ndarray] = []
    targets: dict[str, int] = {}
    choice_lists: dict[tuple[str, ...], int] = {}
    target_index, choice_index, labels = [], [], []
    remaining = watched(examples, f"Tokenising {name}, rows")
    while chunk := list(itertools.islice(remaining, CHUNK)):
        inputs += tokenizer.encode([example.input for example in chunk])
        target_index += [targets.setdefault(example.target, len(targets)) for example in chunk]
        choice_index += [choice_lists.setdefault(tuple(e.choices), len(choice_lists)) for e in chunk]
        labels += [example.label for example in chunk]
    if not inputs:
        raise UserError(
            f"{name} holds 0 examples, expected at least one: check task.name, task.template, the split and data.dir."
        )
    cut_inputs, input_cut = cut(inputs, max_input_length, takes_eos)
    cut_targets, target_cut = cut(tokenizer.encode(list(targets)), max_target_length, True)
    choice_tokens = tokenizer.encode([text for texts in choice_lists for text in texts])
    choices, _ = cut(choice_tokens, max_target_length, True)
    lists = {
        "input": ragged(cut_inputs),
        "target": ragged(cut_targets),
        "choice": ragged(choices),
    }
    texts, text_offsets = ragged([np.frombuffer(t.encode("utf-8", "surrogatepass"), np.uint8) for t in targets])
    counts = [len(texts) for texts in choice_lists]
    check_choices(choice_lists, choice_tokens, choices, max_target_length, name)
    arrays: dict[str, Any] = {f"{key}_tokens": values for key, (values, _) in lists.items()}
    arrays |= {f"{key}_offsets": offsets for key, (_, offsets) in lists.items()}
    arrays |= {"target_bytes": texts, "target_byte_offsets": text_offsets, "target_index": target_index}
    arrays |= {"choice_starts": np.cumsum([0, *counts]), "choice_index": choice_index, "labels": labels}
    return Rows(
        arrays={key: np.asarray(arrays[key], dtype) for key, dtype in ARRAYS.items()},
        name=name,
        fingerprint=fingerprint,
        truncated_inputs=int(input_cut.sum()),
        truncated_targets=int(target_cut[target_index].sum()),
        max_input_length=max(map(len, cut_inputs)),
        max_target_length=max(map(len, cut_targets + choices)),
        max_choices=max(counts),
    )


def check_choices(
    lists: Iterable[Sequence[str]],
    whole: Sequence[np.ndarray],
    kept: Sequence[np.ndarray],
    length: int,
    name: str,
) -> None:
    """Raises UserError for two choices of one list whose kept tokens are the same.

    Args:
      whole: the tokens of all lists' choices, end to end.
      kept: what is left of them at `length` tokens.
      name: of the data.
    """
    start = 0
    for texts in lists:
        first: dict[bytes, int] = {}
        for here in range(start, start + len(texts)):
            other = first.setdefault(kept[here].tobytes(), here)
            if other == here:
                continue
            pair = " and ".join(repr(texts[place - start][:SHOWN]) for place in (other, here))
            same = common_prefix(whole[other], whole[here])
            if same == max(len(whole[other]), len(whole[here])):
                raise UserError(
                    f"{name}: the answer choices {pair} differ as text, but not as tokens, so no score "
                    "distinguishes them: write one of them in other words, or choose a backbone of another vocabulary."
                )
            raise UserError(
                f"{name}: the answer choices {pair} are the same once they are cut to data.max_target_length={length} "
                f"tokens: set it to {same + 2} or more."
            )
        start += len(texts)


def common_prefix(a: np.ndarray, b: np.ndarray) -> int:
    """How many tokens two items start with in common."""
    shorter = min(len(a), len(b))
    differ = np.flatnonzero(a[:shorter] != b[:shorter])
    return int(differ[0]) if differ.size else shorter


def cut(items: Sequence[np.ndarray], length: int, ends_in_eos: bool) -> tuple[list[np.ndarray], np.ndarray]:
    """Each item cut to `length` tokens, its EOS included, and which items were cut."""
    end = np.array([EOS], np.int32)
    kept = [item[: length - ends_in_eos] for item in items]
    shorter = np.array([len(a) < len(b) for a, b in zip(kept, items, strict=True)], bool)
    return [np.concatenate([item, end]) if ends_in_eos or not len(item) else item for item in kept], shorter


def ragged(items: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The items end to end, and their offsets [items + 1]."""
    return np.concatenate([*items, np.empty(0, np.uint8)]), np.cumsum([0, *map(len, items)])


@contextlib.contextmanager
def partial_folder(directory: Path) -> Iterator[Path]:
    """A folder inside `directory` that is removed at the end; whole files are renamed out of it before."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=".partial-", dir=directory)
    except OSError as error:
        raise UserError(
            f"the folder {directory} cannot be written ({error.strerror}): set data.cache_dir to one that can."
        ) from error
    with folder as partial:
        yield Path(partial)


def write(rows: Rows, path: Path) -> None:
    """Writes rows into the new directory `path`: a .npy file for each array, and `manifest.json`.

    Raises OSError where `path` exists or cannot be written.
    """
    path.mkdir()
    for key, array in rows.arrays.items():
        np.save(path / f"{key}.npy", array)
    manifest = {field.name: getattr(rows, field.name) for field in dataclasses.fields(rows)[1:]}
    manifest["rules"] = RULES
    manifest["shapes"] = {key: array.shape for key, array in rows.arrays.items()}
    (path / "manifest.json").write_text(json.dumps(manifest | {"rows": len(rows)}, indent=1))


def opened(path: Path) -> Rows | None:
    """The rows that `write` saved at `path`; None if they are absent or damaged, or of other rules."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        arrays = {key: read_array(path / f"{key}.npy") for key in ARRAYS}
        shaped = all(list(array.shape) == manifest["shapes"][key] for key, array in arrays.items())
        if not shaped or manifest["rules"] != RULES:
            return None
        return Rows(arrays, **{field.name: manifest[field.name] for field in dataclasses.fields(Rows)[1:]})
    except (OSError, ValueError, EOFError, KeyError, TypeError):
        return None


def read_array(path: Path) -> np.ndarray:
    """An array from a .npy file, mapped read-only where the file is larger than MAPPED_BYTES."""
    return np.load(path, mmap_mode="r" if path.stat().st_size > MAPPED_BYTES else None, allow_pickle=False)
