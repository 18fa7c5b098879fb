"""What a config selects: tasks, each a data set that `task.name` lists with a template that `task.template` selects.

A data set that is listed by its own name must be there. A word such as `p3` may stand for a collection of data sets:
of these, what is not on this machine, or does not fit, is skipped with the reason.
"""

from __future__ import annotations

import dataclasses
import pathlib
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence

import ml_collections

from infoprompt_jax.data import bigbench, row_files
from infoprompt_jax.data.datasets import Dataset
from infoprompt_jax.data.examples import rendered
from infoprompt_jax.data.local_files import check_folder, find_files, not_found
from infoprompt_jax.data.registered_tasks import is_registered, registered_tasks
from infoprompt_jax.data.splits import split_name
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.template_yaml import choose, load_templates
from infoprompt_jax.data.templates import SEPARATOR, Template
from infoprompt_jax.errors import UserError
from infoprompt_jax.nano import world

# The metric that selects the best prompt, for data sets where it is neither accuracy nor exact match.
METRICS = {
    "glue/cola": "matthews",
    "super_glue/cb": "macro_f1",
    "sem_eval_2010_task_8": "macro_f1",
}
TRAINING_JOBS = ("train", "pretrain", "rospr_sources")
FREE = "exact_match"  # the metric of free text
NOT_RANKED = "The template has no answer choices to rank."


