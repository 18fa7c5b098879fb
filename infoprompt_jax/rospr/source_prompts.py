"""The job `rospr_sources`: source prompts, trained as fleets, and the Source Prompt Library that holds them (RoSPr).

Every source task (`source_plan`) is a member. Groups of `rospr.group` members are trained one after the other, each as
a run of the job `train` in its own directory. After each group its prompts are added to the library, with keys of the
instances that they were trained on (`source_keys`). All members start from the same prompt.

A job that was stopped or killed, during a group or between two, resumes where it was. The plan is made once. Data that
appear later need another job, whose library can be merged with this one's.

config.json  sources.json (the plan)  groups/0000/ ...  library/  report.html  summary.json
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import os
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from infoprompt_jax import hosts, settings
from infoprompt_jax.data.families import answer_format, family
from infoprompt_jax.errors import Stopped, UserError
from infoprompt_jax.prompts.saved import load_prompt
from infoprompt_jax.reports.illustrations import beside_results
from infoprompt_jax.reports.tables import aligned
from infoprompt_jax.rospr import page, source_plan
from infoprompt_jax.rospr.library import FIELD, SIMILARITIES, PromptLibrary
from infoprompt_jax.rospr.library_files import Entry, Model
from infoprompt_jax.rospr.library_sources import SourcePrompt
from infoprompt_jax.rospr.source_keys import SourceKeys, encode_instances, is_backbone, load_retriever
from infoprompt_jax.rospr.source_plan import Plan, SourceTask
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.training.experiment import check_members, configured_backbone
from infoprompt_jax.training.interrupt import Interrupt
from infoprompt_jax.training.train import train_members
from infoprompt_jax.training.workdir import Workdir, finish

MOST = {"members": 0, "seeds": 1, "presets": 1}  # entries of `fleet`: members are made of source tasks
ALONE = {  # so that only a prompt is trained
    "prompt.kind": ("static",),
    "train.task_loss": ("lm", "choices"),
    "infoprompt.variational": (False,),
}

log = logging.getLogger(__name__)


def train_sources(config: ml_collections.ConfigDict, workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """Trains a prompt on every source task that the config names, and makes a library of them; returns the summary.

    Members whose loss became NaN or infinite are left out, and listed in the summary.

    Raises:
      UserError: something in the config, the data, the backbone, the retriever or the workdir does not fit; or no
        source prompt is left.
      Stopped: the process received a stop signal, during a group or between two; everything is saved.
    """
    directory = Workdir(workdir, config)
    if (summary := directory.finished()) is not None:
        warn_of_appended(directory.path / "library", len(summary["sources"]))
        source_plan.warn_of_changes(config, directory.path / "sources.json")
        return summary | {"library": str(directory.path / "library")}  # which may have moved
    check(config)
    kept, path = directory.path / "sources.json", directory.path / "library"
    plan, is_kept, held = begun(config, kept, path)
    # Encode before training, so that a bad data set is reported at once, and before the directory is claimed, so that a
    # corrected config can use it. A stop keeps the tokenised rows, which take long, in data.cache_dir, and loses the
    # keys. A resumed job encodes only what the library lacks.
    encoded, model = encode_and_load(config, [source for source in plan.sources if source.name not in held])
    if encoded.refused:
        if is_kept:  # its groups are those of the plan
            raise UserError(next(iter(encoded.refused.values())))
        plan = plan.without(encoded.refused)
    groups, failed = plan.groups(config.rospr.group), {}
    for members in {len(group) for group in groups}:  # the last group may have fewer
        check_members(config, members, model.mesh)
    with directory.claim():
        hosts.decided(lambda: plan.write(kept))
        with Interrupt() as interrupt:
            for number, group in enumerate(groups):
                if interrupt.requested():
                    raise Stopped(f"Stopped after {number} of {len(groups)} groups; the same command resumes.")
                log.info("Group %d of %d: %s to %s.", number + 1, len(groups), group[0].name, group[-1].name)
                place = directory.path / "groups" / f"{number:04d}"
                trained = train_members(group_config(config, group), place, model)
                failed |= failures(group, trained)
                hosts.decided(
                    functools.partial(add, path, group, trained, place / "prompts", encoded, config.rospr.similarity)
                )
        return hosts.decided(lambda: conclude(directory.path, path, failed, plan.skipped))


def warn_of_appended(path: pathlib.Path, trained: int) -> None:
    """Logs a warning where the library of a finished run holds more prompts than the run trained."""
    more = len(PromptLibrary.load(path, verify=False, field=FIELD)) - trained if path.exists() else 0
    if more > 0:
        log.warning(
            "%s holds %d more prompt%s than this run trained: the table and the page are of the run's own alone.",
            path,
            more,
            "s" * (more != 1),
        )


def begun(
    config: ml_collections.ConfigDict, kept: pathlib.Path, library: pathlib.Path
) -> tuple[Plan, bool, Sequence[str]]:
    """The plan, whether it is that of the file `kept`, and the names of the source prompts that the library holds.

    The first process reads them for all.
    """

    def read() -> tuple[Any, bool, list[str]]:
        plan = source_plan.read(kept) if kept.exists() else source_plan.find(config)
        if kept.exists():
            source_plan.check_data(config, plan)
        entries = PromptLibrary.load(library, field=FIELD).entries if library.exists() else ()
        return dataclasses.asdict(plan), kept.exists(), [entry.name for entry in entries]

    plan, is_kept, held = hosts.decided(read)
    return source_plan.from_json(plan), is_kept, held


def check(config: ml_collections.ConfigDict) -> None:
    """Raises UserError for fleets with other members than the source tasks, and for prompts that no library holds."""
    for field, most in MOST.items():
        if len(config.fleet[field]) > most:
            raise UserError(
                f"fleet.{field}={config.fleet[field]!r} has {len(config.fleet[field])} entries, but job=rospr_sources "
                f"trains one member for every data set and template: leave at most {most}."
            )
    given = settings.flatten(config.to_dict())
    for field, allowed in ALONE.items():
        if given[field] not in allowed:
            raise UserError(
                f"{field}={given[field]!r} trains more than the prompt that a library holds: set it to "
                f"{' or '.join(map(repr, allowed))}."
            )
    settings.check(group_config(config, ()))


def encode_and_load(config: ml_collections.ConfigDict, sources: Sequence[SourceTask]) -> tuple[SourceKeys, Backbone]:
    """The keys of the source tasks, and the backbone for all groups. It is loaded after another retriever is freed."""
    if is_backbone(config):
        model = configured_backbone(config)
        return encode_instances(config, sources, model), model
    return encode_instances(config, sources, load_retriever(config)), configured_backbone(config)


def group_config(config: ml_collections.ConfigDict, group: Sequence[SourceTask]) -> ml_collections.ConfigDict:
    """The config of a run that trains these source tasks."""
    run = config.copy_and_resolve_references()
    run.job = "train"
    run.fleet.members = tuple(
        {"name": source.member, "task.name": source.task, "task.template": source.template} for source in group
    )
    return run


def failures(group: Sequence[SourceTask], trained: Mapping[str, Any]) -> dict[str, int]:
    """By the source task's name, the step at which its loss was not finite."""
    pairs = zip(group, trained["members"], strict=True)
    return {source.name: member["failed_at_step"] for source, member in pairs if "failed_at_step" in member}


