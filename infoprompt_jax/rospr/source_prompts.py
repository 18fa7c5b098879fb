"""The job `rospr_sources`: source prompts, trained as fleets, and the Source Prompt Library that holds them (RoSPr).

Every pair of a data set and a hard prompt (`source_plan`) is a member. Groups of `rospr.group` members are trained one
after the other, each as a run of the job `train` in a directory of its own, and what a group has trained is added to
the library, with keys of the instances that it was trained on (`source_keys`). All members start from the same prompt.

All that is done is on disk: a job that was stopped or killed, during a group or between two, goes on where it was. The
plan is made once; data that appear later are for another job, whose library can be merged with this one's.

config.json  sources.json (the plan)  groups/0000/ ...  library/  report.html  summary.json
"""

from __future__ import annotations

import logging
import math
import os
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections

from infoprompt_jax import files, settings
from infoprompt_jax.data.families import answer_format, family
from infoprompt_jax.errors import Stopped, UserError
from infoprompt_jax.prompts.saved import load_prompt
from infoprompt_jax.rospr import page, source_plan
from infoprompt_jax.rospr.library import SIMILARITIES, PromptLibrary
from infoprompt_jax.rospr.library_files import Entry, Model
from infoprompt_jax.rospr.library_sources import SourcePrompt
from infoprompt_jax.rospr.source_keys import SourceKeys, encode_instances, is_backbone, load_retriever
from infoprompt_jax.rospr.source_plan import Source
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.training.experiment import configured_backbone
from infoprompt_jax.training.interrupt import Interrupt
from infoprompt_jax.training.train import train_members
from infoprompt_jax.training.workdir import Workdir

MOST = {"members": 0, "seeds": 1, "presets": 1}  # of `fleet`: members are made of sources, one of each
ALONE = {  # so that a prompt is all that is trained
    "prompt.kind": ("static",),
    "train.task_loss": ("lm", "choices"),
    "infoprompt.variational": (False,),
}

log = logging.getLogger(__name__)


def train_sources(config: ml_collections.ConfigDict, workdir: str | os.PathLike[str]) -> dict[str, Any]:
    """Trains all source prompts that the config names and makes a library of them, in `workdir`; the summary.

    Members whose loss became NaN or infinite are left out and reported.

    Raises:
      UserError: something in the config, the data, the backbone, the retriever or the workdir does not fit; or no
        source prompt is left.
      Stopped: the process was told to stop, during a group or between two; everything is saved.
    """
    directory = Workdir(workdir, config)
    if (summary := directory.finished()) is not None:
        return summary
    check(config)
    kept, path = directory.path / "sources.json", directory.path / "library"
    plan = source_plan.read(kept) if kept.exists() else source_plan.find(config)
    library = PromptLibrary.load(path) if path.exists() else None
    # Before anything is trained, so that what is wrong with a data set is found at once; before the directory is
    # claimed, so that the mended config may have it. What takes long, the tokenised rows, a stop leaves in
    # data.cache_dir; a few encodings of each source it loses. Of a job that is resumed, only what the library lacks.
    held = {entry.name for entry in library.entries} if library else set()
    encoded, model = encode_and_load(config, [source for source in plan.sources if source.name not in held])
    if encoded.refused:
        if kept.exists():  # its groups are those of the plan
            raise UserError(next(iter(encoded.refused.values())))
        plan = plan.without(encoded.refused)
    with directory.claim():
        plan.write(kept)
        groups, failed = plan.groups(config.rospr.group), {}
        with Interrupt() as interrupt:
            for number, group in enumerate(groups):
                if interrupt.requested:
                    raise Stopped(f"Stopped after {number} of {len(groups)} groups; the same command resumes.")
                log.info("Group %d of %d: %s to %s.", number + 1, len(groups), group[0].name, group[-1].name)
                place = directory.path / "groups" / f"{number:04d}"
                trained = train_members(group_config(config, group), place, model)
                failed |= failures(group, trained)
                if made := source_prompts(group, trained, place / "prompts", encoded):
                    library = add(
                        library, path, made, encoded.retriever, backbone(trained, made), config.rospr.similarity
                    )
        if library is None:
            raise UserError("The loss of every source prompt became NaN or infinite: lower train.learning_rate.")
        page.write(directory.path / page.NAME, library)
        summary = summarize(library, failed, plan.skipped)
        files.write_json(directory.path / "summary.json", summary)
    return summary


