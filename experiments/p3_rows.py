"""Rows of P3's data sets as local files, for source prompts and for their evaluation, at one size.

    OUT/sources/rows/<data set>/{train,validation}.jsonl   rows as text: `template`, `input`, `target`, `choices`
    OUT/evaluation/rows/<data set>/<split>.jsonl           raw rows, drawn from the split
    OUT/{sources,evaluation}/templates/<data set>/templates.yaml
    OUT/facts.json                                         family and answer format of each source task; what is missing

Source rows are rendered here with promptsource's templates where a training split of raw rows is at hand, else they are
P3's rendered rows. P3's rows of one data set differ by template, so its file holds all of them, and each template
applies to its own. Long inputs lose their middle, and rows that overlap with evaluation rows are left out, as for
mini's training (`mini_corpus`).

P3's rendered rows do not list answer choices that differ by row. Prompts are trained on them as on free text. The
answer format in facts.json is always that of promptsource's template.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import json
import lzma
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from experiments.mini_corpus import draw, read_rows, render, shortened, training_rows, usable
from experiments.mini_zero_shot import HELD_OUT, data_sets
from experiments.overlap import Overlap
from infoprompt_jax.checksums import write_json
from infoprompt_jax.data import p3
from infoprompt_jax.data.datasets import Dataset
from infoprompt_jax.data.families import answer_format, family
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.template_yaml import load_templates
from infoprompt_jax.data.templates import SEPARATOR, Template
from infoprompt_jax.files import whole

SELF_INSTRUCT, RECROSS, OURS = (
    f"{name}.jsonl.xz" for name in ("t0_train_50k", "recross_t0_sources", "rendered_trec_cos_e_quail")
)
# Sorted data sets of which SELF_INSTRUCT has one label, or nearly so.
SINGLE_LABEL = {"imdb", "rotten_tomatoes", "dbpedia_14", "ag_news", "wiki_qa"}
# Other data sets to evaluate, of families that source prompts have: T0's held-out sets are of families that none has.
NEAR = {
    "glue/sst2": ("validation", "sentiment"),
    "openbookqa": ("validation", "multiple-choice QA"),
    "piqa": ("validation", "multiple-choice QA"),
    "glue/mrpc": ("validation", "paraphrase"),
    "ag_news": ("test", "topic"),
    "trec": ("test", "topic"),
}
TEMPLATES_OF = {"openbookqa": "openbookqa/main"}  # in promptsource, where the name differs
UNWRITTEN = {"quoref"}  # promptsource's templates are not at hand; they ask for free text
LEAST, VALIDATION, QUERIES, APPLIES = 50, 8, 64, 16  # rows: of a source task, kept apart, for queries, that must render

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
      templates: of each source data set; 0 = all.
      rows: of each source task.
      steps: of each source prompt.
      length: the most tokens of a source row's input, which is cut to fit in characters.
      answer: the most tokens of a source row's target; a longer one is cut.
      evaluated: rows of each evaluation task.
      hard_prompts: of each evaluated data set; 0 = all.
    """

    templates: int
    rows: int
    steps: int
    length: int
    answer: int
    evaluated: int
    hard_prompts: int

    @property
    def longest(self) -> int:
        """Characters of a source row's input, for about three a token."""
        return 3 * self.length


SIZES = {
    "tiny": Size(templates=1, rows=120, steps=4, length=64, answer=16, evaluated=4, hard_prompts=1),
    "cpu": Size(templates=2, rows=400, steps=80, length=96, answer=32, evaluated=32, hard_prompts=2),
    "wide": Size(templates=2, rows=400, steps=80, length=96, answer=32, evaluated=32, hard_prompts=0),
    "full": Size(templates=0, rows=1000, steps=400, length=256, answer=64, evaluated=256, hard_prompts=0),
}


def format_of(template: Template) -> str:
    """The answer format of a promptsource template."""
    return answer_format(template.fixed_choices if template.answer_choices else ())


def spread(templates: Iterable[Template]) -> list[Template]:
    """The templates, taking turns between answer formats; free text comes last."""
    by_format: dict[str, list[Template]] = {}
    for template in templates:
        by_format.setdefault(format_of(template), []).append(template)
    free = by_format.pop("free text", [])
    turns = itertools.zip_longest(*by_format.values(), free)
    return [template for turn in turns for template in turn if template is not None]


def line(template: str, text: str, target: str, choices: Sequence[str] = ()) -> Row:
    """A row as text."""
    return {"template": template, "input": text, "target": target, "choices": list(choices)}


