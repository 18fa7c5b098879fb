"""Tasks: a data set times a hard prompt, and the text examples that come out.

Rows come from local files or from TFDS, the hard prompt turns a row into an input, a target and answer choices, and
seqio runs the pipeline: every task is a registered `seqio.Task` and several make a `seqio.Mixture` (`seqio_tasks.py`).
Choosing tasks needs neither TensorFlow nor seqio; they are imported when examples are asked for.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import os
import sys
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import ml_collections

from infoprompt_jax.data import bigbench
from infoprompt_jax.data.columns import complete
from infoprompt_jax.data.local_files import drawn, find_files, fingerprint, split_name
from infoprompt_jax.data.templates import SEPARATOR, Template, choose, load_templates
from infoprompt_jax.errors import UserError
from infoprompt_jax.nano import world

log = logging.getLogger(__name__)

# What picks the best prompt where it is not accuracy (answer choices) or exact match (free text).
METRICS = {
    "glue/cola": "matthews",
    "super_glue/cb": "macro_f1",
    "sem_eval_2010_task_8": "macro_f1",
}
NO_LABEL = (-1, "-1", "")  # in test splits whose answers are kept secret


@dataclasses.dataclass(frozen=True)
class Example:
    """One row as text. `choices` is () and `label` -1 where the answer is free text."""

    input: str
    target: str
    choices: tuple[str, ...]
    label: int


@dataclasses.dataclass(frozen=True)
class Task:
    """One data set with one hard prompt."""

    name: str  # of the data set: super_glue/rte
    prompt: Template
    metric: str
    folder: str = ""  # of local files; "" = TFDS
    tfds_dir: str = ""

    @property
    def template(self) -> str:
        return self.prompt.name

    @property
    def id(self) -> str:
        return f"{self.name}:{self.template}"

    @property
    def choices(self) -> tuple[str, ...] | None:
        """The answer choices; () for free text, None where they differ by row."""
        return self.prompt.fixed_choices

    def render(self, row: Mapping[str, Any]) -> Example | None:
        """The row as text; None if the hard prompt does not apply to it, or it has no label.

        Raises UserError for what `Template.render` refuses and for a target that is not one of the choices.
        """
        if _is_unlabelled(row) and self.choices != ():
            return None
        text = self.prompt.render(complete(self.name, row))
        if text is None:
            return None
        if text.choices and text.target not in text.choices:
            raise UserError(
                f"{self.prompt} has the target {text.target!r}, which is not one of its answer choices "
                f"{', '.join(text.choices)}; see task.template, task.target and task.answer_choices."
            )
        label = text.choices.index(text.target) if text.choices else -1
        return Example(text.input, text.target, text.choices, label)


def _is_unlabelled(row: Mapping[str, Any]) -> bool:
    """Whether the row has a label, but one that says that there is none."""
    label = row.get("label", 0)
    return label is None or label in NO_LABEL or label != label  # the last is NaN


def find_tasks(config: ml_collections.ConfigDict) -> tuple[Task, ...]:
    """The tasks that `config.task` names: each of its data sets with each of the hard prompts asked for.

    Raises UserError for an unknown data set in `data.dir` (TFDS is asked once examples are read) or hard prompt, and
    for a data set to train on that is there to evaluate on.
    """
    names = [name.strip() for name in config.task.name.split(",") if name.strip()]
    if not names:
        raise UserError("task.name is empty; give it a data set such as super_glue/rte.")
    for name in names:
        if config.job == "train" and bigbench.is_task(name):
            raise bigbench.evaluation_only(name)
    folders = {name: _folder(config.data, name) for name in names}
    for name, folder in folders.items():
        if folder:
            find_files(folder, name)
    return tuple(
        Task(name, prompt, _metric(config, name, prompt), folder, config.data.tfds_dir)
        for name, folder in folders.items()
        for prompt in _prompts(config, name)
    )


def _folder(data: ml_collections.ConfigDict, name: str) -> str:
    """Where the files of a data set are: `data.dir`, or those of the generated world; "" = TFDS."""
    return str(world.folder(data.cache_dir, name)) if name.startswith(world.PREFIX) and not data.dir else data.dir


def _metric(config: ml_collections.ConfigDict, name: str, prompt: Template) -> str:
    free = not prompt.answer_choices
    metric = config.task.metric or ("exact_match" if free else METRICS.get(name, "accuracy"))
    if free != (metric == "exact_match"):
        has = "free text as its answer" if free else "answer choices"
        raise UserError(f"task.metric={metric!r} does not fit {name}, {prompt}, which has {has}: leave it empty.")
    return metric


def _prompts(config: ml_collections.ConfigDict, name: str) -> list[Template]:
    task = config.task
    if not (task.input or task.target):
        if task.answer_choices:
            raise UserError(
                f"task.answer_choices={task.answer_choices!r} belongs to task.input and task.target, which are empty: "
                "set these too, or leave it to the templates."
            )
        return choose(load_templates(task.templates_dir, name), task.template)
    if not (task.input and task.target):
        raise UserError("Only one of task.input and task.target is set; own data needs both, such as {{ text }}.")
    if task.templates_dir:
        raise UserError(
            f"task.input and task.templates_dir={task.templates_dir!r} are both set, but hard prompts come from "
            "one of them: leave task.templates_dir empty, or task.input, task.target and task.answer_choices "
            "(as configs/own_data.py:templates does)."
        )
    jinja = f"{task.input} {SEPARATOR} {task.target}"
    identity = str(uuid.uuid5(uuid.NAMESPACE_OID, jinja + SEPARATOR + task.answer_choices))
    template = Template(f"inline {identity[:6]}", identity, jinja, task.answer_choices)
    if template.repeated:
        raise UserError(
            f"task.answer_choices={task.answer_choices!r} lists {template.repeated[0]!r} more than once: write each "
            "answer once; task.target may give it for several labels."
        )
    return [template]


def examples(task: Task, split: str, limit: int = 0) -> Iterator[Example]:
    """The examples of a split, or of a slice such as train[:90%], in the order of the source, by way of seqio.

    Rows that the hard prompt does not apply to are left out; how many is logged. If `limit` is positive, only so many
    rows are rendered, those that `sources.drawn` picks. Raises UserError if the data set or split is not there, a row
    cannot be rendered (with its number), or no row is left.
    """
    seqio_adapter = _seqio_tasks()
    pipeline = seqio_adapter.seqio_task(task)
    _check_split(task, split, pipeline.splits)
    renderer = next(step for step in pipeline.preprocessors if isinstance(step, seqio_adapter.Renderer))
    renderer.failures = failures = []
    rows = pipeline.num_input_examples(split)  # also refuses a slice that is out of range
    renderer.kept = drawn(rows, limit) if 0 < limit < rows else None
    dataset = pipeline.get_dataset(split=split, shuffle=False)
    renderer.kept = None  # whoever reads the task next reads all of it
    count = 0
    for count, row in enumerate(dataset.as_numpy_iterator(), 1):  # noqa: B007
        yield _example(row)
    if failures:  # asked only now: rows are rendered in parallel, and the first one is to be named
        index, error = min(failures, key=lambda failure: failure[0])
        raise UserError(f"{task.name}, {split}, row {index} (from 0): {error}") from error
    _report(task, split, count, renderer.skipped)


@functools.cache
def _seqio_tasks() -> ModuleType:
    """The module that imports TensorFlow, without the notes that TensorFlow's start writes to file descriptor 2."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        from infoprompt_jax.data import seqio_adapter

        seqio_adapter.tf.config.set_visible_devices([], "GPU")  # it only reads data; the accelerators are JAX's
        return seqio_adapter
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def is_prepared(dataset: str, tfds_dir: str) -> bool:
    """Whether TFDS has the data set on this machine. Raises UserError if TFDS does not know it."""
    return _seqio_tasks().is_prepared(dataset, tfds_dir)