@dataclasses.dataclass(frozen=True)
class Selected:
    """A task, and the split that it is evaluated on."""

    dataset: str  # the name in results; that of a collection's data set may differ from `task.name`
    task: Task
    split: str
    requested: bool = True  # listed by its own name, so it must not be skipped
    beyond_t0: bool = False  # one of P3's templates that T0's own evaluation leaves out

    @property
    def name(self) -> str:
        """`dataset:template`, as in results."""
        return f"{self.dataset}:{self.task.template.name}"


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A task that is left out, or a data set with all of its templates (`template` is "")."""

    dataset: str
    template: str
    reason: str

    @property
    def name(self) -> str:
        """`dataset:template`; only the data set where all of its templates are left out."""
        return f"{self.dataset}:{self.template}" if self.template else self.dataset


@dataclasses.dataclass(frozen=True)
class Selection:
    """What a config selects, in the order in which it lists data sets."""

    selected: tuple[Selected, ...]
    skipped: tuple[Skipped, ...]


def find_tasks(config: ml_collections.ConfigDict, every_template: bool = False) -> tuple[Task, ...]:
    """The tasks that `config.task` lists by name; all must be there. Arguments and errors are those of `select`."""
    return tuple(one.task for one in select(config, every_template=every_template).selected)


def select(
    config: ml_collections.ConfigDict,
    collections: Mapping[str, Sequence[Dataset]] | None = None,
    slices: Sequence[tuple[str, int]] = (),
    ranked: bool = False,
    every_template: bool = False,
) -> Selection:
    """The tasks that `config.task` selects, and what is skipped.

    Args:
      collections: by word, the data sets that it stands for in `task.name`.
      slices: (split, limit) of all rows that a job reads, as `examples` takes them. Each template must apply to a row
        of each. Without them a collection's data sets are checked on their own split, and others once they are read.
      ranked: skips templates without answer choices.
      every_template: `task.template="all"` includes the templates that do not ask for the data set's original task.

    Raises:
      UserError: a named data set or template is missing or does not fit; a training job names an evaluation-only data
        set; or nothing is selected.
    """
    listed = [name.strip() for name in config.task.name.split(",") if name.strip()]
    names = [str(pathlib.PurePosixPath(name)) for name in listed]  # a folder may be written glue/cola/
    if not names:
        raise UserError("task.name is empty; give it a data set such as super_glue/rte.")
    selector = _Selector(config, slices, ranked, every_template)
    entries: dict[str, Selected | Skipped] = {}
    for name in names:
        collection = (collections or {}).get(name)
        made = selector.named(name) if collection is None else selector.collected(collection)
        entries |= {entry.name: entry for entry in made}
    selection = _sorted(entries.values())
    if not selection.selected:
        first = next(iter(selection.skipped), None)
        why = f": {first.name} is skipped because: {first.reason}" if first else "."
        raise UserError(
            f"task.name={config.task.name!r} with task.template={config.task.template!r} selects no task{why}"
        )
    return selection


def available(
    collection: Sequence[Dataset],
    config: ml_collections.ConfigDict,
    slices: Sequence[tuple[str, int]] = (),
    ranked: bool = False,
) -> Selection:
    """The tasks of a collection that can be used under a config, and what is skipped; either may be empty.

    Arguments are those of `select`. Raises UserError where `data.dir` is no folder.
    """
    return _sorted(_Selector(config, slices, ranked, every_template=False).collected(collection))


def _sorted(entries: Iterable[Selected | Skipped]) -> Selection:
    entries = tuple(entries)
    return Selection(
        tuple(entry for entry in entries if isinstance(entry, Selected)),
        tuple(entry for entry in entries if isinstance(entry, Skipped)),
    )


@dataclasses.dataclass(frozen=True)
class _Selector:
    """`select` for one data set at a time."""

    config: ml_collections.ConfigDict
    slices: Sequence[tuple[str, int]]
    ranked: bool
    every_template: bool

    def named(self, name: str) -> Iterator[Selected | Skipped]:
        """The tasks of a data set that is listed by its own name."""
        if self.config.job in TRAINING_JOBS and bigbench.is_task(name):
            raise bigbench.evaluation_only(name)
        for task in self._named_tasks(name):
            if self.ranked and not task.template.answer_choices:
                yield Skipped(task.name, task.template.name, NOT_RANKED)
                continue
            try:
                check_fit(task, self.slices)
            except UserError as error:
                raise UserError(
                    f"task.name={name!r} with the template {task.template.name!r} cannot be used: {error}"
                ) from error
            yield Selected(task.name, task, self.config.task.eval_split)

    def _metric(self, name: str, template: Template) -> str:
        """As `metric_of`; of a template that is skipped, that of its answers, whatever `task.metric` is."""
        skipped = self.ranked and not template.answer_choices
        return FREE if skipped else metric_of(self.config, name, template)

    def _named_tasks(self, name: str) -> Iterator[Task]:
        if is_registered(name):
            for task in registered_tasks(self.config, name):
                yield dataclasses.replace(task, metric=self._metric(task.name, task.template))
            return
        folder = folder_of(self.config.data, name)
        if folder:
            find_files(folder, name)
        for template in _templates(self.config, name, self.every_template):
            yield self._task(name, template, folder)

    def collected(self, collection: Sequence[Dataset]) -> Iterator[Selected | Skipped]:
        """The tasks of a collection's data sets."""
        if self.config.data.dir:
            check_folder(self.config.data.dir)
        for dataset in collection:
            yield from self._dataset(dataset)

    def _dataset(self, dataset: Dataset) -> Iterator[Selected | Skipped]:
        data, word = self.config.data, self.config.task.template
        name, split = dataset.place(data.dir)
        wanted = [template for template in dataset.templates if word in ("all", template)]
        slices = self.slices or [(split, 0)]
        if dataset.templates and not wanted:
            return
        try:
            for sliced, _ in slices:
                _check_rows(dataset, name, sliced, data)
            templates = self._templates_of(dataset, name)
        except UserError as error:
            yield from (Skipped(dataset.name, template, str(error)) for template in wanted or [""])
            return
        for template in wanted or templates:
            try:
                task = self._collected_task(name, templates.get(template))
                check_fit(task, slices)
            except UserError as error:
                yield Skipped(dataset.name, template, str(error))
            else:
                beyond = template in dataset.beyond_t0
                yield Selected(dataset.name, task, split, requested=False, beyond_t0=beyond)

    def _templates_of(self, dataset: Dataset, name: str) -> dict[str, Template]:
        if dataset.templates:
            return load_templates(self.config.task.templates_dir, name)
        return {template.name: template for template in _templates(self.config, name)}

    def _collected_task(self, name: str, template: Template | None) -> Task:
        if template is None:
            raise UserError("There is no template of this name.")
        if self.ranked and not template.answer_choices:
            raise UserError(NOT_RANKED)
        return self._task(name, template, self.config.data.dir)

    def _task(self, name: str, template: Template, folder: str) -> Task:
        return Task(name, template, self._metric(name, template), folder, self.config.data.tfds_dir)


