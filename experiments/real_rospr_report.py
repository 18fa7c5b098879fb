"""docs/rospr.md's tables on mini at T0's shape, from experiments/results/real_rospr/<size>/<seed>.json.

`python -m experiments.real_rospr report` writes them: each group of data sets at the largest size that has all its
seeds. Nothing is tuned on the seeds, so all of them confirm: cells of the tables of differences are bold as
`cells.confirmed` says.
"""

from __future__ import annotations

import itertools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from experiments.cells import Cell, confirmed, interval
from experiments.estimates import Estimate, student
from experiments.p3_rows import SIZES
from experiments.pages import ROSPR, UNMEASURED
from experiments.rospr_report import RelationsOf, contrast, differences, relation_gain
from experiments.verdicts import Claim
from infoprompt_jax.reports.documents import fill
from infoprompt_jax.reports.tables import markdown
from infoprompt_jax.rospr.relations import RELATIONS
from infoprompt_jax.rospr.results import TITLES

RESULTS = pathlib.Path(__file__).parent / "results" / "real_rospr"
METHODS = {**TITLES, "random": "a random one"}
RETRIEVERS = {"encoder": "mini's encoder", "words": "bag of words", "random": "none: a random source prompt"}
CHOSEN = {"encoder": ("rospr", "per_query"), "words": ("words", "words_per_query"), "random": ("random", None)}
GROUPS = {"held out": "T0's held-out sets", "BIG-bench": "BIG-bench", "near": "data sets of the sources' families"}

KNOWN = ("held out", "near")  # groups whose data sets have known families
POOLED = (
    "These runs did not keep the gains of each evaluation task, so pairs are pooled over data sets. The pairs of a "
    "line are not of the same data sets as those that it is compared with, and that alone can make the difference."
)

Result = Mapping[str, Any]  # of a seed
Results = Sequence[Result]
Relations = Mapping[str, Mapping[str, float]]
REASONS = {"BIG-bench's tasks are read from": "no task.json at hand"}  # the table's words, by the start of a message
NAMED = {"cpu": "a CPU"}  # devices, as JAX names them
PLANNED = 3  # seeds; fewer are not reported, because a look at some of them could decide when to stop


def read(directory: pathlib.Path) -> Results:
    """By seed, each group of data sets at the largest size that has it for as many seeds as planned.

    Raises:
      ValueError: two seeds of a size ran with different sizes, or a group has not the same size for all seeds.
    """
    merged: dict[int, dict[str, Any]] = {}
    for name in SIZES:  # from the smallest to the largest
        for result in of_size(directory / name):
            about = {what: result.get(what) for what in ("size", "sources", "keys", "device", "missing")}
            groups = {group: about | content for group, content in result["groups"].items()}  # a group's own come first
            before = merged.get(result["seed"], {"groups": {}})
            merged[result["seed"]] = {"seed": result["seed"], "groups": before["groups"] | groups}
    sizes = [{group: content["size"] for group, content in one["groups"].items()} for one in merged.values()]
    if any(one != sizes[0] for one in sizes):
        raise ValueError(f"The seeds in {directory} differ in their groups or sizes: run all seeds with each of them.")
    return [merged[seed] for seed in sorted(merged)]


def of_size(directory: pathlib.Path) -> Results:
    """The results of a size by seed; none if there are fewer than planned."""
    files = sorted(directory.glob("*.json"), key=lambda path: int(path.stem))
    results = [json.loads(path.read_text()) | {"seed": int(path.stem)} for path in files]
    if any(result["size"] != results[0]["size"] for result in results):
        raise ValueError(f"The seeds in {directory} ran with different sizes: run all with one.")
    return results if len(results) >= PLANNED else []


def tasks(result: Result, group: str, dataset: str = "") -> list[Mapping[str, Any]]:
    """The evaluation tasks of a group; only those of a data set if one is named."""
    return [one for one in result["groups"][group]["tasks"] if dataset in ("", one["dataset"])]


def datasets(results: Results, group: str) -> list[str]:
    return list(dict.fromkeys(one["dataset"] for one in tasks(results[0], group)))


def by_dataset(result: Result, group: str, of: Callable[[Mapping[str, Any]], float]) -> list[float]:
    """A number of each task as the mean over templates, by data set."""
    return [float(np.mean([of(one) for one in tasks(result, group, name)])) for name in datasets([result], group)]


def mean(result: Result, group: str, of: Callable[[Mapping[str, Any]], float]) -> float:
    """A number of each task as the mean over templates first, and then over data sets."""
    return float(np.mean(by_dataset(result, group, of)))


def gains(results: Results, group: str, method: str, base: str) -> np.ndarray:
    """[data sets, seeds]: a method minus another, in points."""
    of_seeds = [by_dataset(r, group, lambda one: one["scores"][method] - one["scores"][base]) for r in results]
    return 100 * np.transpose(of_seeds)


def gain(results: Results, group: str, method: str, base: str) -> Estimate:
    """The mean over data sets of these differences, and its interval over seeds."""
    return student(gains(results, group, method, base).mean(axis=0))


