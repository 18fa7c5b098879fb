"""report.html: what a training run or an evaluation ended with, in one file that needs no network and no script.

The jobs `train` and `evaluate` write it at their end. On it are the table that they print, the curves, the metrics of
each template, what the prompts resemble, the speed, the warnings, and the config fields that are not the defaults.
"""

from __future__ import annotations

import base64
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from infoprompt_jax import checksums
from infoprompt_jax.member_names import by_seed, group_title
from infoprompt_jax.reports import final_table, pages
from infoprompt_jax.reports.pages import bullets, join, table, tag
from infoprompt_jax.saved_config import current
from infoprompt_jax.settings import defaults, flatten

NAME = "report.html"
MOST = 64  # members whose prompt is listed
# Of summary.json: title, and how the value is shown.
SPEED = {
    "device": ("device", "{}"),
    "devices": ("number of devices", "{}"),
    "steps_per_second": ("steps/s", "{:.2f}"),
    "tokens_per_second": ("tokens/s", "{:,.0f}"),
    "input_wait_share": ("share of the time spent waiting for batches", "{:.1%}"),
    "mfu": ("share of the chip's peak FLOP/s (MFU)", "{:.1%}"),
    "compile_seconds": ("seconds of compilation", "{:.1f}"),
    "compilations": ("compiled programs", "{}"),
}

REMEDY = "run the job again to have it written again"
Section = tuple[str, Sequence[object]]  # heading, content
Members = Sequence[Mapping[str, Any]]


def write(workdir: pathlib.Path, summary: Mapping[str, Any], warnings: Sequence[str]) -> None:
    """Writes the page of the run in `workdir`, whole or not at all; the same for the same input.

    Args:
      workdir: holds config.json, and of a training run the curves and the exported prompts.
      summary: the content of its summary.json.
      warnings: what was logged.
    """
    config = checksums.read_json(workdir / "config.json", REMEDY)
    members = summary["members"]
    sections: list[Section] = [("Results", results(summary))]
    if (picture := workdir / "curves.png").exists():
        sections.append(("Curves", [curves(picture)]))
    sections.append(("Metrics", metrics(members)))
    if (exported := workdir / "prompts").exists():
        sections.append(("Prompts", prompts(exported, members)))
    if summary.get("steps_per_second"):  # zero where a finished run only got a test split
        sections.append(("Speed", [table(["", ""], speed(summary))]))
    sections += [("Warnings", logged(warnings)), ("Config", fields(config))]
    what = "Evaluation" if config["job"] == "evaluate" else "Training run"
    pages.write(workdir / NAME, f"{what}: {workdir.name}", sections)


def results(summary: Mapping[str, Any]) -> list[Markup]:
    """The table that the job prints, and its notes; what was evaluated, on what."""
    members = {member["name"]: member for member in [*summary.get("references", []), *summary["members"]]}
    header, rows = final_table.cells(members)
    rows_of = ", ".join(f"{count} rows of {split}" for split, count in summary["examples"].items())
    trained = f", trained on {summary['training_examples']} rows" if "training_examples" in summary else ""
    about = f"Backbone {summary['backbone']}{trained}, evaluated on {rows_of}. MI: mutual information, in nats."
    return [tag("p", about), table(header, rows), *(tag("p", note) for note in final_table.notes(summary))]


def curves(picture: pathlib.Path) -> Markup:
    """The picture, inside the page."""
    data = base64.b64encode(picture.read_bytes()).decode("ascii")
    text = "Loss, evaluation, mutual information and prompt norm against the step"
    return tag("figure", tag("img", src=f"data:image/png;base64,{data}", alt=text))


def metrics(members: Members) -> list[Markup]:
    """The best prompts on the evaluation split, then on the test split: each metric, and each template."""
    shown: list[Markup] = []
    for entry, split in (("best", "evaluation split"), ("test", "test split")):
        names = list(dict.fromkeys(name for member in members for name in member.get(entry, {})))
        for title, part in (
            ("", [name for name in names if "/" not in name]),
            (" by template", [name for name in names if "/" in name]),
        ):
            if part:
                shown += [tag("h3", f"The best prompt on the {split}{title}"), by_group(members, entry, part)]
    return shown


def by_group(members: Members, entry: str, names: Sequence[str]) -> Markup:
    """A line for each metric; a column for each member, or for the seeds of a group: mean ± standard deviation."""
    named = {member["name"]: member for member in members}
    groups = by_seed(named)
    rows = []
    for name in names:
        values = ([named[one].get(entry, {}).get(name) for one in group] for group in groups.values())
        rows.append([name.replace("/", ", ", 1), *(final_table.spread(of_group, 4) for of_group in values)])
    return table(["metric", *(group_title(group, of) for group, of in groups.items())], rows)


def prompts(directory: pathlib.Path, members: Members) -> list[Markup]:
    """The best prompt of each member, and the vocabulary pieces nearest to its first tokens."""
    rows = []
    for member in members[:MOST]:
        # Not as a prompt: that of a member whose loss became infinite may hold infinite values, and is refused.
        metadata = checksums.read_json(directory / member["name"] / "prompt.json", REMEDY)
        nearest = join((tag("b", piece) for piece in metadata["nearest_tokens"]), " · ")
        rows.append([member["name"], nearest, member.get("best_step", "-"), metadata["init"]])
    note = (
        "The vocabulary pieces with the largest cosine to the first tokens of each best prompt, and the step that it "
        "is of. A prompt need not mean what its nearest pieces do."
    )
    more = [tag("p", f"{len(members) - MOST} more members are in {directory.name}/.")] if len(members) > MOST else []
    return [tag("p", note), table(["member", "nearest pieces", "step", "init"], rows, names=2), *more]


def speed(summary: Mapping[str, Any]) -> list[list[object]]:
    """What summary.json holds of SPEED."""
    known = ((*SPEED[name], summary[name]) for name in SPEED if summary.get(name) is not None)
    return [[title, shown.format(value)] for title, shown, value in known]


def logged(warnings: Sequence[str]) -> list[Markup]:
    """Each warning once, in order."""
    note = tag("p", "What the process that finished the run logged as a warning or an error.")
    return [note, bullets(dict.fromkeys(warnings))] if warnings else [tag("p", "None.")]


def fields(config: Mapping[str, Any]) -> list[Markup]:
    """The fields of config.json that are not the defaults."""
    default = flatten(json.loads(defaults().to_json()))
    changed = {name: value for name, value in current(dict(config)).items() if value != default.get(name)}
    rows = [
        [name, json.dumps(value, ensure_ascii=False), json.dumps(default.get(name))] for name, value in changed.items()
    ]
    note = "Fields that are not at their defaults. config.json has all."
    return [tag("p", note), table(["field", "value", "default"], rows, names=3)]
