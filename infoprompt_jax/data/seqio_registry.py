"""What is in seqio's registry, read as rows: tasks that the user's own module registers.

An example becomes a row of the columns `inputs`, `targets`, `choices` ([] for free text) and, if any, `label`. The
texts are those of `inputs_pretokenized` and `targets_pretokenized`; where these are absent, those of `inputs` and
`targets`, whose token ids are decoded by their vocabulary up to EOS. Choices are `answer_choices` or `choices`.

A task of rank classification has an example for each choice, with `idx` and `is_correct` (t5's `rank_classification`,
T0's `*_score_eval`); those of one question become one row. A task that is cached is read from its cache (P3's are).
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import importlib
import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import seqio
import tensorflow as tf

from infoprompt_jax import foreign
from infoprompt_jax.data import seqio_adapter
from infoprompt_jax.data.local_files import MemorySource
from infoprompt_jax.data.seqio_adapter import leave_accelerators, plain
from infoprompt_jax.data.splits import split_name
from infoprompt_jax.errors import OfflineError, UserError
from infoprompt_jax.network import reachable

CHOICES = ("answer_choices", "choices")
RANKED = ("idx", "is_correct")  # features of an example that is one choice of a question
READ = ("inputs", "targets", "inputs_pretokenized", "targets_pretokenized", "label", *CHOICES, *RANKED)
MODULE = "correct task.module, whose code this is"  # the remedy
SEED = 0  # of preprocessors that draw


class RegisteredSource(MemorySource):
    """The rows of a registered task. Raises UserError as `find` does."""

    def __init__(self, name: str, module: str) -> None:
        self.task = find(name, module)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits of the task. Raises UserError where its source knows none."""
        return _splits(self.task)

    def read(self, name: str) -> list[str]:
        """Every row of a split, as a JSON object."""
        return _lines(self.task, name)

    def size(self, split: str) -> int | None:
        """Not known before the rows are read."""
        return None

    def fingerprint(self, split: str) -> str:
        """SHA-256 of the rows: what a task reads and does cannot be seen from outside."""
        return hashlib.sha256("\n".join(self.read(split_name(split))).encode()).hexdigest()


def find(name: str, module: str) -> Any:
    """The registered task or mixture, once the module is imported.

    Raises:
      UserError: the module cannot be imported, or nothing of that name is registered.
    """
    leave_accelerators()
    if module:
        _import(module)
    known = [*seqio.MixtureRegistry.names(), *seqio.TaskRegistry.names()]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        listed = f"the nearest are {', '.join(near)}" if near else f"{len(known)} tasks and mixtures are"
        raise UserError(
            f"seqio has no task or mixture {name!r} after importing task.module={module!r}; {listed}: change task.name "
            "or task.module."
        )
    return seqio.get_mixture_or_task(name)


def _import(module: str) -> None:
    """Imports the module as `python -m` would: one of the current directory, too."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        with foreign.calling(f"task.module={module!r} cannot be imported", "correct it"):
            importlib.import_module(module)
    finally:
        sys.path.remove(here)


def rates(name: str, module: str) -> dict[str, float | None]:
    """The mixture's tasks by name, each with its rate; None for a task that is registered by itself.

    Raises:
      UserError: as `find`, or a rate cannot be computed.
    """
    provider = find(name, module)
    if isinstance(provider, seqio.Task):
        return {name: None}
    with foreign.calling(f"The rates of the seqio mixture {name!r} cannot be computed", MODULE):
        return {task.name: float(provider.get_rate(task)) for task in provider.tasks}


def has_choices(name: str, module: str) -> bool:
    """Whether the task's first example has answer choices. Raises UserError if it cannot be read."""
    task = find(name, module)
    row = next(_rows(task, _splits(task)[0]), None)
    return bool(row and row["choices"])


def _splits(task: Any) -> tuple[str, ...]:
    with foreign.calling(f"seqio knows no splits of {task.name}", MODULE):
        if isinstance(task.source, seqio.TfdsDataSource) and not task.cache_dir:
            _check_prepared(task.name, task.source.tfds_dataset.builder)
        return tuple(task.splits)


