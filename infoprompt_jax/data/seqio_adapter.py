"""seqio and TFDS: rows of TFDS data sets, and tasks as registered `seqio.Task`s and `seqio.Mixture`s.

This module and `seqio_registry.py` import TensorFlow, so others import them only when they need them. A registered task
reads rows (local files or TFDS) and renders them with its template into the features `inputs`, `targets` (text),
`choices` (text, rank 1) and `label`. Given a vocabulary, `inputs` and `targets` are token ids and the text is in
`inputs_pretokenized` and `targets_pretokenized`, for use with seqio's own feature converters and evaluator.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds
from seqio.vocabularies import Vocabulary

from infoprompt_jax import foreign
from infoprompt_jax.data import row_files
from infoprompt_jax.data.local_files import LocalSource, not_found
from infoprompt_jax.data.splits import split_bounds, split_name
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.errors import OfflineError, UserError
from infoprompt_jax.network import reachable

DOWNLOADS_FROM = "https://storage.googleapis.com"  # without a network TFDS itself gives up after minutes

# Data sets that TFDS names differently than Hugging Face, and splits; then columns, by TFDS's name.
TFDS_NAMES = {
    "ag_news": "ag_news_subset",
    "cnn_dailymail/3.0.0": "cnn_dailymail",
    "cos_e/v1.11": "cos_e",
    "imdb": "imdb_reviews",
    "paws/labeled_final": "paws_wiki/labeled_final_raw",
    "winogrande/winogrande_xl": "winogrande",
}
TFDS_SPLITS = {"winogrande/winogrande_xl": {"train": "train_xl"}}
TFDS_COLUMNS: dict[str, Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]]] = {
    "ag_news_subset": lambda row: {"text": tf.strings.join([row["title"], row["description"]], " ")},
    "anli": lambda row: {"premise": row["context"]},
    "hellaswag": lambda row: {"ctx": row["context"], "label": tf.strings.as_string(row["label"])},
    "winogrande": lambda row: {"answer": tf.strings.as_string(row["label"] + 1)},
}
JSON_ROW = "json_row"  # the one feature of rows read from files


class Splits(tuple):
    """Names of splits; a slice of a split is one of them too."""

    def __contains__(self, split: object) -> bool:
        return super().__contains__(split_name(str(split)))


class FileSource(seqio.FunctionDataSource):
    """Rows of local files for seqio, each a JSON object in the feature JSON_ROW."""

    def __init__(self, folder: str, dataset: str) -> None:
        self.source = LocalSource(folder, dataset)
        super().__init__(self._dataset, splits=self.source.splits)

    @property
    def splits(self) -> Splits:
        """The splits that have a file."""
        return Splits(self.source.splits)

    def _dataset(self, split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
        lines = tf.constant(self.source.lines(split))
        return tf.data.Dataset.from_tensor_slices(lines).map(lambda line: {JSON_ROW: line})

    def num_input_examples(self, split: str) -> int:
        """The number of rows in a split or slice."""
        return self.source.count(split)


class TfdsSource(seqio.TfdsDataSource):
    """Rows of a prepared TFDS data set, under the split and column names of the Hugging Face version."""

    def __init__(self, builder: tfds.core.DatasetBuilder, dataset: str, tfds_dir: str) -> None:
        self.renamed = TFDS_SPLITS.get(dataset, {})
        self.columns = TFDS_COLUMNS.get(builder.name, lambda row: {})
        name = builder.get_reference().tfds_name(include_version=True)
        super().__init__(name, tfds_data_dir=tfds_dir or None)

    @property
    def splits(self) -> Splits:
        """TFDS's splits, and the Hugging Face names of those that TFDS calls otherwise."""
        return Splits([*self.tfds_dataset.info.splits, *self.renamed])

    def _tfds_split(self, split: str) -> str:
        name = split_name(split)
        return self.renamed.get(name, name) + split[len(name) :]

    def get_dataset(self, split: str | None = None, *args: Any, **kwargs: Any) -> tf.data.Dataset:
        """The rows of a split or slice, "train" by default, with the columns of the Hugging Face version.

        Ragged columns are left out. The other arguments are those of `seqio.TfdsDataSource`.
        """
        dataset = super().get_dataset(self._tfds_split(split or "train"), *args, **kwargs)
        return dataset.map(lambda row: _dense(row | self.columns(row)))

    def num_input_examples(self, split: str) -> int:
        """The number of rows in a split or slice, from TFDS's metadata."""
        name = self._tfds_split(split_name(split))
        start, stop = split_bounds(split, self.tfds_dataset.info.splits[name].num_examples)
        return stop - start

    def count(self, split: str) -> int:
        """The number of rows in a split or slice."""
        return self.num_input_examples(split)

    def rows(self, split: str, kept: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        """The rows that `kept` [rows] marks, each with its number in the slice."""
        for number, row in enumerate(self.get_dataset(split, shuffle=False).as_numpy_iterator()):
            if kept[number]:
                yield number, plain(row)

    def size(self, split: str) -> int | None:
        """Not known: TFDS knows the bytes of its files, not of a slice's rows."""
        return None

    def fingerprint(self, split: str) -> str:
        """Of the rows of a split, without reading them: TFDS data sets of one version and size are the same."""
        info = self.tfds_dataset.info
        return f"{info.full_name} {split} {self.num_input_examples(split)} {info.dataset_size}"


def _dense(row: dict[str, Any]) -> dict[str, Any]:
    """The columns without ragged tensors, which `tf.numpy_function` does not take."""
    return {name: value for name, value in row.items() if all(map(tf.is_tensor, tf.nest.flatten(value)))}


def plain(value: Any) -> Any:
    """A tensor's value as the Python value that a JSON file would hold."""
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value.decode() if isinstance(value, bytes) else value


def leave_accelerators() -> None:
    """Keeps TensorFlow, which only reads data here, from taking the memory of the GPUs that JAX computes on."""
    with contextlib.suppress(RuntimeError):  # the program that calls this has begun to use TensorFlow itself
        tf.config.set_visible_devices([], "GPU")


def tfds_source(dataset: str, tfds_dir: str) -> TfdsSource:
    """The rows of a TFDS data set, prepared first if it is not.

    Raises:
      OfflineError: it is not prepared, and there is no network to download it.
      UserError: TFDS does not have it, or could not prepare it.
    """
    leave_accelerators()
    builder = _builder(dataset, tfds_dir)
    if not builder.is_prepared():
        _prepare(builder, dataset)
    return TfdsSource(builder, dataset, tfds_dir)


def is_prepared(dataset: str, tfds_dir: str) -> bool:
    """Whether TFDS has the data set on this machine. Raises UserError if TFDS does not know it."""
    return _builder(dataset, tfds_dir).is_prepared()


def _builder(dataset: str, tfds_dir: str) -> tfds.core.DatasetBuilder:
    try:
        return tfds.builder(TFDS_NAMES.get(dataset, dataset), data_dir=tfds_dir or None)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise not_found(
            dataset,
            f"TFDS has no data set {dataset!r}: change task.name, or set data.dir to a folder that holds "
            f"{dataset}/<split>{row_files.FORMATS}.",
        ) from error


def _prepare(builder: tfds.core.DatasetBuilder, dataset: str) -> None:
    elsewhere = f"prepare it on another machine and set data.tfds_dir, or set data.dir to a folder with {dataset}/"
    if not reachable(DOWNLOADS_FROM):
        raise not_found(
            dataset,
            f"{dataset} is not prepared in {builder.data_path} and there is no network to download it: {elsewhere}.",
            OfflineError,
        )
    try:
        with foreign.calling(f"TFDS could not prepare {dataset}", elsewhere):
            builder.download_and_prepare()
    except UserError as error:
        raise not_found(dataset, str(error)) from error


def render(dataset: tf.data.Dataset, task: Task) -> tf.data.Dataset:
    """The preprocessor of a registered task: rows as text, without those that the template does not apply to."""

    def as_text(structure: dict[str, Any], *values: Any) -> tuple[bytes, bytes, np.ndarray, np.int64]:
        row = plain(tf.nest.pack_sequence_as(structure, values))
        example = task.render(json.loads(row[JSON_ROW]) if JSON_ROW in row else row)
        if example is None:
            return b"", b"", np.array([], np.bytes_), np.int64(-1)
        choices = np.array([choice.encode() for choice in example.choices], object)
        return example.input.encode(), example.target.encode(), choices, np.int64(example.label)

    def features(row: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        types = (tf.string, tf.string, tf.string, tf.int64)
        values = tf.numpy_function(functools.partial(as_text, row), tf.nest.flatten(row), types)
        shapes = ((), (), (None,), ())
        values = [tf.ensure_shape(value, shape) for value, shape in zip(values, shapes, strict=True)]
        return dict(zip(("inputs", "targets", "choices", "label"), values, strict=True))

    return dataset.map(features).filter(lambda row: tf.strings.length(row["inputs"]) > 0)


def _features(vocabulary: Vocabulary | None, inputs_eos: bool) -> dict[str, Any]:
    if vocabulary:
        return {
            "inputs": seqio.Feature(vocabulary, add_eos=inputs_eos),
            "targets": seqio.Feature(vocabulary, add_eos=True),
        }
    text = seqio.PassThroughVocabulary(0)
    return {
        "inputs": seqio.Feature(text, add_eos=False, dtype=tf.string, rank=0),
        "targets": seqio.Feature(text, add_eos=False, dtype=tf.string, rank=0),
        "choices": seqio.Feature(text, add_eos=False, dtype=tf.string, rank=1),
        "label": seqio.Feature(text, add_eos=False, dtype=tf.int64, rank=0),
    }


def seqio_name(task: Task) -> str:
    """The name in seqio's registry, which takes no slashes or spaces: infoprompt:super_glue.rte:GPT_3_style."""
    dataset, template = (re.sub(r"[^\w.]+", "_", text.replace("/", ".")) for text in (task.name, task.template.name))
    return f"infoprompt:{dataset}:{template}"


def seqio_task(
    task: Task,
    vocabulary: Vocabulary | None = None,
    inputs_eos: bool = True,
    metric_fns: Sequence[Callable[..., Any]] = (),
) -> seqio.Task:
    """Registers the task with seqio and returns it; a task registered under its name before is replaced.

    Args:
      vocabulary: if given, `inputs` and `targets` are token ids of it, otherwise text.
      inputs_eos: whether `inputs` end in </s>, given a vocabulary. `targets` always do.
      metric_fns: what `seqio.Evaluator` computes, functions of (targets, predictions) or (targets, scores).

    Raises:
      UserError: the data set is not found. An error of a row is TensorFlow's, once the task is read.
    """
    leave_accelerators()
    source: Any = (  # seqio's own sources do not match the protocol that it names
        FileSource(task.folder, task.name) if task.folder else tfds_source(task.name, task.tfds_dir)
    )
    tokenize = [seqio.preprocessors.tokenize, seqio.preprocessors.append_eos] if vocabulary else []
    seqio.TaskRegistry.remove(seqio_name(task))
    return seqio.TaskRegistry.add(
        seqio_name(task),
        source=source,
        preprocessors=[functools.partial(render, task=task), *tokenize],
        output_features=_features(vocabulary, inputs_eos),
        metric_fns=list(metric_fns),
    )


def mixture(
    tasks: Sequence[Task],
    name: str,
    split: str = "train",
    temperature: float = 1.0,
    cap: int = 0,
    vocabulary: Vocabulary | None = None,
    inputs_eos: bool = True,
    metric_fns: Sequence[Callable[..., Any]] = (),
) -> seqio.Mixture:
    """Registers `infoprompt:<name>`: the tasks, mixed at rates min(rows of the split, cap) ** (1 / temperature).

    The other arguments, and errors, are those of `seqio_task`.
    """
    rate = functools.partial(seqio.mixing_rate_num_examples, maximum=cap or None, temperature=temperature, split=split)
    members = [seqio_task(task, vocabulary, inputs_eos, metric_fns) for task in tasks]
    seqio.MixtureRegistry.remove(f"infoprompt:{name}")
    return seqio.MixtureRegistry.add(f"infoprompt:{name}", [(member, rate) for member in members])
