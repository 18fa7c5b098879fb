"""Which prompt and which templates a row is read with: one prompt for all rows, the one that a column names, or the one
that a library's keys vote for.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import ml_collections
import numpy as np
from jax.sharding import Mesh

from infoprompt_jax import files
from infoprompt_jax.data.batches import complete
from infoprompt_jax.data.rows import combined_fingerprint
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.templates import Example
from infoprompt_jax.errors import UserError
from infoprompt_jax.prompts import saved
from infoprompt_jax.prompts.prompts import INITIALIZERS
from infoprompt_jax.prompts.saved import Prompt
from infoprompt_jax.rospr import opened, retrieval, source_keys
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.serving.engine import in_memory
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.training import recorded

Row = Mapping[str, Any]


class Chosen(NamedTuple):
    """A prompt with its name in predictions; both are None for the backbone alone."""

    name: str | None
    prompt: Prompt | None


class PromptSource(Protocol):
    """Where rows get their prompts.

    `fingerprint` identifies all prompts and templates that rows may get. `metrics` has the metric of each template, by
    (prompt, template); the prompt is "" where prompts share the templates.
    """

    fingerprint: str
    metrics: Mapping[tuple[str, str], str]

    def prepare(self, backbone: Backbone) -> None:
        """Loads what choosing needs. Raises UserError unless the prompts fit the backbone."""
        ...

    def tasks(self, row: Row) -> Sequence[Task]:
        """The templates that the row is read with. Raises UserError where the row names none."""
        ...

    def choose(self, rows: Sequence[Row], examples: Sequence[Example]) -> list[Chosen]:
        """The prompt of each of these rows, rendered as `examples`."""
        ...


class OnePrompt:
    """The prompt `prompt.init` for all rows; without one, the backbone alone."""

    def __init__(self, config: ml_collections.ConfigDict) -> None:
        """Raises UserError where the prompt or the templates cannot be read."""
        path = config.prompt.init
        prompt = saved.load_prompt(path, recorded.FIELD) if config.prompt.length else None
        self.chosen = Chosen(pathlib.Path(path).name if prompt else None, prompt)
        self._tasks = tasks_of_one_data_set(config)
        self.metrics: Mapping[tuple[str, str], str] = {("", task.template.name): task.metric for task in self._tasks}
        self.fingerprint = fingerprint([prompt] if prompt else [], self._tasks)

    def prepare(self, backbone: Backbone) -> None:
        """As `PromptSource.prepare`."""
        if self.chosen.prompt:
            check_prompt(self.chosen.prompt, backbone)

    def tasks(self, row: Row) -> Sequence[Task]:
        """The same for all rows."""
        return self._tasks

    def choose(self, rows: Sequence[Row], examples: Sequence[Example]) -> list[Chosen]:
        """The same for all rows."""
        return [self.chosen] * len(rows)


class ByColumn:
    """The prompt in the directory `prompt.init` that the row's column `prompt.by` names, with its own templates."""

    def __init__(self, config: ml_collections.ConfigDict) -> None:
        """Raises UserError where the directory holds no prompts, one cannot be read, or none has templates to use.

        A prompt whose templates cannot be used is refused where a row names it.
        """
        self.column, directory = config.prompt.by, config.prompt.init
        places = {place.name: place for place in saved.listed(directory) if place != files.path(directory)}
        if not places:
            raise UserError(
                f"prompt.by={self.column!r} needs a directory of prompts in prompt.init, but {directory!r} holds none: "
                "set prompt.init to a directory such as runs/rte/prompts."
            )
        self.prompts = {name: saved.load_prompt(place, recorded.FIELD) for name, place in places.items()}
        self._tasks: dict[str, Sequence[Task]] = {}
        self._refused: dict[str, UserError] = {}
        for name, place in places.items():
            try:
                self._tasks[name] = self._tasks_of(config, str(place))
            except UserError as error:
                self._refused[name] = error
        if not self._tasks:
            raise next(iter(self._refused.values()))
        self.metrics: Mapping[tuple[str, str], str] = {
            (name, task.template.name): task.metric for name, tasks in self._tasks.items() for task in tasks
        }
        every_task = [task for tasks in self._tasks.values() for task in tasks]
        self.fingerprint = combined_fingerprint(*self.prompts, fingerprint(list(self.prompts.values()), every_task))

    @staticmethod
    def _tasks_of(config: ml_collections.ConfigDict, path: str) -> Sequence[Task]:
        config = config.copy_and_resolve_references()
        config.prompt.init = path
        if not config.task.template and not config.task.input:
            config.task.name = ""
        try:
            return tasks_of_one_data_set(config)
        except UserError as error:
            raise UserError(f"The prompt in {path!r}: {error}") from error

    def _name(self, row: Row) -> str:
        if self.column not in row:
            raise UserError(
                f"it has no column {self.column!r}, which prompt.by names; its columns are {', '.join(row)}."
            )
        if (name := str(row[self.column])) not in self.prompts:
            raise UserError(
                f"its column {self.column!r} (prompt.by) is {name!r}, but prompt.init holds the prompts "
                f"{', '.join(self.prompts)}."
            )
        if name in self._refused:
            raise self._refused[name]
        return name

    def prepare(self, backbone: Backbone) -> None:
        """As `PromptSource.prepare`."""
        for prompt in self.prompts.values():
            check_prompt(prompt, backbone)

    def tasks(self, row: Row) -> Sequence[Task]:
        """Those of the row's prompt."""
        return self._tasks[self._name(row)]

    def choose(self, rows: Sequence[Row], examples: Sequence[Example]) -> list[Chosen]:
        """The prompt that each row names."""
        return [Chosen(name, self.prompts[name]) for name in map(self._name, rows)]


