"""report.html, a page to look at: a Source Prompt Library, and what an evaluation has retrieved from it and why.

The jobs write it at their end. For a library that was merged, or after more prompts were added:

    python -m infoprompt_jax.rospr.page LIBRARY [WORKDIR OF THE EVALUATION] --out report.html
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from infoprompt_jax import files
from infoprompt_jax.errors import UserError
from infoprompt_jax.reports import pages
from infoprompt_jax.reports.pages import fold, join, table, tag
from infoprompt_jax.rospr import prompt_map
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.rospr.results import ORACLE, TITLES, VARIED, rows_text, unknown_family

MOST = 8  # candidates of a target, and source prompts of a method, that are shown one by one
BLUE = (0x00, 0x72, 0xB2)
DARK = 0.88  # of the blue: from here on white letters have the better contrast
NAME = "report.html"

Json = Mapping[str, Any]
Section = tuple[str, Sequence[object]]  # heading, content


def write(
    path: str | pathlib.Path, library: PromptLibrary, results: Json | None = None, records: Sequence[Json] = ()
) -> None:
    """Writes the page, whole or not at all; the same for the same input.

    Args:
      path: of the HTML file.
      library: the map and the list of source prompts.
      results: of an evaluation, from `rospr_report.results`; None = the library alone.
      records: the contents of all of its targets' files, which hold what explains the choices.
    """
    known = [("Map of source prompts", prompt_map.maps(library)), ("All source prompts", sources(library))]
    if results is None:
        pages.write(path, "Source Prompt Library", known)
        return
    found, records = files.strict(results), files.strict(records)
    sections: list[Section] = [
        ("Results", scores(found)),
        ("Who was retrieved for what", retrieval(found["analysis"]["retrieval"])),
        ("Targets one by one", targets(records)),
        *analysis(found["analysis"]),
        *known,
    ]
    if found["skipped"]:
        rows = ([one["name"], one["reason"]] for one in found["skipped"])
        sections.append(("Skipped", [table(["target", "reason"], rows, names=2)]))
    pages.write(path, "Zero-shot evaluation with retrieved prompts", sections)


def figure(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def source(name: str, numbers: Mapping[str, int]) -> Markup:
    """A source prompt's name as a link to it in the list."""
    return tag("a", name, href=f"#source-{numbers[name]}")


def sources(library: PromptLibrary) -> list[Markup]:
    """What the library is, and the list in its order: the elements `source-<number>`."""
    manifest, keys = library.manifest, len(library.owners_K)
    about = (
        f"{len(library)} source prompts of {manifest.prompt_length} tokens, for the backbone {manifest.backbone}. "
        f"They are found by {keys} keys of {manifest.retriever}; similarity: {manifest.similarity.replace('_', ' ')}."
    )
    header = ["source prompt", "data set", "hard prompt", "family", "answers", "answer choices", "keys", "metrics"]
    rows = []
    for row in library.listing():
        name = tag("span", row["name"], id=f"source-{row['owner']}")
        words = [row[column] or "-" for column in ("dataset", "template", "family", "answer_format")]
        values = (f"{metric} {value:.4f}" for metric, value in row["metrics"].items())
        rows.append([name, *words, " | ".join(row["choices"]) or "-", row["keys"], ", ".join(values) or "-"])
    return [tag("p", about), table(header, rows, names=6)]


def scores(results: Json) -> list[Markup]:
    """By data set and method the mean over hard prompts; then the median with the quartiles."""
    methods, datasets = list(results["mean"]), results["datasets"]
    header = ["data set", *(TITLES[m] for m in methods)]
    means, spreads = [], []
    for name, dataset in datasets.items():
        of, prompts = dataset["scores"], f"{dataset['hard_prompts']} hard prompts, {rows_text(dataset)} rows"
        first = join([name, tag("small", dataset["metric"].replace("_", " ")), tag("small", prompts)])
        means.append([first, *figures({m: of[m]["mean"] for m in methods})])
        spreads.append([name, *(spread(of[m]) for m in methods)])
    means.append([tag("b", "mean"), *figures(results["mean"])])
    if "better" in results:
        better = (results["better"].get(method, "-") for method in methods)
        means.append([f"better than no prompt, of {len(datasets)}", *better])
    note = "The best of a line is bold."
    return [
        tag("h3", "Mean over hard prompts"),
        tag("p", f"{note} {ORACLE}" if "oracle" in methods else note),
        table(header, means),
        tag("h3", "Median over hard prompts, and first to third quartile"),
        table(header, spreads),
    ]


