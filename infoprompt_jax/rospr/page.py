"""report.html: a Source Prompt Library, and what an evaluation retrieved from it and why.

The jobs write it at their end. For a library that was merged, or after more prompts were added:

    python -m infoprompt_jax.rospr.page LIBRARY [WORKDIR OF THE EVALUATION] --out report.html
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from infoprompt_jax import checksums, files
from infoprompt_jax.errors import UserError
from infoprompt_jax.reports import pages
from infoprompt_jax.reports.pages import fold, join, table, tag
from infoprompt_jax.rospr import prompt_map
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.rospr.records import Candidate, Nearest, Part, TargetRecord, read_record
from infoprompt_jax.rospr.results import NAME as RESULTS
from infoprompt_jax.rospr.results import ORACLE, TITLES, VARIED, Results
from infoprompt_jax.rospr.tables import CONTRASTS, WITHIN, contrasts, rows_text, unknown_family

MOST = 8  # candidates of an evaluation task, and source prompts of a method, that are shown one by one
BLUE = (0x00, 0x72, 0xB2)
DARK = 0.88  # of the blue: from here on white letters have the better contrast
NAME = "report.html"

Section = tuple[str, Sequence[object]]  # heading, content


def write(
    path: str | pathlib.Path,
    library: PromptLibrary,
    results: Results | None = None,
    records: Sequence[TargetRecord] = (),
) -> None:
    """Writes the page, whole or not at all; the same for the same input.

    Args:
      path: of the HTML file.
      library: for the map and the list of source prompts.
      results: of an evaluation; None = only the library.
      records: of all of its evaluation tasks, which explain the choices.
    """
    about_library = [("Map of source prompts", prompt_map.maps(library)), ("All source prompts", sources(library))]
    if results is None:
        pages.write(path, "Source Prompt Library", about_library)
        return
    results = Results.from_json(files.strict(results.to_json()))  # as its file has it
    sections: list[Section] = [
        ("Results", scores(results)),
        ("Votes by source data set", vote_shares(results.analysis["retrieval"])),
        ("Evaluation tasks one by one", tasks(records)),
        *analysis(results.analysis),
        *about_library,
    ]
    if results.skipped:
        rows = ([one.name, one.reason] for one in results.skipped)
        sections.append(("Skipped", [table(["evaluation task", "reason"], rows, names=2)]))
    pages.write(path, "Zero-shot evaluation with retrieved prompts", sections)


def figure(value: float | None, digits: int = 4) -> str:
    """A number with `digits` decimals; "-" for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def source(name: str, numbers: Mapping[str, int]) -> Markup:
    """A source prompt's name as a link to it in the list."""
    return tag("a", name, href=f"#source-{numbers[name]}")


def sources(library: PromptLibrary) -> list[Markup]:
    """Facts on the library, and its source prompts in order, as the elements `source-<number>`."""
    manifest, keys = library.manifest, len(library.owners_K)
    about = (
        f"{len(library)} source prompts of {manifest.prompt_length} tokens, for the backbone {manifest.backbone}. "
        f"They are retrieved by {keys} keys of {manifest.retriever}; "
        f"similarity: {manifest.similarity.replace('_', ' ')}."
    )
    header = ["source prompt", "data set", "template", "family", "answers", "answer choices", "keys", "metrics"]
    rows = []
    for row in library.listing():
        name = tag("span", row["name"], id=f"source-{row['owner']}")
        words = [row[column] or "-" for column in ("dataset", "template", "family", "answer_format")]
        values = (f"{metric} {value:.4f}" for metric, value in row["metrics"].items())
        rows.append([name, *words, " | ".join(row["choices"]) or "-", row["keys"], ", ".join(values) or "-"])
    return [tag("p", about), table(header, rows, names=6)]


def scores(results: Results) -> list[Markup]:
    """By data set and method the mean over templates; then the median with the quartiles."""
    methods, datasets = list(results.mean), results.datasets
    header = ["data set", *(TITLES[m] for m in methods)]
    means, spreads = [], []
    for name, dataset in datasets.items():
        of, rows = dataset.scores, rows_text(dataset.rows, dataset.fewest_rows)
        size = f"{dataset.hard_prompts} templates, {rows} rows"
        first = join([name, tag("small", dataset.metric.replace("_", " ")), tag("small", size)])
        means.append([first, *figures({m: of[m]["mean"] for m in methods})])
        spreads.append([name, *(spread(of[m]) for m in methods)])
    means.append([tag("b", "mean"), *figures(results.mean)])
    if results.better is not None:
        better = (results.better.get(method, "-") for method in methods)
        means.append([f"better than no prompt, of {len(datasets)}", *better])
    note = "The best of a line is bold."
    return [
        tag("h3", "Mean over templates"),
        tag("p", f"{note} {ORACLE}" if "oracle" in methods else note),
        table(header, means),
        tag("h3", "Median over templates, and first to third quartile"),
        table(header, spreads),
    ]


