"""The results of zero-shot evaluation for people: JSON, Markdown, a plot of the methods and a heat map of retrieval."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from infoprompt_jax import files
from infoprompt_jax.data import p3
from infoprompt_jax.data.selection import Skipped
from infoprompt_jax.evaluation import metrics
from infoprompt_jax.files import whole
from infoprompt_jax.reports import figures

TITLES = {
    "none": "no prompt",
    "rospr": "RoSPr",
    "inter": "INTER",
    "var": "VAR",
    "inter_var": "INTER+VAR",
    "per_query": "per query",
    "oracle": "oracle",
}
MARKERS = ("o", "s", "D", "^", "v", "P", "*")
ORACLE = "The oracle is the source prompt that does best on the evaluated rows: an upper bound, picked by the labels."
VARIED = {
    "instances": "n, instances a source prompt",
    "queries": "Q, queries",
    "top": "N, hits a query",
    "prompts": "source prompts in the library",
}


def results(
    records: Sequence[Mapping[str, Any]],
    skipped: Sequence[Skipped],
    analysis: Mapping[str, Any],
    library: Mapping[str, Any],
) -> dict[str, Any]:
    """Per data set, mean, median and quartiles over its hard prompts; over data sets the mean of these means.

    `better` counts the data sets in which a method's mean is above that of no prompt. `library` has its path, and how
    many source prompts and keys it holds.
    """
    by_dataset: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        by_dataset.setdefault(record["dataset"], []).append(record)
    datasets = {name: _dataset(own) for name, own in by_dataset.items()}
    methods = list(records[0]["scores"])
    means = {m: [dataset["scores"][m]["mean"] for dataset in datasets.values()] for m in methods}
    found: dict[str, Any] = {
        "library": dict(library),
        "datasets": datasets,
        "mean": {method: float(np.mean(values)) for method, values in means.items()},
    }
    if any(record["beyond_t0"] for record in records):
        of_p3 = {dataset.name for dataset in p3.held_out()}
        of_t0 = [[r for r in own if not r["beyond_t0"]] for name, own in by_dataset.items() if name in of_p3]
        if scores := [_dataset(own)["scores"] for own in of_t0 if own]:
            found["mean_of_t0"] = {m: float(np.mean([of[m]["mean"] for of in scores])) for m in methods}
    if "none" in methods:
        none = np.array(means["none"])
        found["better"] = {m: int((np.array(means[m]) > none).sum()) for m in methods if m != "none"}
    targets = [{key: r[key] for key in ("target", "dataset", "metric", "rows", "scores", "chosen")} for r in records]
    return found | {
        "targets": targets,
        "skipped": [{"name": one.name, "reason": one.reason} for one in skipped],
        "analysis": dict(analysis),
    }


def _dataset(own: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    methods = own[0]["scores"]
    return {
        "metric": own[0]["metric"],
        "hard_prompts": len(own),
        "rows": max(record["rows"] for record in own),
        "fewest_rows": min(record["rows"] for record in own),  # a hard prompt need not apply to all
        "scores": {method: metrics.summarise([record["scores"][method] for record in own]) for method in methods},
    }


def summary(results: Mapping[str, Any]) -> dict[str, Any]:
    """What is printed: the means, and how much they are of."""
    datasets = {
        name: {key: d[key] for key in ("metric", "hard_prompts", "rows", "fewest_rows")}
        | {"scores": {method: spread["mean"] for method, spread in d["scores"].items()}}
        for name, d in results["datasets"].items()
    }
    found = {"datasets": datasets, "mean": results["mean"], "better": results.get("better", {})}
    if "mean_of_t0" in results:
        found["mean_of_t0"] = results["mean_of_t0"]
    counts = {"targets": len(results["targets"]), "skipped": len(results["skipped"])}
    return found | counts | {"library": results["library"]}


def table(summary: Mapping[str, Any]) -> str:
    """A line each data set and one of means, a column each method, as aligned text."""
    methods = list(summary["mean"])
    lines = [["data set", "metric", "prompts", "rows", *(TITLES[m] for m in methods)]]
    for name, d in summary["datasets"].items():
        figures = [f"{d['scores'][m]:.4f}" for m in methods]
        lines.append([name, d["metric"], str(d["hard_prompts"]), rows_text(d), *figures])
    lines.append(["mean", "", str(summary["targets"]), "", *(f"{summary['mean'][m]:.4f}" for m in methods)])
    if "mean_of_t0" in summary:
        lines.append(["of T0's", "", "", "", *(f"{summary['mean_of_t0'][m]:.4f}" for m in methods)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    left = [[line[0].ljust(widths[0]), line[1].ljust(widths[1])] for line in lines]
    text = ["  ".join([*a, *map(str.rjust, b[2:], widths[2:])]) for a, b in zip(left, lines, strict=True)]
    notes = [f"{summary['skipped']} skipped; results.md says why."] if summary["skipped"] else []
    if "library" in summary:  # a summary may be older
        notes.append(library_text(summary["library"]))
    return "\n".join([text[0], "-" * len(text[0]), *text[1:], *notes])


def library_text(library: Mapping[str, Any]) -> str:
    return f"Library: {library['prompts']} source prompts with {library['keys']} keys, {library['path']}"


def write(directory: pathlib.Path, results: Mapping[str, Any]) -> None:
    """results.json, results.md, results.png and analysis.png, each whole or not at all."""
    files.write_json(directory / "results.json", results)
    with whole(directory / "results.md") as partial:
        partial.write_text(markdown(results), encoding="utf-8")
    plot(directory / "results.png", results)
    heat_map(directory / "analysis.png", results["analysis"]["retrieval"])


def markdown(results: Mapping[str, Any]) -> str:
    """All tables."""
    parts = [
        "# Zero-shot evaluation",
        library_text(results["library"]),
        *_scores(results),
        *_analysis(results["analysis"]),
        *_choices(results),
    ]
    if results["skipped"]:
        rows = ([one["name"], one["reason"]] for one in results["skipped"])
        parts += ["## Skipped", _markdown(["target", "reason"], rows)]
    return "\n\n".join(parts) + "\n"


def _scores(results: Mapping[str, Any]) -> list[str]:
    datasets, methods = results["datasets"], list(results["mean"])
    header = ["data set", "metric", "hard prompts", "rows", *(TITLES[m] for m in methods)]
    rows = [_row(name, d, [f"{d['scores'][m]['mean']:.4f}" for m in methods]) for name, d in datasets.items()]
    rows.append(["**mean**", "", len(results["targets"]), "", *(f"**{results['mean'][m]:.4f}**" for m in methods)])
    if "mean_of_t0" in results:
        own = [f"{results['mean_of_t0'][m]:.4f}" for m in methods]
        rows.append(["mean of the hard prompts that T0 was evaluated with", "", "", "", *own])
    if "better" in results:
        better = [str(results["better"].get(m, "")) for m in methods]
        rows.append(["better than no prompt", "", "", "", *better])
    spread = [_row(name, d, [_spread(d["scores"][m]) for m in methods]) for name, d in datasets.items()]
    note = [ORACLE] if "oracle" in methods else []
    return [
        *note,
        "## Mean over hard prompts",
        _markdown(header, rows),
        "## Median over hard prompts, and quartiles",
        _markdown(header, spread),
    ]


def _row(name: str, dataset: Mapping[str, Any], figures: list[str]) -> list[Any]:
    return [name, dataset["metric"], dataset["hard_prompts"], rows_text(dataset), *figures]


def rows_text(dataset: Mapping[str, Any]) -> str:
    """How many rows a hard prompt of the data set was evaluated on."""
    fewest, most = dataset.get("fewest_rows", dataset["rows"]), dataset["rows"]  # a summary may be older than the first
    return str(most) if fewest == most else f"{fewest}-{most}"


def _spread(values: Mapping[str, float]) -> str:
    return f"{values['median']:.3f} ({values['q25']:.3f} to {values['q75']:.3f})"


def _choices(results: Mapping[str, Any]) -> list[str]:
    shown = [m for m in results["mean"] if m not in ("none", "per_query")]
    rows = [[t["target"], *("; ".join(map(_part, t["chosen"][m])) for m in shown)] for t in results["targets"]]
    return ["## Source prompts taken, with their weights", _markdown(["target", *(TITLES[m] for m in shown)], rows)]


def _part(part: Mapping[str, Any]) -> str:
    return part["name"] if part["weight"] == 1 else f"{part['name']} {part['weight']:.2f}"


def _analysis(analysis: Mapping[str, Any]) -> list[str]:
    parts = []
    for which, by_relation in analysis.get("relations", {}).items():
        of = "every source prompt on every target" if which == "every" else "the most voted for source prompt"
        rows = [[r, v["pairs"], f"{v['gain']:+.4f}", f"{v['better']:.3f}"] for r, v in by_relation.items()]
        header = ["in common with the target", "pairs", "mean gain over no prompt", "share that gains"]
        parts += [
            f"## What helps: {of}",
            *unknown_family(analysis, which),
            *([_markdown(header, rows)] if rows else []),
        ]
    for name, rows in analysis.get("varied", {}).items():
        figures = ([row["value"], f"{row['mean']:.4f}", f"{row['spread']:.4f}"] for row in rows)
        header = [VARIED[name], "most voted for", "standard deviation over random subsets"]
        parts += [f"## Against {VARIED[name]}", _markdown(header, figures)]
    retrieval = analysis["retrieval"]
    rows = [
        [s, *(f"{x:.3f}" for x in share)] for s, share in zip(retrieval["sources"], retrieval["share"], strict=True)
    ]
    return [*parts, "## Share of votes by source data set", _markdown(["source", *retrieval["targets"]], rows)]


def unknown_family(analysis: Mapping[str, Any], which: str) -> list[str]:
    """What is said above a table of relations where it leaves pairs out."""
    count = analysis.get("unknown_family", {}).get(which, 0)  # results may be older than this count
    note = "Without pairs of a source prompt and a target of which one has no known family: there are"
    return [f"{note} {count} of them."] if count else []


def _markdown(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def plot(path: pathlib.Path, results: Mapping[str, Any], over: str = "hard prompts") -> None:
    """A PNG: for each data set, a dot for each method's mean `over` something and a line between the quartiles."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    methods, datasets = list(results["mean"]), results["datasets"]
    figure = Figure(figsize=(8.5, 1.6 + 0.62 * len(datasets)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place in range(1, len(datasets), 2):
        axes.axhspan(place - 0.5, place + 0.5, color="#F5F5F5", zorder=0)
    for index, method in enumerate(methods):
        colour = figures.COLOURS[index]
        y = np.arange(len(datasets)) + 0.75 * ((index + 0.5) / len(methods) - 0.5)
        spread = {name: [d["scores"][method][name] for d in datasets.values()] for name in ("mean", "q25", "q75")}
        axes.hlines(y, spread["q25"], spread["q75"], color=colour, linewidth=1.2, alpha=0.6)
        face = "none" if method == "oracle" else colour
        dots = axes.scatter(spread["mean"], y, s=26, zorder=3, marker=MARKERS[index], label=TITLES[method])
        dots.set(facecolor=face, edgecolor=colour)
    axes.set_yticks(range(len(datasets)), list(datasets))
    axes.set_ylim(len(datasets) - 0.5, -0.5)
    used = {dataset["metric"].replace("_", " ") for dataset in datasets.values()}
    axes.set_xlabel(f"{', '.join(sorted(used))}: mean over {over}; lines: quartiles", fontsize=9, color="#444444")
    axes.tick_params(labelsize=8.5, color="#999999", labelcolor="#444444")
    axes.grid(axis="x", color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color("#999999")
    figure.legend(loc="outside upper left", ncols=len(methods), frameon=False, fontsize=8.5)
    with whole(path) as partial:
        figure.savefig(partial, format="png")


def heat_map(path: pathlib.Path, retrieval: Mapping[str, Any]) -> None:
    """A PNG: which share of each target data set's votes fell on which source data set."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    share, (rows, columns) = np.array(retrieval["share"]), (len(retrieval["sources"]), len(retrieval["targets"]))
    figure = Figure(figsize=(3.5 + 0.6 * columns, 2.2 + 0.3 * rows), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=max(float(share.max()), 1e-9), aspect="auto")
    for (row, column), value in np.ndenumerate(share):
        if value >= 0.005:
            colour = "white" if value > 0.6 * share.max() else "#222222"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(columns), retrieval["targets"], rotation=40, ha="right", fontsize=8)
    axes.set_yticks(range(rows), retrieval["sources"], fontsize=8)
    axes.set_title("Share of a target's votes, by source data set", loc="left", fontsize=10)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, shrink=0.6, pad=0.02).ax.tick_params(labelsize=7.5)
    with whole(path) as partial:
        figure.savefig(partial, format="png")