def figures(values: Json) -> list[object]:
    """By method; the best is bold. The oracle is an upper bound and does not compete."""
    best = max((v for method, v in values.items() if method != "oracle" and v is not None), default=None)
    return [
        tag("b", figure(value)) if value is not None and value == best and method != "oracle" else figure(value)
        for method, value in values.items()
    ]


def spread(values: Json) -> Markup:
    quartiles = f"{figure(values['q25'], 3)} to {figure(values['q75'], 3)}"
    return join([figure(values["median"], 3), tag("small", quartiles)])


def retrieval(found: Json) -> list[Markup]:
    """A heat map: which share of each target data set's votes fell on which source data set."""
    most = max((share for row in found["share"] for share in row), default=0) or 1

    def cell(share: float) -> Markup:
        part = share / most
        colour = "#" + "".join(f"{round(255 + part * (full - 255)):02x}" for full in BLUE)
        style = f"background:{colour};color:{'#fff' if part > DARK else '#1a1a1a'}"
        return tag("td", f"{share:.2f}" if share >= 0.005 else "", style=style)

    lines = zip(found["sources"], found["share"], strict=True)
    body = (tag("tr", tag("th", name), *map(cell, shares)) for name, shares in lines)
    head = tag("thead", tag("tr", tag("td"), *(tag("th", name) for name in found["targets"])))
    note = (
        "The share of a target data set's votes that fell on each source data set, over its hard prompts; columns sum "
        "to 1. A vote is one of a query's nearest keys."
    )
    return [tag("p", note), tag("div", tag("table", head, tag("tbody", *body), class_="heat"), class_="wide")]


def targets(records: Sequence[Json]) -> list[Markup]:
    shown: list[Markup] = []
    for number, record in enumerate(records):
        if not number or record["dataset"] != records[number - 1]["dataset"]:
            shown.append(tag("h3", record["dataset"]))
        shown.append(target(record))
    return shown


def target(record: Json) -> Markup:
    """What each method took and scored, the candidates, and the instances that the most voted for was found by."""
    numbers = {candidate["name"]: candidate["owner"] for candidate in record["candidates"]}
    took = {m: record["chosen"].get(m, []) for m in record["scores"]}
    means = figures(record["scores"])
    methods = ([TITLES[m], chosen(took[m]), score] for m, score in zip(took, means, strict=True))
    facts = (
        f"{record['rows']} rows of {record['split']} by {record['metric'].replace('_', ' ')}; "
        f"{len(record['query_rows'])} queries of {record['query_split']}. "
        f"Family: {record['family'] or 'not known'}. Answers: {record['answer_format']}."
    )
    if left_out := len(record.get("left_out", ())):
        facts += f" Left out, as they were trained on this data set: {left_out} source prompts."
    winner = record["candidates"][0]["name"]
    return fold(
        join([record["template"], tag("small", headline(record["scores"]))]),
        tag("p", facts),
        table(["method", "source prompts, with their weights", record["metric"].replace("_", " ")], methods, names=2),
        tag("h4", "Candidates, the most voted for first"),
        *candidates(record["candidates"], numbers),
        tag("h4", "Instances that ", source(winner, numbers), " was found by, beside the queries that found them"),
        *(pair(one) for one in record["nearest"]),
    )


def headline(by_method: Json) -> str:
    first = [method for method in ("none", "rospr") if method in by_method] or list(by_method)[:1]
    return ", ".join(f"{TITLES[method]} {figure(by_method[method], 3)}" for method in first)


def chosen(parts: Sequence[Json]) -> Markup:
    """A line each, with the weight; where every row has its own prompt, with the number of rows."""
    lines = [
        f"{p['rows']} rows: {p['name']}" if "rows" in p else f"{p['weight']:.2f} {p['name']}" for p in parts[:MOST]
    ]
    more = [f"and {len(parts) - MOST} more"] if len(parts) > MOST else []
    return join(tag("div", line) for line in [*lines, *more]) or tag("div", "-")