@functools.lru_cache(maxsize=1)
def raw_rows(shared: pathlib.Path, task: str) -> list[Row]:
    """The raw training rows of a data set."""
    return training_rows(shared, task)


class Writer:
    """Writes the folder at one size. `overlap` holds the texts of evaluation rows."""

    def __init__(self, shared: pathlib.Path, out: pathlib.Path, size: Size, overlap: Overlap) -> None:
        self.data, self.shared, self.out, self.size, self.overlap = shared / "data", shared, out, size, overlap
        self.facts: dict[str, Any] = {
            "size": dataclasses.asdict(size), "sources": {}, "missing": {}, "overlapping": 0,
        }  # fmt: skip

    def write(self, sources: Sequence[str] = (), evaluated: Sequence[str] = ()) -> None:
        """Writes everything, or only the data sets of these names. facts.json comes last."""
        for dataset in p3.sources():
            if not sources or dataset.name in sources:
                self.source(dataset)
        for dataset in evaluation_sets():
            if not evaluated or dataset.name in evaluated:
                self.evaluation(dataset)
        write_json(self.out / "facts.json", self.facts)

    def templates(self, name: str, wanted: Sequence[str] = ()) -> list[Template]:
        """Promptsource's templates of a data set, only the wanted ones if there are any."""
        known = load_templates(str(self.data / "promptsource"), TEMPLATES_OF.get(name, name))
        return [known[template] for template in wanted or known if template in known]

    def source(self, dataset: Dataset) -> None:
        """Writes the source tasks of a data set: as many as the size has, of different answer formats first."""
        splits: dict[str, list[Row]] = {"validation": [], "train": []}
        entries: list[Mapping[str, Any]] = []
        for template in spread(self.source_templates(dataset)):
            if self.size.templates and len(entries) == self.size.templates:
                break
            name, rows = f"{dataset.name}:{template.name}", self.kept(dataset, template)
            if len(rows) < LEAST:
                kept = f"keep their answer in {self.size.length} tokens and overlap with no evaluation row"
                self.facts["missing"][name] = f"{len(rows)} rows at hand that {kept}"
                continue
            splits["validation"] += rows[:VALIDATION]
            splits["train"] += rows[VALIDATION:]
            entries.append(entry(template, rows))
            self.facts["sources"][name] = {
                "family": family(dataset.task),
                "answer_format": format_of(template),
                "rows": len(rows) - VALIDATION,
                "rendered_here": self.is_raw(dataset, template),
            }
        if entries:
            self.save("sources", dataset.task, splits, entries)

    def source_templates(self, dataset: Dataset) -> list[Template]:
        """P3's templates of a source data set; those without a file at hand only by name, as free text."""
        if dataset.name in UNWRITTEN:
            return [Template(name, name, f"{{{{ input }}}} {SEPARATOR} {{{{ target }}}}") for name in dataset.templates]
        return self.templates(dataset.task, dataset.templates)

    def is_raw(self, dataset: Dataset, template: Template) -> bool:
        """Whether the raw rows at hand have what the template reads."""
        return (self.data / dataset.task / "train.jsonl").exists() and usable(dataset.name, template)

    def kept(self, dataset: Dataset, template: Template) -> list[Row]:
        """The rows of a source task."""
        made = (shortened(row, self.size.longest) for row in self.rendered(dataset, template))
        fit = different(row for row in made if row is not None and fits(row, template))
        kept: list[Row] = []
        while len(kept) < self.size.rows and (rows := list(itertools.islice(fit, self.size.rows))):
            hits = list(self.overlap.found_in([f"{row['input']}\n{row['target']}" for row in rows]))
            self.facts["overlapping"] += sum(map(bool, hits))
            kept += [row for row, hit in zip(rows, hits, strict=True) if not hit]
        return kept[: self.size.rows]

    def rendered(self, dataset: Dataset, template: Template) -> Iterator[Row]:
        """The rows of a source task as text, in an order that is drawn."""
        generator = draw(dataset.name, template.name)
        if not self.is_raw(dataset, template):
            rows = self.of_p3.get((dataset.name, template.name), [])
            yield from generator.sample(rows, len(rows))
            return
        task, rows = Task(dataset.task, template, "accuracy"), raw_rows(self.shared, dataset.task)
        for row in generator.sample(rows, len(rows)):
            example = render(task, row)
            if example is not None:
                yield line(template.name, example.input, example.target, example.choices)

    @functools.cached_property
    def of_p3(self) -> dict[tuple[str, str], list[Row]]:
        """P3's rendered rows of training splits by data set and template; none of files with a single label."""
        rows: dict[tuple[str, str], list[Row]] = collections.defaultdict(list)
        for file in (SELF_INSTRUCT, RECROSS, OURS):
            with lzma.open(self.shared / "p3" / file, "rt", encoding="utf-8") as lines:
                for row in map(json.loads, lines):
                    name = row["dataset"]
                    # Of QuAIL, only OURS lists the choices; its rows are from the validation split.
                    single, ours = file == SELF_INSTRUCT and name in SINGLE_LABEL, name == "quail"
                    if row["in_296"] and not single and (ours or row.get("split", "train") == "train"):
                        choices = row.get("answer_choices") or ()
                        made = line(row["template"], row["inputs"].strip(), row["targets"].strip(), choices)
                        if ours == (file == OURS):
                            rows[name, row["template"]].append(made)
        return rows

    def evaluation(self, dataset: Dataset) -> None:
        """Writes a data set to evaluate: rows drawn from its split, and templates of different answer formats."""
        name, _ = dataset.place(str(self.data))
        file = self.data / name / f"{dataset.split}.jsonl"
        if not file.exists():
            self.facts["missing"][dataset.name] = "no rows at hand"
            return
        rows = read_rows(file)
        rows = draw(name, dataset.split).sample(rows, min(len(rows), self.size.evaluated + QUERIES))
        ranked = [one for one in self.templates(name, dataset.templates) if one.answer_choices]
        if dataset.name in NEAR:
            ranked = [one for one in ranked if one.metadata.original_task]
        applying = (one for one in spread(ranked) if applies(Task(name, one, "accuracy"), rows))
        chosen = list(itertools.islice(applying, self.size.hard_prompts or None))
        split = "validation" if dataset.name in NEAR else dataset.split
        self.save("evaluation", name, {split: rows}, [copied(template) for template in chosen])

    def save(
        self, part: str, task: str, splits: Mapping[str, Sequence[Row]], entries: Sequence[Mapping[str, Any]]
    ) -> None:
        for split, rows in splits.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            with whole(self.out / part / "rows" / task / f"{split}.jsonl") as partial:
                partial.write_text(lines, encoding="utf-8")
        with whole(self.out / part / "templates" / task / "templates.yaml") as partial:
            templates = {str(number): dict(one) for number, one in enumerate(entries)}
            partial.write_text(json.dumps({"templates": templates}), encoding="utf-8")  # JSON is YAML