def shown(values: Sequence[float], digits: int = 1) -> str:
    """`65.5 ± 3.6`, in percent; without the spread where there is one seed."""
    spread = f" ± {100 * np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.{digits}f}{spread}"


def accuracy_table(results: Results) -> str:
    """Accuracy by data set and method; of each group the mean, and its differences to no prompt and to RoSPr."""
    rows: list[Sequence[object]] = []
    for group, title in GROUPS.items():
        names = datasets(results, group)
        for name in names:
            counts = len(tasks(results[0], group, name)), max(one["rows"] for one in tasks(results[0], group, name))
            values = [
                [float(np.mean([one["scores"][m] for one in tasks(r, group, name)])) for r in results] for m in METHODS
            ]
            rows.append((name, *counts, *map(shown, values)))
        templates = len(tasks(results[0], group))
        values = [[mean(r, group, lambda one, m=m: one["scores"][m]) for r in results] for m in METHODS]
        rows.append((f"mean of {len(names)}: {title}", templates, "", *map(shown, values)))
        for base in ("none", "rospr"):
            cells = ("" if m in ("none", base) else gained(results, group, m, base) for m in METHODS)
            rows.append((f"minus {METHODS[base]}", "", "", *cells))
        of_sets = (student(gains(results, group, m, "none").mean(axis=1)) for m in METHODS if m != "none")
        # As text, because it is no part of the confirmation, which is over seeds.
        rows.insert(-1, ("the same, over data sets", "", "", "", *(str(interval(one, 1)) for one in of_sets)))
    return confirmed(("data set", "templates", "rows", *METHODS.values()), rows)


def retrievers_table(results: Results) -> str:
    """By retriever: accuracy of its most voted for and of a prompt for each row, and what its votes fall on."""
    rows: list[Sequence[object]] = []
    for group, title in GROUPS.items():
        for name, retriever in RETRIEVERS.items():
            row: list[object] = [title, retriever]
            for method in CHOSEN[name]:
                row.append(
                    shown([mean(r, group, lambda o, m=method: o["scores"][m]) for r in results]) if method else ""
                )
            for trait in ("answer_format", "family"):
                known = all(trait in one["shares"][name] for r in results for one in tasks(r, group))
                of = [mean(r, group, lambda o, t=trait, n=name: o["shares"][n][t]) for r in results] if known else []
                row.append(shown(of) if known else "")
            base = "" if name == "encoder" else interval(gain(results, group, CHOSEN[name][0] or "", "rospr"), 1)
            rows.append([*row, base])
    header = ("data sets", "retriever", "accuracy, one prompt", "one for each row", "votes on the same format, %")
    return confirmed((*header, "on the same family, %", "one prompt, minus mini's encoder"), rows)


def relations_of(result: Result, group: str, which: str, retriever: str = "encoder") -> Relations:
    return result["groups"][group]["relations"][retriever][which]


def relations_table(results: Results) -> str:
    """The mean gain over no prompt by what source task and evaluation task share."""
    rows: list[Sequence[object]] = []
    kinds_of = (("every", "encoder"), ("retrieved", "encoder"), ("retrieved", "words"))
    for group, (which, retriever) in itertools.product(KNOWN, kinds_of):
        of = partial(relations_of, group=group, which=which, retriever=retriever)
        for kind in RELATIONS:
            having = [of(r)[kind] for r in results if kind in of(r)]
            if having:
                pairs = f"{np.mean([one['pairs'] for one in having]):.0f}"
                better = f"{100 * np.mean([one['better'] for one in having]):.0f}"
                title = which if which == "every" else f"retrieved by {RETRIEVERS[retriever]}"
                rows.append((GROUPS[group], title, kind, pairs, better, interval(relation_gain(results, of, kind), 1)))
    return confirmed(("data sets", "source prompts", "in common", "pairs", "better, %", "gain"), rows)


def gained(results: Results, group: str, method: str, base: str) -> Cell | str:
    """The cell of a method minus another. The oracle's is text: it is chosen by the labels, so it confirms nothing."""
    cell = interval(gain(results, group, method, base), 1)
    return str(cell) if method == "oracle" else cell


def contrasts_table(results: Results) -> str:
    """The gain of source prompts that share one trait with an evaluation task, minus that of its others.

    Results that did not keep the gains by task have it over all pairs: as text, because the pairs of the two are of
    different data sets, and that alone can make the difference.
    """
    within, over_all = list[Sequence[object]](), list[Sequence[object]]()
    for group, (more, less) in itertools.product(KNOWN, itertools.combinations(RELATIONS, 2)):
        if not all(tasks_of(result, group) for result in results):
            of = partial(relations_of, group=group, which="every")
            if all(kind in of(result) for result in results for kind in (more, less)):
                effect = str(interval(pooled_contrast(results, of, more, less), 1))
                over_all.append((GROUPS[group], more, less, effect))
        elif len(found := differences(results, partial(tasks_of, group=group), more, less)):
            over = str(interval(student(found.mean(axis=1)), 1))
            effect = interval(student(found.mean(axis=0)), 1)
            within.append((GROUPS[group], more, less, len(found), effect, over))
    header = ("data sets", "in common", "less those with in common")
    columns = (*header, "data sets, number", "difference in gain", "the same, over data sets")
    tables = [confirmed(columns, within)] if within else []
    if over_all:
        tables.append(f"{POOLED}\n\n{markdown((*header, 'difference in gain, pooled'), over_all)}")
    return "\n\n".join(tables)