def source_prompts(
    group: Sequence[SourceTask], trained: Mapping[str, Any], prompts: pathlib.Path, encoded: SourceKeys
) -> list[SourcePrompt]:
    """The prompts that the group adds to the library: those that did not fail and that the library lacks."""
    failed = failures(group, trained)
    return [
        SourcePrompt(
            entry(source, encoded.choices[source.name], member["best"]),
            load_prompt(prompts / member["name"]),
            encoded.keys_NR[source.name],
            encoded.texts[source.name],
        )
        for source, member in zip(group, trained["members"], strict=True)
        if source.name in encoded.keys_NR and source.name not in failed
    ]


def entry(source: SourceTask, choices: tuple[str, ...] | None, metrics: Mapping[str, float | None]) -> Entry:
    """The facts on a source prompt as a library holds them, without metrics that are missing or not finite.

    `choices` is None where the answer choices differ by row; the entry lists none then.
    """
    finite = {name: value for name, value in metrics.items() if value is not None and math.isfinite(value)}
    return Entry(
        source.name,
        source.dataset,
        source.template,
        family(source.task),
        answer_format(choices),
        choices or (),
        finite,
    )


def backbone(trained: Mapping[str, Any], made: Sequence[SourcePrompt]) -> Model:
    """The backbone that the prompts were trained on, from the summary of their run."""
    return Model(trained["backbone"], trained["fingerprints"]["backbone"], made[0].prompt.width)