def figures(values: Mapping[str, Any]) -> list[object]:
    """By method; the best is bold. The oracle is an upper bound and does not compete."""
    best = max((v for method, v in values.items() if method != "oracle" and v is not None), default=None)
    return [
        tag("b", figure(value)) if value is not None and value == best and method != "oracle" else figure(value)
        for method, value in values.items()
    ]


def spread(values: Mapping[str, Any]) -> Markup:
    """The median, and below it the first and the third quartile; `values` is from `metrics.summarise`."""
    quartiles = f"{figure(values['q25'], 3)} to {figure(values['q75'], 3)}"
    return join([figure(values["median"], 3), tag("small", quartiles)])


def vote_shares(votes: Mapping[str, Any]) -> list[Markup]:
    """A heat map of the share of each data set's votes by source data set, from `analysis.vote_shares`."""
    most = max((share for row in votes["share"] for share in row), default=0) or 1

    def cell(share: float) -> Markup:
        part = share / most
        colour = "#" + "".join(f"{round(255 + part * (full - 255)):02x}" for full in BLUE)
        style = f"background:{colour};color:{'#fff' if part > DARK else '#1a1a1a'}"
        return tag("td", f"{share:.2f}" if share >= 0.005 else "", style=style)

    lines = zip(votes["sources"], votes["share"], strict=True)
    body = (tag("tr", tag("th", name), *map(cell, shares)) for name, shares in lines)
    head = tag("thead", tag("tr", tag("td"), *(tag("th", name) for name in votes["targets"])))
    note = (
        "The share of each data set's votes (columns) by source data set (rows), over the data set's templates. "
        "Columns sum to 1. A vote is one of a query's nearest keys."
    )
    return [tag("p", note), tag("div", tag("table", head, tag("tbody", *body), class_="heat"), class_="wide")]


def tasks(records: Sequence[TargetRecord]) -> list[Markup]:
    """Every evaluation task, under a heading for each data set. Records of one data set must be adjacent."""
    shown: list[Markup] = []
    for number, record in enumerate(records):
        if not number or record.dataset != records[number - 1].dataset:
            shown.append(tag("h3", record.dataset))
        shown.append(task(record))
    return shown


def task(record: TargetRecord) -> Markup:
    """What each method took and scored, the candidates, and the instances that led to the most voted for."""
    numbers = {candidate.name: candidate.owner for candidate in record.candidates}
    chosen_by = {m: record.chosen.get(m, []) for m in record.scores}
    means = figures(record.scores)
    methods = ([TITLES[m], chosen(chosen_by[m]), score] for m, score in zip(chosen_by, means, strict=True))
    metric = record.metric.replace("_", " ")
    facts = (
        f"{record.rows} rows of {record.split} by {metric}; {len(record.query_rows)} queries of {record.query_split}. "
        f"Family: {record.family or 'not known'}. Answers: {record.answer_format}."
    )
    if record.left_out:
        facts += f" Excluded, as they were trained on this data set: {len(record.left_out)} source prompts."
    winner = record.candidates[0].name
    return fold(
        join([record.template, tag("small", headline(record.scores))]),
        tag("p", facts),
        table(["method", "source prompts, with their weights", metric], methods, names=2),
        tag("h4", "Candidates, the most voted for first"),
        *candidates(record.candidates, numbers),
        tag("h4", "Instances of ", source(winner, numbers), ", each beside the query that is nearest to it"),
        *(pair(one) for one in record.nearest),
    )


def headline(by_method: Mapping[str, float]) -> str:
    """The scores without a prompt and with the retrieved one; the first score where neither was evaluated."""
    first = [method for method in ("none", "rospr") if method in by_method] or list(by_method)[:1]
    return ", ".join(f"{TITLES[method]} {figure(by_method[method], 3)}" for method in first)


def chosen(parts: Sequence[Part]) -> Markup:
    """A line each, with the weight; where every row has its own prompt, with the number of rows."""
    lines = [f"{figure(p.weight, 2)} {p.name}" if p.rows is None else f"{p.rows} rows: {p.name}" for p in parts[:MOST]]
    more = [f"and {len(parts) - MOST} more"] if len(parts) > MOST else []
    return join(tag("div", line) for line in [*lines, *more]) or tag("div", "-")