def check_fit(task: Task, slices: Sequence[tuple[str, int]]) -> None:
    """Raises UserError for a slice (split, limit) whose rows the template does not apply to, or cannot be rendered."""
    for split, limit in slices:
        if all(example is None for example in rendered(task, split, limit)):
            raise UserError(f"The template leaves the input or the target empty in every row of {split}.")


def _check_rows(dataset: Dataset, task: str, split: str, data: ml_collections.ConfigDict) -> None:
    """Raises UserError where the rows of the split are not on this machine."""
    if data.dir:
        _check_file(task, split_name(split), data.dir)
        return
    if not dataset.tfds:
        raise not_found(task, f"TFDS does not have it with the columns of its templates: put files in data.dir/{task}.")
    from infoprompt_jax.data import seqio_adapter

    if not seqio_adapter.is_prepared(task, data.tfds_dir):
        name = seqio_adapter.TFDS_NAMES.get(task, task)
        raise UserError(f"TFDS has not prepared it in data.tfds_dir: `tfds build {name} --data_dir=DIR` does.")


def _check_file(task: str, split: str, folder: str) -> None:
    try:
        files = find_files(folder, task)
    except UserError as error:
        raise not_found(task, f"There is no {task}/{split}{row_files.FORMATS} in data.dir.") from error
    if split not in files:
        raise UserError(f"{task} has no split {split} in data.dir, only {', '.join(files)}.")


def folder_of(data: ml_collections.ConfigDict, name: str) -> str:
    """Where the files of a data set are: `data.dir`, or those of the generated world; "" = TFDS."""
    return str(world.folder(data.cache_dir, name)) if name.startswith(world.PREFIX) and not data.dir else data.dir


def metric_of(config: ml_collections.ConfigDict, name: str, template: Template) -> str:
    """`task.metric`, or the default of the data set. Raises UserError where it does not fit the template's answers."""
    free = not template.answer_choices
    metric = config.task.metric or (FREE if free else METRICS.get(name, "accuracy"))
    if free != (metric == FREE):
        has = "free text as its answer" if free else "answer choices"
        raise UserError(f"task.metric={metric!r} does not fit {name}, {template}, which has {has}: leave it empty.")
    return metric


def _templates(config: ml_collections.ConfigDict, name: str, every: bool = False) -> list[Template]:
    """The templates of a data set that the config selects; `every` is the `every_template` of `select`."""
    task = config.task
    if task.input or task.target:
        return [_inline_template(task)]
    if task.answer_choices:
        raise UserError(
            f"task.answer_choices={task.answer_choices!r} belongs to task.input and task.target, which are empty: "
            "set these too, or leave it to the templates."
        )
    templates = load_templates(task.templates_dir, name)
    return list(templates.values()) if every and task.template == "all" else choose(templates, task.template)


def _inline_template(task: ml_collections.ConfigDict) -> Template:
    """The template of `task.input`, `task.target` and `task.answer_choices`."""
    if not (task.input and task.target):
        raise UserError("Only one of task.input and task.target is set; own data needs both, such as {{ text }}.")
    if task.templates_dir:
        raise UserError(
            f"task.input and task.templates_dir={task.templates_dir!r} are both set, but templates come from "
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
    return template