def candidates(found: Sequence[Json], numbers: Mapping[str, int]) -> list[Markup]:
    """The first ones in a table; how many more there are."""
    methods = list(dict.fromkeys(method for one in found for method in one["weights"]))
    header = ["source prompt", "votes", "similarity", "answers", "variance", "score", *(TITLES[m] for m in methods)]
    rows = []
    for one in found[:MOST]:
        kinds = tag("small", ", ".join(filter(None, (one["family"], one["answer_format"]))))
        answers = "-" if one["answers"] is None else " : ".join(map(str, one["answers"]))
        measured = [figure(one["similarity"], 3), answers, figure(one["variance"]), figure(one["score"], 1)]
        weights = (figure(one["weights"].get(method), 2) for method in methods)
        rows.append([join([source(one["name"], numbers), kinds]), one["votes"], *measured, *weights])
    rest = found[MOST:]
    votes = sum(one["votes"] for one in rest)
    more = [tag("p", f"{len(rest)} more candidates have {votes} votes together.")] if rest else []
    note = (
        "Answers: how many queries got each answer choice, by its text where all queries have the same choices, else "
        "by its position. Score: votes / (variance + eps). Last columns: weights."
    )
    return [table(header, rows), *more, tag("small", note)]


def pair(one: Json) -> Markup:
    query = tag("div", tag("small", f"query (row {one['query_row']})"), tag("blockquote", one["query"]))
    caption = f"instance (key {one['key']}), similarity {figure(one['similarity'], 3)}"
    found = tag("div", tag("small", caption), tag("blockquote", one["text"]))
    return tag("div", query, found, class_="side")


def analysis(found: Json) -> list[Section]:
    """What decides how well retrieval does, where every source prompt was scored."""
    content: list[object] = []
    for which, by_relation in found.get("relations", {}).items():
        of = "every source prompt on every target" if which == "every" else "the most voted for on its target"
        rows = [[r, v["pairs"], f"{v['gain']:+.4f}", figure(v["better"], 3)] for r, v in by_relation.items()]
        header = ["in common with the target", "pairs", "mean gain over no prompt", "share that gains"]
        notes = [tag("p", note) for note in unknown_family(found, which)]
        content += [tag("h3", f"Format and family: {of}"), *notes, *([table(header, rows)] if rows else [])]
    for name, rows in found.get("varied", {}).items():
        values = ([row["value"], figure(row["mean"]), figure(row["spread"])] for row in rows)
        header = [VARIED[name], "most voted for", "standard deviation over random subsets"]
        content.append(tag("div", tag("h3", f"Against {VARIED[name]}"), table(header, values)))
    return [("What decides", content)] if content else []


def read(workdir: str | pathlib.Path, library: PromptLibrary) -> tuple[Json, list[Json]]:
    """The results and the targets' records of an evaluation that is finished, in its order.

    Raises:
      UserError: it is not finished, or was made with another library.
    """
    workdir = pathlib.Path(workdir).expanduser()
    if not (workdir / "results.json").exists():
        raise UserError(f"{workdir} holds no results.json: give the workdir of a job=rospr_eval that is finished.")
    results = json.loads((workdir / "results.json").read_text(encoding="utf-8"))
    kept = (json.loads(path.read_text(encoding="utf-8")) for path in sorted((workdir / "targets").glob("*.json")))
    by_name = {record["target"]: record for record in kept}
    records = [by_name[one["target"]] for one in results["targets"]]
    if other := {record["made_by"]["library"] for record in records} - {library.fingerprint}:
        raise UserError(
            f"{workdir} was made with another library (fingerprint {min(other)}) than {library.path} "
            f"({library.fingerprint}): give that one, as it was then."
        )
    return results, records


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit status 2, with one sentence, for what a user can fix."""
    parser = argparse.ArgumentParser(prog="python -m infoprompt_jax.rospr.page", description="Writes report.html.")
    parser.add_argument("library", help="directory of a Source Prompt Library")
    parser.add_argument("evaluation", nargs="?", help="workdir of a job=rospr_eval that is finished")
    parser.add_argument("--out", default=NAME, help="file to write (default: %(default)s)")
    given = parser.parse_args(arguments)
    try:
        library = PromptLibrary.load(given.library, field="LIBRARY")
        results, records = read(given.evaluation, library) if given.evaluation else (None, [])
        write(given.out, library, results, records)
    except UserError as error:
        print("error:", *str(error).split(), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