def add(
    path: pathlib.Path,
    group: Sequence[SourceTask],
    trained: Mapping[str, Any],
    prompts: pathlib.Path,
    encoded: SourceKeys,
    similarity: str,
) -> None:
    """Adds a group's prompts to the library, or creates it at `path` where there is none yet.

    Raises UserError where the prompts, their keys or the retriever do not fit the library.
    """
    made = source_prompts(group, trained, prompts, encoded)
    if made and path.exists():
        PromptLibrary.load(path, verify=False, field=FIELD).append(encoded.retriever, made)
    elif made:
        chosen = similarity or SIMILARITIES[0]
        PromptLibrary.create(path, encoded.retriever, backbone(trained, made), made, chosen, field=FIELD)


def conclude(
    directory: pathlib.Path, path: pathlib.Path, failed: Mapping[str, int], skipped: Mapping[str, str]
) -> dict[str, Any]:
    """Writes the library's page and, last, the summary, which it returns. Raises UserError if no prompt is left."""
    if not path.exists():
        raise UserError("The loss of every source prompt became NaN or infinite: lower train.learning_rate.")
    library = PromptLibrary.load(path, verify=False, field=FIELD)
    with beside_results(directory / page.NAME):
        page.write(directory / page.NAME, library)
    summary = summarize(library, failed, skipped)
    finish(directory, summary)
    return summary


def summarize(library: PromptLibrary, failed: Mapping[str, int], skipped: Mapping[str, str]) -> dict[str, Any]:
    """The content of summary.json: the source prompts, those that failed or were skipped, and the models."""
    models = {"backbone": library.manifest.backbone, "retriever": library.manifest.retriever}
    return {
        "sources": library.listing(),
        "failed": [{"name": name, "failed_at_step": step} for name, step in failed.items()],
        "skipped": [{"name": name, "reason": reason} for name, reason in skipped.items()],
        "library": str(library.path),
        **{what: model.name for what, model in models.items()},
        "fingerprints": {what: model.fingerprint for what, model in models.items()},
    }


def table(summary: Mapping[str, Any]) -> str:
    """A line for each data set, with the mean of its templates' metrics; then what is missing, and the library."""
    by_dataset: dict[str, list[Mapping[str, Any]]] = {}
    for source in summary["sources"]:
        by_dataset.setdefault(source["dataset"], []).append(source)
    rows = [(name, _means(sources), *_counts(sources)) for name, sources in by_dataset.items()]
    rows.append((f"{len(by_dataset)} data set{'s' * (len(by_dataset) != 1)}", "", *_counts(summary["sources"])))
    notes = [
        f"{one['name']} is left out: its loss was not finite at step {one['failed_at_step']}"
        for one in summary["failed"]
    ]
    if summary["skipped"]:
        notes.append(f"{len(summary['skipped'])} more templates were skipped; sources.json has the reasons")
    header = ("data set", "mean metric", "templates", "keys")
    return "\n".join([aligned(header, rows, text_columns=2), *notes, f"library: {summary['library']}"])


def _counts(sources: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """How many source prompts and keys there are."""
    return len(sources), sum(source["keys"] for source in sources)


def _means(sources: Sequence[Mapping[str, Any]]) -> str:
    """Each source prompt's first metric, averaged by metric."""
    values: dict[str, list[float]] = {}
    for source in sources:
        for metric, value in list(source["metrics"].items())[:1]:
            values.setdefault(metric, []).append(value)
    return ", ".join(f"{metric} {statistics.fmean(of):.4f}" for metric, of in values.items())
