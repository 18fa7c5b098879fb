"""The tables of a zero-shot evaluation: `table` is printed at its end, `page` is results.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from infoprompt_jax.plain_text import in_markdown
from infoprompt_jax.reports.tables import aligned, markdown
from infoprompt_jax.rospr.records import Part
from infoprompt_jax.rospr.results import ORACLE, TITLES, VARIED, DatasetScores, LibrarySize, Results

CONTRASTS = (
    "in common",
    "less those with in common",
    "data sets",
    "difference in gain",
    "deviation over them",
)
WITHIN = (
    "Source prompts on one evaluation task are compared with each other; the mean is over templates, then over data "
    "sets. The tables above pool all pairs, so a difference between two of their lines may be one between data sets."
)


def table(summary: Mapping[str, Any]) -> str:
    """`Results.summary` as text: a line for each data set, then their mean; a column for each method."""
    mean = summary["mean"]
    rows = [
        [
            name,
            of["metric"],
            of["hard_prompts"],
            rows_text(of["rows"], of.get("fewest_rows", of["rows"])),
            *_figures(of["scores"], mean),
        ]
        for name, of in summary["datasets"].items()
    ]
    rows.append(["mean", "", summary["targets"], "", *_figures(mean, mean)])
    if "mean_of_t0" in summary:
        rows.append(["of T0's", "", "", "", *_figures(summary["mean_of_t0"], mean)])
    header = ["data set", "metric", "templates", "rows", *(TITLES[method] for method in mean)]
    notes = [f"{summary['skipped']} skipped; results.md has the reasons."] if summary["skipped"] else []
    if "library" in summary:  # a summary may be older
        notes.append(library_text(LibrarySize(**summary["library"])))
    return "\n".join([aligned(header, rows, text_columns=2), *notes])


def _figures(by_method: Mapping[str, float], methods: Mapping[str, Any]) -> list[str]:
    return [f"{by_method[method]:.4f}" for method in methods]


def library_text(library: LibrarySize) -> str:
    """The size and the path of the library, in one line."""
    return f"Library: {library.prompts} source prompts with {library.keys} keys, {library.path}"


def rows_text(most: int, fewest: int) -> str:
    """How many rows the templates of a data set were evaluated on."""
    return str(most) if fewest == most else f"{fewest}-{most}"


def page(results: Results) -> str:
    """results.md: all tables."""
    parts = [
        "# Zero-shot evaluation",
        in_markdown(library_text(results.library)),
        *_scores(results),
        *_analysis(results.analysis),
        *_choices(results),
    ]
    if results.skipped:
        parts += [
            "## Skipped",
            markdown(
                ["evaluation task", "reason"],
                ([in_markdown(one.name), in_markdown(one.reason)] for one in results.skipped),
            ),
        ]
    return "\n\n".join(parts) + "\n"


def _scores(results: Results) -> list[str]:
    methods = list(results.mean)
    header = ["data set", "metric", "templates", "rows", *(TITLES[m] for m in methods)]
    rows = [_row(name, d, [f"{d.scores[m]['mean']:.4f}" for m in methods]) for name, d in results.datasets.items()]
    # The oracle does not compete: it is chosen by the labels.
    means = (f"{results.mean[m]:.4f}" if m == "oracle" else f"**{results.mean[m]:.4f}**" for m in methods)
    rows.append(["**mean**", "", len(results.targets), "", *means])
    if results.mean_of_t0 is not None:
        rows.append(
            [
                "mean of the templates that T0 was evaluated with",
                "",
                "",
                "",
                *_figures(results.mean_of_t0, results.mean),
            ]
        )
    if results.better is not None:
        rows.append(["better than no prompt", "", "", "", *(results.better.get(m, "") for m in methods)])
    spread = [_row(name, d, [_spread(d.scores[m]) for m in methods]) for name, d in results.datasets.items()]
    return [
        *([ORACLE] if "oracle" in methods else []),
        "## Mean over templates",
        markdown(header, rows),
        "## Median over templates, and quartiles",
        markdown(header, spread),
    ]


def _row(name: str, dataset: DatasetScores, figures: Sequence[str]) -> list[object]:
    return [
        in_markdown(name),
        dataset.metric,
        dataset.hard_prompts,
        rows_text(dataset.rows, dataset.fewest_rows),
        *figures,
    ]


def _spread(values: Mapping[str, float]) -> str:
    return f"{values['median']:.3f} ({values['q25']:.3f} to {values['q75']:.3f})"


def _choices(results: Results) -> list[str]:
    shown = [m for m in results.mean if m not in ("none", "per_query")]
    rows = [
        [in_markdown(task.target), *(in_markdown("; ".join(map(_part, task.chosen[m]))) for m in shown)]
        for task in results.targets
    ]
    header = ["evaluation task", *(TITLES[m] for m in shown)]
    return ["## Source prompts of each method, with their weights", markdown(header, rows)]


def _part(part: Part) -> str:
    return part.name if part.weight == 1 else f"{part.name} {part.weight:.2f}"


def _analysis(analysis: Mapping[str, Any]) -> list[str]:
    parts = []
    for which, by_relation in analysis.get("relations", {}).items():
        of = "every source prompt on every evaluation task" if which == "every" else "the most voted for source prompt"
        rows = [[r, v["pairs"], f"{v['gain']:+.4f}", f"{v['better']:.3f}"] for r, v in by_relation.items()]
        header = ["in common with the evaluation task", "pairs", "mean gain over no prompt", "share that gains"]
        parts += [f"## What helps: {of}", *unknown_family(analysis, which), *([markdown(header, rows)] if rows else [])]
    if within := analysis.get("contrasts"):
        parts += ["## What helps, on the same evaluation task", WITHIN, markdown(CONTRASTS, contrasts(within))]
    for name, rows in analysis.get("varied", {}).items():
        figures = ([row["value"], f"{row['mean']:.4f}", f"{row['spread']:.4f}"] for row in rows)
        header = [VARIED[name], "most voted for", "standard deviation over random subsets"]
        parts += [f"## Against {VARIED[name]}", markdown(header, figures)]
    votes = analysis["retrieval"]
    rows = [
        [in_markdown(source), *(f"{x:.3f}" for x in share)]
        for source, share in zip(votes["sources"], votes["share"], strict=True)
    ]
    return [
        *parts,
        "## Share of votes by source data set",
        markdown(["source", *map(in_markdown, votes["targets"])], rows),
    ]


def contrasts(within: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """The rows of a table with the header `CONTRASTS`, from `relations.contrasts`."""
    return [
        [
            one["more"],
            one["less"],
            str(one["datasets"]),
            f"{one['difference']:+.4f}",
            "" if one["spread"] is None else f"{one['spread']:.4f}",
        ]
        for one in within
    ]


def unknown_family(analysis: Mapping[str, Any], which: str) -> list[str]:
    """The note above a table of relations that leaves out pairs."""
    count = analysis.get("unknown_family", {}).get(which, 0)  # results may be older than this count
    note = "Left out are {} pairs of a source prompt and an evaluation task of which one has no known family."
    return [note.format(count)] if count else []