def _check_prepared(name: str, builder: Any) -> None:
    """Raises OfflineError at once where TFDS would try to download for minutes."""
    if not builder.is_prepared() and not reachable(seqio_adapter.DOWNLOADS_FROM):
        raise OfflineError(
            f"{name} of seqio reads {builder.info.full_name} of TFDS, which is not prepared in {builder.data_path}, "
            "and there is no network to download it: prepare it on another machine."
        )


@functools.lru_cache(maxsize=4)
def _lines(task: Any, split: str) -> list[str]:
    return [json.dumps(row) for row in _rows(task, split)]


def _rows(task: Any, split: str) -> Iterator[dict[str, Any]]:
    """Raises UserError for whatever goes wrong in the task's own code."""
    if task.requires_caching and not task.cache_dir:
        raise UserError(
            f"{task.name} of seqio is read from a cache alone, and none is there: name its folder in task.module, with "
            "seqio.add_global_cache_dirs."
        )
    with foreign.calling(f"seqio cannot read {task.name}, {split}", MODULE):
        dataset: Any = _dataset(task, split)
        dataset = dataset.map(lambda example: {name: example[name] for name in READ if name in example})
        examples = (plain(example) for example in dataset.as_numpy_iterator())
        ranked = set(RANKED) <= dataset.element_spec.keys()
        yield from _questions(task, examples) if ranked else (_row(task, example) for example in examples)


def _dataset(task: Any, split: str) -> tf.data.Dataset:
    """The examples in order, from the cache if there is one; what preprocessors draw is the same every time."""
    if task.supports_caching and task.cache_dir:
        return task.get_dataset(split=split, use_cached=True, shuffle=False, seed=SEED, try_in_mem_cache=False)
    # `get_dataset` gives the seed to the source, too, which not every function takes.
    rows = task.source.get_dataset(split=split, shuffle=False)
    return task.preprocess_postcache(task.preprocess_precache(rows, seed=SEED), sequence_length=None, seed=SEED)


def _row(task: Any, example: Mapping[str, Any]) -> dict[str, Any]:
    choices = next((example[name] for name in CHOICES if name in example), [])
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise UserError(f"{task.name} of seqio has answer choices that are no list of texts: {choices!r}.")
    row = {name: _text(task, example, name) for name in ("inputs", "targets")} | {"choices": choices}
    label = example.get("label")
    return row | ({"label": label} if isinstance(label, int) else {})


def _text(task: Any, example: Mapping[str, Any], name: str) -> str:
    value = example.get(f"{name}_pretokenized", example.get(name))
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not all(isinstance(token, int) for token in value):
        raise UserError(f"{task.name} of seqio has no feature {name!r} of text or of token ids: it has {value!r}.")
    vocabulary = task.output_features[name].vocabulary
    return vocabulary.decode(list(itertools.takewhile(lambda token: token != vocabulary.eos_id, value)))


def _questions(task: Any, examples: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """One row of the examples that are the choices of one question.

    Where several choices are correct, the first is the target and the others are left out, as in BIG-bench's tasks.
    A question without a correct choice has the label -1.
    """
    for number, group in itertools.groupby(examples, key=lambda example: example["idx"][:-1]):
        listed = [(_row(task, example), bool(example["is_correct"])) for example in group]
        if len({row["inputs"] for row, _ in listed}) > 1:
            raise UserError(
                f"{task.name} of seqio asks question {number} with different inputs for its choices, which cannot be "
                "ranked: use a task with the choices in `answer_choices`."
            )
        target = next((row["targets"] for row, correct in listed if correct), None)
        choices = [row["targets"] for row, correct in listed if not correct or row["targets"] == target]
        unlabelled = {"targets": choices[0], "label": -1} if target is None else {"targets": target}
        yield {"inputs": listed[0][0]["inputs"], "choices": choices, **unlabelled}