def evaluation_sets() -> list[Dataset]:
    """T0's held-out sets with the templates of its own evaluation, and the data sets of known families."""
    return [*data_sets(HELD_OUT)] + [Dataset(name, name, split) for name, (split, _) in NEAR.items()]


def fits(row: Row, template: Template) -> bool:
    """Whether the row has a target, one of the answer choices where they are known."""
    choices = template.fixed_choices if template.answer_choices else ()
    known = row["choices"] or choices or ()
    return bool(row["input"] and row["target"]) and (not known or (row["target"] in known and len(set(known)) > 1))


def different(rows: Iterable[Row]) -> Iterator[Row]:
    """The first row of each input."""
    seen: set[str] = set()
    for row in rows:
        if row["input"] not in seen:
            seen.add(row["input"])
            yield row


def applies(task: Task, rows: Sequence[Row]) -> bool:
    """Whether the template renders enough rows, or all if there are fewer."""
    return sum(render(task, row) is not None for row in rows) >= min(APPLIES, len(rows))


def entry(template: Template, rows: Sequence[Row]) -> dict[str, Any]:
    """The template that gives a source task its rows of text."""
    choices = ""
    if template.answer_choices:
        listed = all(row["choices"] for row in rows)
        by_row = f'{{{{ choices | join(" {SEPARATOR} ") }}}}' if listed else ""
        choices = by_row if template.fixed_choices is None else f" {SEPARATOR} ".join(template.fixed_choices)
    own = f"{{% if template == {json.dumps(template.name, ensure_ascii=False)} %}}"
    text = f"{own}{{{{ input }}}} {SEPARATOR} {{{{ target }}}}{{% endif %}}"
    return {"name": template.name, "id": template.id, "jinja": text, "answer_choices": choices}


def copied(template: Template) -> dict[str, Any]:
    """The template as it is."""
    kept = {name: getattr(template, name) for name in ("name", "id", "jinja", "answer_choices")}
    return kept | {"metadata": {"original_task": template.metadata.original_task}}
