"""P3, the data sets and hard prompts of T0: 36 sources with 296 hard prompts, 11 held-out sets with 120.

`hard_prompts/p3.yaml` names them; their rows and templates are the user's. `report` says which pairs of data set and
hard prompt a config finds, and for the others why not; `table` is the same as text. TensorFlow is imported only where
data.dir is empty.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import importlib.resources
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ml_collections
import yaml

from infoprompt_jax.data.examples import rendered
from infoprompt_jax.data.local_files import check_folder, find_files, not_found
from infoprompt_jax.data.splits import split_name
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.templates import load_templates
from infoprompt_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One of P3's data sets. `task` and `split` name it for `config.task`; `tfds` is both where TFDS is read."""

    name: str
    task: str
    split: str
    prompts: tuple[str, ...]
    tfds: tuple[str, str] | None  # None: TFDS does not have it with the columns that the hard prompts read
    held_out: bool
    beyond_t0: tuple[str, ...] = ()  # those of the prompts that T0 is not evaluated with

    @property
    def origin(self) -> str:
        """Where its rows can come from."""
        return "TFDS or files" if self.tfds else "files"


@dataclasses.dataclass(frozen=True)
class Pair:
    """A data set with one of its hard prompts, as a config finds it: `reason` is "" or why it is skipped."""

    dataset: Dataset
    prompt: str
    task: str  # for task.name
    split: str
    reason: str

    @property
    def present(self) -> bool:
        return not self.reason


@functools.cache
def _content() -> dict[str, Any]:
    file = importlib.resources.files("infoprompt_jax.data") / "hard_prompts" / "p3.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def _dataset(name: str, entry: Mapping[str, Any], held_out: bool) -> Dataset:
    task, split = entry.get("task", name), entry.get("split", "validation" if held_out else "train")
    tfds = entry.get("tfds")
    place = (tfds["task"], tfds["split"]) if isinstance(tfds, Mapping) else (task, split) if tfds else None
    beyond = tuple(_content()["beyond_t0"].get(name, ())) if held_out else ()
    return Dataset(name, task, split, tuple(entry["prompts"]), place, held_out, beyond)


def sources() -> tuple[Dataset, ...]:
    """The 36 data sets that source prompts are trained on, with 296 hard prompts (methods: RoSPr, source prompts)."""
    return tuple(_dataset(name, entry, held_out=False) for name, entry in _content()["sources"].items())


def held_out() -> tuple[Dataset, ...]:
    """The 11 data sets that are evaluated on, with 120 hard prompts (methods: RoSPr, evaluation)."""
    return tuple(_dataset(name, entry, held_out=True) for name, entry in _content()["held_out"].items())


def aliases(name: str) -> frozenset[str]:
    """All names of one of P3's data sets: its own, that of `task.name`, TFDS's; of another one the name alone."""
    every = [{one.name, one.task, *(one.tfds or ())[:1]} for one in (*sources(), *held_out())]
    return frozenset({name}.union(*(names for names in every if name in names)))


def report(datasets: Iterable[Dataset], config: ml_collections.ConfigDict, limit: int = 0) -> list[Pair]:
    """Every hard prompt of the data sets, with what keeps it from being used under the config, if anything does.

    `data.dir`, `data.tfds_dir` and `task.templates_dir` are read. A pair is present if its rows are on this machine,
    its template is there, has answer choices (held-out sets) and renders a row of the split, which may be a slice; of
    the `limit` rows that are drawn from it, if that is positive. Raises UserError where data.dir is no folder.
    """
    if config.data.dir:
        check_folder(config.data.dir)
    return [pair for dataset in datasets for pair in _pairs(dataset, config, limit)]


def _pairs(dataset: Dataset, config: ml_collections.ConfigDict, limit: int) -> list[Pair]:
    folder = config.data.dir
    name, split = (dataset.task, dataset.split) if folder else dataset.tfds or (dataset.task, dataset.split)
    try:
        _check_rows(dataset, name, split, config.data)
        templates = load_templates(config.task.templates_dir, name)
    except UserError as error:
        return [Pair(dataset, prompt, name, split, str(error)) for prompt in dataset.prompts]

    def reason(prompt: str) -> str:
        if prompt not in templates:
            return "The templates have no prompt of this name."
        task = Task(name, templates[prompt], "", folder, config.data.tfds_dir)
        if dataset.held_out and not task.template.answer_choices:
            return "The prompt has no answer choices to rank."
        return misfit(task, split, limit)

    return [Pair(dataset, prompt, name, split, reason(prompt)) for prompt in dataset.prompts]


def _check_rows(dataset: Dataset, task: str, split: str, data: ml_collections.ConfigDict) -> None:
    """Raises UserError where the rows of the split are not on this machine."""
    if data.dir:
        _file(task, split, data.dir)
        return
    if not dataset.tfds:
        raise not_found(task, f"TFDS does not have it as its hard prompts read it: put files in data.dir/{task}.")
    from infoprompt_jax.data import seqio_adapter

    if not seqio_adapter.is_prepared(task, data.tfds_dir):
        name = seqio_adapter.TFDS_NAMES.get(task, task)
        raise UserError(f"TFDS has not prepared it in data.tfds_dir: `tfds build {name} --data_dir=DIR` does.")


def _file(task: str, split: str, folder: str) -> pathlib.Path:
    name = split_name(split)
    try:
        files = find_files(folder, task)
    except UserError as error:
        raise not_found(task, f"There is no {task}/{name}.jsonl, .csv or .parquet in data.dir.") from error
    if name not in files:
        raise UserError(f"{task} has no split {name} in data.dir, only {', '.join(files)}.")
    return files[name]


def misfit(task: Task, split: str, limit: int = 0) -> str:
    """What keeps a hard prompt from being used on a split or slice, or what is drawn from it; "" if nothing does."""
    try:
        if task.folder:
            _file(task.name, split, task.folder)
        fits = any(example is not None for example in rendered(task, split, limit))
    except UserError as error:
        return str(error)
    return "" if fits else f"The prompt leaves the input or the target of every row of {split} empty."


def table(pairs: Sequence[Pair]) -> str:
    """The pairs as aligned text: a line each data set, one more for each further reason, and a line of sums."""
    lines = [("data set", "prompts", "present", "rows from", "skipped because")]
    groups: dict[str, list[Pair]] = collections.defaultdict(list)
    for pair in pairs:
        groups[pair.dataset.name].append(pair)
    for name, group in groups.items():
        first, *others = _reasons(group) or [""]
        lines.append((name, str(len(group)), str(_present(group)), group[0].dataset.origin, first))
        lines += [("", "", "", "", reason) for reason in others]
    lines.append((f"{len(groups)} data sets", str(len(pairs)), str(_present(pairs)), "", ""))
    name, origin = (max(len(line[column]) for line in lines) for column in (0, 3))
    rows = (f"{line[0]:{name}}  {line[1]:>7}  {line[2]:>7}  {line[3]:{origin}}  {line[4]}" for line in lines)
    return "\n".join(row.rstrip() for row in rows)


def _present(pairs: Iterable[Pair]) -> int:
    return sum(pair.present for pair in pairs)


def _reasons(group: Sequence[Pair]) -> list[str]:
    """Each reason once, after the names of the prompts that it is about unless these are all."""
    prompts: dict[str, list[str]] = collections.defaultdict(list)
    for pair in group:
        if pair.reason:
            prompts[pair.reason].append(pair.prompt)
    return [
        reason if len(names) == len(group) else f"{', '.join(names)}: {reason}" for reason, names in prompts.items()
    ]
