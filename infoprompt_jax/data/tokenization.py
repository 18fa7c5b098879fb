"""From the examples of tasks to their tokenised rows, which are read from the cache if it has them.

All parts of a call, each a (task, split), are tokenised together and kept in one folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infoprompt_jax.data.rows import ARRAYS, FORMAT, Rows, combined_fingerprint, described, opened, write
from infoprompt_jax.data.templates import Example
from infoprompt_jax.errors import UserError
from infoprompt_jax.progress import watched
from infoprompt_jax.t5.tokenizer import EOS, Tokenizer

log = logging.getLogger(__name__)

SHOWN = 200  # characters of an answer choice in a message
CHUNK = 8192  # examples per call of the tokenizer, which spreads them over its threads
LONGEST_WRITE = 7 * 24 * 3600  # seconds after which a folder that is being written belongs to no process any more


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """What the rows of one (task, split) are made from."""

    examples: Iterable[Example | None]  # None: a row that the template does not apply to
    fingerprint: str  # `source_fingerprint` of the examples
    name: str = "the data"  # for messages


def tokenize(
    examples: Iterable[Example | None],
    tokenizer: Tokenizer,
    directory: str | Path,
    fingerprint: str,
    takes_eos: bool,
    max_input_length: int,
    max_target_length: int,
    name: str = "the data",
) -> Rows:
    """`tokenize_parts` of one part."""
    part = Part(examples, fingerprint, name)
    return tokenize_parts([part], tokenizer, directory, takes_eos, max_input_length, max_target_length)[0]


def tokenize_parts(
    parts: Sequence[Part],
    tokenizer: Tokenizer,
    directory: str | Path,
    takes_eos: bool,
    max_input_length: int,
    max_target_length: int,
) -> list[Rows]:
    """The tokenised rows of each part; if `directory` has these parts from an earlier call, no example is read.

    A part's fingerprint is that of its source, the vocabulary, the lengths and `takes_eos`: it does not depend on the
    other parts, and neither do the batches of its rows.

    Args:
      takes_eos: whether inputs end in EOS, also when cut. Targets and choices always do. An input without tokens is
        a single EOS, so that the mean over an input's tokens exists.

    Raises:
      UserError: a part has no examples, two answer choices of one are the same tokens, or the directory cannot be
        written.
    """
    settings = (tokenizer.fingerprint, bool(takes_eos), max_input_length, max_target_length)
    fingerprints = [combined_fingerprint(FORMAT, part.fingerprint, *settings) for part in parts]
    together = fingerprints[0] if len(parts) == 1 else combined_fingerprint("parts", *fingerprints)
    path = Path(directory) / together
    rows = opened(path)
    if rows is None:
        with partial_folder(Path(directory)) as partial:
            made = tokenized(parts, tokenizer, together, takes_eos, max_input_length, max_target_length)
            keep(made, partial / together, path)
        rows = opened(path) or made
    if len(parts) == 1:
        return [rows]
    return [rows.part(n, part.name, fingerprints[n]) for n, part in enumerate(parts)]


def tokenized(
    parts: Sequence[Part],
    tokenizer: Tokenizer,
    fingerprint: str,
    takes_eos: bool,
    max_input_length: int,
    max_target_length: int,
) -> Rows:
    """The rows of all parts, in memory and in their order. Raises as `tokenize_parts` does, but writes nothing."""
    inputs: list[np.ndarray] = []
    targets: dict[str, int] = {}
    choice_lists: dict[tuple[str, ...], int] = {}
    target_index, choice_index, labels, part_of = [], [], [], []
    name = parts[0].name if len(parts) == 1 else f"{parts[0].name} and {len(parts) - 1} more"
    left_out = np.zeros(len(parts), np.int64)
    remaining = watched(fitting(parts, left_out), f"Tokenising {name}, rows")
    while chunk := list(itertools.islice(remaining, CHUNK)):
        inputs += tokenizer.encode([example.input for _, example in chunk])
        target_index += [targets.setdefault(example.target, len(targets)) for _, example in chunk]
        choice_index += [choice_lists.setdefault(tuple(e.choices), len(choice_lists)) for _, e in chunk]
        labels += [example.label for _, example in chunk]
        part_of += [number for number, _ in chunk]
    part_starts = np.searchsorted(part_of, np.arange(len(parts) + 1))
    if empty := next((part for part, rows in zip(parts, np.diff(part_starts), strict=True) if not rows), None):
        raise UserError(
            f"{empty.name} holds 0 examples, expected at least one: check task.name, task.template, the split and "
            "data.dir."
        )
    cut_inputs, input_cut = cut(inputs, max_input_length, takes_eos)
    cut_targets, target_cut = cut(tokenizer.encode(list(targets)), max_target_length, True)
    choice_tokens = tokenizer.encode([text for texts in choice_lists for text in texts])
    choices, choice_cut = cut(choice_tokens, max_target_length, True)
    names = [parts[part_of[row]].name for row in np.unique(choice_index, return_index=True)[1]]
    check_choices(choice_lists, choice_tokens, choices, max_target_length, names)
    lists = {
        "input": ragged(cut_inputs),
        "target": ragged(cut_targets),
        "choice": ragged(choices),
    }
    texts, text_offsets = ragged([np.frombuffer(t.encode("utf-8", "surrogatepass"), np.uint8) for t in targets])
    arrays: dict[str, Any] = {f"{key}_tokens": values for key, (values, _) in lists.items()}
    arrays |= {f"{key}_offsets": offsets for key, (_, offsets) in lists.items()}
    arrays |= {"target_bytes": texts, "target_byte_offsets": text_offsets, "target_index": target_index}
    arrays |= {"choice_starts": np.cumsum([0, *map(len, choice_lists)]), "choice_index": choice_index, "labels": labels}
    arrays |= {"input_cut": input_cut, "target_cut": target_cut, "choice_cut": choice_cut}
    arrays |= {"part_starts": part_starts, "left_out": left_out}
    return described({key: np.asarray(arrays[key], dtype) for key, dtype in ARRAYS.items()}, name, fingerprint)


def fitting(parts: Sequence[Part], left_out: np.ndarray) -> Iterator[tuple[int, Example]]:
    """The examples, each with the number of its part; `left_out` [parts] counts the rows that are none."""
    for number, part in enumerate(parts):
        for example in part.examples:
            if example is None:
                left_out[number] += 1
            else:
                yield number, example


def check_choices(
    lists: Iterable[Sequence[str]],
    whole: Sequence[np.ndarray],
    kept: Sequence[np.ndarray],
    length: int,
    names: Sequence[str],
) -> None:
    """Raises UserError for two choices of one list whose kept tokens are the same.

    Args:
      whole: the tokens of all lists' choices, end to end.
      kept: what is left of them at `length` tokens.
      names: of the data that each list belongs to.
    """
    start = 0
    for name, texts in zip(names, lists, strict=True):
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


def keep(rows: Rows, partial: Path, path: Path) -> None:
    """Writes rows to `path` by way of `partial`; where there is no room, the rows stay in memory and a warning says so.

    Rows at `path` that are damaged are replaced, whole ones, of another process that was faster, are left.
    """
    try:
        write(rows, partial)
    except OSError as error:
        log.warning("The tokens of %s cannot be kept in %s (%s): see data.cache_dir.", rows.name, path.parent, error)
        return
    if opened(path) is None:
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):  # another process was faster, just now
            os.rename(partial, path)


@contextlib.contextmanager
def partial_folder(directory: Path) -> Iterator[Path]:
    """A folder inside `directory` that is removed at the end; whole files are renamed out of it before."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for leftover in directory.glob(".partial-*"):  # of a process that was killed; another host's may be at work
            with contextlib.suppress(FileNotFoundError):  # that of another run, which ends just now
                if time.time() - leftover.stat().st_mtime > LONGEST_WRITE:
                    shutil.rmtree(leftover, ignore_errors=True)
        folder = tempfile.TemporaryDirectory(prefix=".partial-", dir=directory)
    except OSError as error:
        raise UserError(
            f"the folder {directory} cannot be written ({error.strerror}): set data.cache_dir to one that can."
        ) from error
    with folder as partial:
        yield Path(partial)