class FromLibrary:
    """For each row the source prompt that wins the votes of its own nearest keys (RoSPr, `retrieval.per_query`)."""

    def __init__(self, config: ml_collections.ConfigDict, library: PromptLibrary) -> None:
        """Raises UserError where the templates cannot be read."""
        self.config, self.library = config, library
        self._tasks = tasks_of_one_data_set(config)
        self.metrics: Mapping[tuple[str, str], str] = {("", task.template.name): task.metric for task in self._tasks}
        self.fingerprint = combined_fingerprint(library.fingerprint, fingerprint([], self._tasks))
        self._chosen = functools.lru_cache(maxsize=4096)(self._source_prompt)

    def prepare(self, backbone: Backbone) -> None:
        """Loads the retriever. Raises UserError where the library was made with another one, or another backbone."""
        self.retriever = opened.load_retriever(self.config, self.library, backbone)

    def tasks(self, row: Row) -> Sequence[Task]:
        """The same for all rows."""
        return self._tasks

    def choose(self, rows: Sequence[Row], examples: Sequence[Example]) -> list[Chosen]:
        """The winner of each example's votes."""
        data = self.config.data
        instances = in_memory(examples, self.retriever, data)
        buckets = complete(data.buckets, data.max_input_length)
        queries_QR = source_keys.encode(self.retriever, instances, np.arange(len(instances)), buckets)
        hits = retrieval.search(self.library, queries_QR, self.config.rospr.top)
        return [self._chosen(int(owner)) for owner in retrieval.per_query(hits)]

    def _source_prompt(self, owner: int) -> Chosen:
        return Chosen(self.library.entries[owner].name, Prompt(np.array(self.library.prompts(owner))))


def prompt_source(config: ml_collections.ConfigDict, mesh: Mesh) -> PromptSource:
    """The source that a config names: `rospr.library`, `prompt.by` or `prompt.init`. To be prepared before use.

    Raises:
      UserError: a prompt, the library or a template cannot be read.
    """
    if config.rospr.library:
        return FromLibrary(config, opened.open_library(config, mesh))
    return ByColumn(config) if config.prompt.by else OnePrompt(config)


def check_prompt(prompt: Prompt, backbone: Backbone) -> None:
    """Raises UserError unless the prompt was trained on this backbone."""
    saved.check_prompt(prompt, backbone.config.d_model, backbone.fingerprint, "prompt.init")


def tasks_of_one_data_set(config: ml_collections.ConfigDict) -> Sequence[Task]:
    """The config's templates. Rows come from elsewhere, so the data set need not be there.

    Raises UserError where the templates cannot be read, or belong to several data sets.
    """
    config = config.copy_and_resolve_references()
    config.data.dir = ""
    if config.task.input:
        config.task.name = config.task.name or "rows"  # of no known data set
    if config.task.input and not config.task.target:  # which only labelled rows need
        config.task.target = "{{ answer_choices[label] }}" if config.task.answer_choices else "{{ target }}"
    if not config.task.name and config.prompt.init in INITIALIZERS:
        raise UserError(
            "No template is set: set task.input and task.answer_choices for your own, task.name for those of a data "
            "set or, without rospr.library, prompt.init to a saved prompt that records some."
        )
    tasks = recorded.tasks(config)
    datasets = list(dict.fromkeys(task.name for task in tasks))
    if len(datasets) > 1:
        alone = ", and prompt.init to this prompt alone, without prompt.by" if config.prompt.by else ""
        raise UserError(
            f"The templates belong to several data sets, {', '.join(datasets)}: set task.name to the one that the rows "
            f"are like{alone}."
        )
    return tasks


def fingerprint(prompts: Sequence[Prompt], tasks: Sequence[Task]) -> str:
    """Of the prompts' values, of the parts trained with them, and of the templates, in this order."""
    tensors = [sorted({"value": prompt.value_PD, **prompt.tensors}.items()) for prompt in prompts]
    of_tensors = [f"{name} {saved.digest(array)}" for named in tensors for name, array in named]
    of_templates = [f"{task.template.jinja} {task.template.answer_choices}" for task in tasks]
    return combined_fingerprint(*of_tensors, *of_templates)