def tasks_of(result: Result, group: str) -> Sequence[Mapping[str, Any]]:
    """What `relations.by_task` gave for a group; older results have none."""
    return result["groups"][group].get("by_task", [])


def pooled_contrast(results: Results, of: RelationsOf, more: str, less: str) -> Estimate:
    """The gain over all pairs that share `more` minus that over those that share `less`, seed by seed, in points."""
    return student(np.array([of(r)[more]["gain"] - of(r)[less]["gain"] for r in results])).scaled(100)


def missing_table(results: Results) -> str:
    """The data sets and templates without rows: a line for each data set."""
    reasons: dict[str, dict[str, int]] = {}
    missing = {name: why for of in results[0]["groups"].values() for name, why in of["missing"].items()}
    for name, reason in missing.items():
        dataset, _, template = name.partition(":")
        templates = reasons.setdefault(dataset, {})
        reason = next((short for start, short in REASONS.items() if reason.startswith(start)), reason)
        templates[reason] = templates.get(reason, 0) + bool(template)
    rows = [(name, count or "all", why) for name, whys in reasons.items() for why, count in whys.items()]
    return markdown(("data set", "templates", "why"), rows)


def about(results: Results) -> str:
    """What was measured: a line for the groups of data sets that have one size, or more if there are more sizes."""
    groups: dict[str, list[str]] = {}
    for group in results[0]["groups"]:
        groups.setdefault(measured([result["groups"][group] for result in results]), []).append(GROUPS[group])
    seeds = ", ".join(str(result["seed"]) for result in results)
    named = ((", ".join(titles), text) for text, titles in groups.items())
    sizes = (f"* {titles[:1].upper()}{titles[1:]}: {text}" for titles, text in named)
    rows = "The rows are the same for all seeds and templates: intervals do not cover other rows."
    return "\n".join((f"Seeds {seeds}. {rows}", "", *sizes))


def measured(contents: Sequence[Mapping[str, Any]]) -> str:
    """The source prompts of a group's evaluation, and its rows; `contents` are those of the seeds."""
    size = contents[0]["size"]
    of_jax: list[str] = [one["device"] for one in contents if one["device"]]
    devices = sorted({NAMED.get(device, device) for device in of_jax})
    counts = (sorted({one[what] for one in contents}) for what in ("sources", "keys"))
    sources, keys = (" to ".join(f"{number:,}" for number in (*of[:1], *of[1:][-1:])) for of in counts)
    where = f", on {', '.join(devices)}" if devices else ""
    prompts = f"up to {size['hard_prompts']}" if size["hard_prompts"] else "all"
    return (
        f"{sources} source prompts with {keys} keys, each trained for {size['steps']} steps of 8 rows of at most "
        f"{size['length']} tokens{where}; {prompts} templates and up to {size['evaluated']} rows of each data set."
    )


def claims(results: Results) -> list[Claim]:
    """The verdicts' lines, on each group of data sets; none without results."""
    if not results:
        return []

    def minus(text: str, method: str, base: str) -> list[Claim]:
        return [
            Claim(
                f"RoSPr: {text}",
                f"[{METHODS[method]} - {METHODS[base]}, {title}](rospr.md#accuracy-on-mini)",
                None,
                gain(results, group, method, base),
            )
            for group, title in GROUPS.items()
        ]

    methods = [one for m in ("inter", "var", "inter_var") for one in minus(f"{METHODS[m]} helps", m, "rospr")]
    made = [*minus("retrieved prompts help unseen tasks", "rospr", "none"), *methods]
    # Without the gains by task, format against family is no claim: its pairs are of different data sets.
    if all(tasks_of(result, "near") for result in results):
        effect = contrast(results, partial(tasks_of, group="near"), "format alone", "family alone")
        link = "[format alone - family alone, on the same task](rospr.md#format-against-family-on-mini)"
        made.append(Claim("RoSPr: answer format matters more than family", link, None, effect))
    return made


BLOCKS: dict[str, Callable[[Results], str]] = {
    "mini accuracy": accuracy_table,
    "mini retrievers": retrievers_table,
    "mini relations": relations_table,
    "mini contrasts": contrasts_table,
    "mini missing": missing_table,
}


def blocks(directory: pathlib.Path) -> dict[str, str]:
    """The content of the page's blocks."""
    results = read(directory)
    if not results:
        return dict.fromkeys(BLOCKS, UNMEASURED)
    made = {name: table(results) for name, table in BLOCKS.items()}
    return made | {"mini accuracy": f"{about(results)}\n\n{made['mini accuracy']}"}


def write(directory: pathlib.Path) -> None:
    """Fills docs/rospr.md's blocks on mini."""
    fill(ROSPR, blocks(directory))