def check(config: ml_collections.ConfigDict) -> None:
    """Refuses, as a UserError, fleets of other members than the sources, and prompts that no library can hold."""
    for field, most in MOST.items():
        if len(config.fleet[field]) > most:
            raise UserError(
                f"fleet.{field}={config.fleet[field]!r} has {len(config.fleet[field])} entries, but job=rospr_sources "
                f"trains one member for every data set and hard prompt: leave at most {most}."
            )
    given = settings.flatten(config.to_dict())
    for field, allowed in ALONE.items():
        if given[field] not in allowed:
            raise UserError(
                f"{field}={given[field]!r} trains more than the prompt that a library holds: set it to "
                f"{' or '.join(map(repr, allowed))}."
            )
    settings.check(group_config(config, ()))


def encode_and_load(config: ml_collections.ConfigDict, sources: Sequence[Source]) -> tuple[SourceKeys, Backbone]:
    """The keys of the sources' instances, and the backbone for all groups, loaded when another retriever is gone."""
    if is_backbone(config):
        model = configured_backbone(config)
        return encode_instances(config, sources, model), model
    return encode_instances(config, sources, load_retriever(config)), configured_backbone(config)


def group_config(config: ml_collections.ConfigDict, group: Sequence[Source]) -> ml_collections.ConfigDict:
    """The config of a run that trains these sources."""
    own = config.copy_and_resolve_references()
    own.job = "train"
    own.fleet.members = tuple(
        {"name": source.member, "task.name": source.task, "task.template": source.template} for source in group
    )
    return own


def failures(group: Sequence[Source], trained: Mapping[str, Any]) -> dict[str, int]:
    """By the source's name, the step at which its loss was not finite."""
    pairs = zip(group, trained["members"], strict=True)
    return {source.name: member["failed_at_step"] for source, member in pairs if "failed_at_step" in member}


def source_prompts(
    group: Sequence[Source], trained: Mapping[str, Any], prompts: pathlib.Path, encoded: SourceKeys
) -> list[SourcePrompt]:
    """What the group adds to the library: those that did not fail, and are encoded because it does not hold them."""
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


def entry(source: Source, choices: tuple[str, ...] | None, metrics: Mapping[str, float | None]) -> Entry:
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
    return Model(trained["backbone"], trained["fingerprints"]["backbone"], made[0].prompt.width)


def add(
    library: PromptLibrary | None,
    path: pathlib.Path,
    made: Sequence[SourcePrompt],
    retriever: Model,
    model: Model,
    similarity: str,
) -> PromptLibrary:
    if library is None:
        return PromptLibrary.create(path, retriever, model, made, similarity or SIMILARITIES[0])
    return library.append(retriever, made)


def summarize(library: PromptLibrary, failed: Mapping[str, int], skipped: Mapping[str, str]) -> dict[str, Any]:
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
    """A line for each data set, with the mean, over its hard prompts, of what each is measured by; then the rest."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for source in summary["sources"]:
        groups.setdefault(source["dataset"], []).append(source)
    lines = [("data set", "hard prompts", "mean metric", "keys"), *(_line(name, own) for name, own in groups.items())]
    _, prompts, _, count = _line("", summary["sources"])
    lines.append((f"{len(groups)} data sets", prompts, "", count))
    name, metric = (max(len(line[column]) for line in lines) for column in (0, 2))
    rows = [f"{line[0]:{name}}  {line[1]:>12}  {line[2]:{metric}}  {line[3]:>7}" for line in lines]
    rows += [
        f"{one['name']} is left out: its loss was not finite at step {one['failed_at_step']}"
        for one in summary["failed"]
    ]
    if summary["skipped"]:
        rows.append(f"{len(summary['skipped'])} more hard prompts were skipped; sources.json says why")
    return "\n".join([*rows, f"library: {summary['library']}"])


def _line(name: str, sources: Sequence[Mapping[str, Any]]) -> tuple[str, str, str, str]:
    values: dict[str, list[float]] = {}
    for source in sources:
        for metric, value in list(source["metrics"].items())[:1]:
            values.setdefault(metric, []).append(value)
    means = ", ".join(f"{metric} {statistics.fmean(found):.4f}" for metric, found in values.items())
    return name, str(len(sources)), means, str(sum(source["keys"] for source in sources))