def _check_split(task: Task, split: str, present: Collection[str]) -> None:
    if split_name(split) not in present:
        if bigbench.is_task(task.name) and split_name(split) == "train":
            raise bigbench.evaluation_only(task.name)
        raise UserError(
            f"{task.name} has no split {split_name(split)!r}, only {', '.join(present)}; change task.train_split, "
            "task.eval_split or task.test_split."
        )


def _example(row: Mapping[str, Any]) -> Example:
    choices = tuple(choice.decode() for choice in row["choices"])
    return Example(row["inputs"].decode(), row["targets"].decode(), choices, int(row["label"]))


def _report(task: Task, split: str, count: int, skipped: int) -> None:
    if not count:
        raise UserError(
            f"None of the {skipped} rows of {task.name}, {split}, fits {task.prompt}: they have no label, or it leaves "
            "input or target empty or gives no two answer choices that differ; change task.template, or the split in "
            "task or rospr.query_split."
        )
    if repeated := task.prompt.repeated:
        log.warning("%s lists %r for more than one label: it counts as one answer.", task.prompt, repeated[0])
    if skipped:
        log.info("%s, %s: %d rows, %d more that the template does not apply to", task.id, split, count, skipped)


def source_fingerprint(task: Task, split: str, limit: int = 0) -> str:
    """Of all that the examples of a split depend on: the data, the slice, the limit, the hard prompt.

    Files are hashed, so that a cached tokenisation of theirs is found without TensorFlow. Raises as `examples` does.
    """
    if task.folder:
        files = find_files(task.folder, task.name)
        _check_split(task, split, files)
        rows = fingerprint(files[split_name(split)])
    else:
        tfds_source = _seqio_tasks().tfds_source

        source = tfds_source(task.name, task.tfds_dir)
        _check_split(task, split, source.splits)
        rows = source.fingerprint(split)
    prompt = (task.prompt.id, task.prompt.jinja, task.prompt.answer_choices)
    limited = (limit,) if limit else ()
    return hashlib.sha256(json.dumps([rows, split, *prompt, *limited]).encode()).hexdigest()


def rates(tasks: Sequence[Task], rows: Sequence[int], temperature: float = 1.0, cap: int = 0) -> list[float]:
    """How often each task of a mixture is drawn, relative to the others: min(rows, cap) ** (1 / temperature).

    As `seqio.mixing_rate_num_examples`; `rows` are the tasks' training rows, cap 0 is no cap.
    """
    if temperature <= 0:
        raise UserError(f"task.temperature is {temperature}, but must be above 0.")
    counted = [min(count, cap or count) for _, count in zip(tasks, rows, strict=True)]
    return [float(count) ** (1.0 / temperature) for count in counted]