def candidates(listed: Sequence[Candidate], numbers: Mapping[str, int]) -> list[Markup]:
    """The first ones in a table; how many more there are."""
    methods = list(dict.fromkeys(method for one in listed for method in one.weights))
    header = ["source prompt", "votes", "similarity", "answers", "variance", "score", *(TITLES[m] for m in methods)]
    rows = []
    for one in listed[:MOST]:
        kinds = tag("small", ", ".join(filter(None, (one.family, one.answer_format))))
        answers = "-" if one.answers is None else " : ".join(map(str, one.answers))
        measured = [figure(one.similarity, 3), answers, figure(one.variance), figure(one.score, 1)]
        weights = (figure(one.weights.get(method), 2) for method in methods)
        rows.append([join([source(one.name, numbers), kinds]), one.votes, *measured, *weights])
    rest = listed[MOST:]
    votes = sum(one.votes for one in rest)
    more = [tag("p", f"{len(rest)} more candidates have {votes} votes together.")] if rest else []
    note = (
        "Answers: how many queries got each answer choice. Choices are told apart by their text where all queries have "
        "the same choices, else by their position. Score: votes / (variance + eps). Last columns: weights."
    )
    return [table(header, rows), *more, tag("small", note)]


def pair(nearest: Nearest) -> Markup:
    """A query and the instance nearest to it, side by side."""
    query = tag("div", tag("small", f"query (row {nearest.query_row})"), tag("blockquote", nearest.query))
    caption = f"instance (key {nearest.key}), similarity {figure(nearest.similarity, 3)}"
    instance = tag("div", tag("small", caption), tag("blockquote", nearest.text))
    return tag("div", query, instance, class_="side")


def analysis(tables: Mapping[str, Any]) -> list[Section]:
    """What decides how well retrieval does, where every source prompt was scored."""
    content: list[object] = []
    for which, by_relation in tables.get("relations", {}).items():
        of = "every source prompt on every evaluation task" if which == "every" else "the most voted for on its task"
        rows = [[r, v["pairs"], f"{v['gain']:+.4f}", figure(v["better"], 3)] for r, v in by_relation.items()]
        header = ["in common with the evaluation task", "pairs", "mean gain over no prompt", "share that gains"]
        notes = [tag("p", note) for note in unknown_family(tables, which)]
        content += [tag("h3", f"Format and family: {of}"), *notes, *([table(header, rows)] if rows else [])]
    if within := tables.get("contrasts"):
        content += [tag("h3", "On the same evaluation task"), tag("p", WITHIN), table(CONTRASTS, contrasts(within))]
    for name, rows in tables.get("varied", {}).items():
        values = ([row["value"], figure(row["mean"]), figure(row["spread"])] for row in rows)
        header = [VARIED[name], "most voted for", "standard deviation over random subsets"]
        content.append(tag("div", tag("h3", f"Against {VARIED[name]}"), table(header, values)))
    return [("What decides", content)] if content else []


def read(workdir: str | pathlib.Path, library: PromptLibrary) -> tuple[Results, list[TargetRecord]]:
    """The results and the records of a finished evaluation, in its order.

    Raises:
      UserError: it is not finished, or was made with another library.
    """
    workdir = files.path(workdir)
    if not (workdir / RESULTS).exists():
        raise UserError(f"{workdir} holds no {RESULTS}: give the workdir of a job=rospr_eval that is finished.")
    of_run = Results.from_json(checksums.read_json(workdir / RESULTS, "evaluate again"))
    by_name = {record.target: record for record in map(read_record, sorted((workdir / "targets").glob("*.json")))}
    records = [by_name[task.target] for task in of_run.targets]
    if other := {record.made_by["library"] for record in records} - {library.fingerprint}:
        raise UserError(
            f"{workdir} was made with another library (fingerprint {min(other)}) than {library.path} "
            f"({library.fingerprint}): give that one, as it was then."
        )
    return of_run, records


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit status 2, with one sentence, for what a user can fix."""
    parser = argparse.ArgumentParser(prog="python -m infoprompt_jax.rospr.page", description="Writes report.html.")
    parser.add_argument("library", help="directory of a Source Prompt Library")
    parser.add_argument("evaluation", nargs="?", help="workdir of a job=rospr_eval that is finished")
    parser.add_argument("--out", default=NAME, help="file to write (default: %(default)s)")
    given = parser.parse_args(arguments)
    try:
        library = PromptLibrary.load(given.library, field="LIBRARY")
        of_run, records = read(given.evaluation, library) if given.evaluation else (None, [])
        write(given.out, library, of_run, records)
    except UserError as error:
        print("error:", *str(error).split(), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
