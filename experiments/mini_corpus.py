"""Makes the corpus that `mini` is pretrained on: `python -m experiments.mini_corpus FOLDER --out runs/mini_corpus`.

`pretraining/corpus.py` describes the folder that it writes. `experiments/mini_sources.py` lists what is in it. A text
or row that overlaps with an evaluation row (`experiments/overlap.py`) is left out, and overlap.json has the counts.
What is written is checked once more: no overlap may be left.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import itertools
import json
import lzma
import pathlib
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from experiments.mini_sources import EVALUATED_TRAIN, OPENSTAX, P3_NAMES, SETS, TEXT, Rows
from experiments.overlap import Overlap
from infoprompt_jax.checksums import write_json
from infoprompt_jax.data import p3
from infoprompt_jax.data.tasks import Task
from infoprompt_jax.data.template_yaml import load_templates
from infoprompt_jax.data.templates import Example, Template
from infoprompt_jax.errors import UserError
from infoprompt_jax.files import whole
from infoprompt_jax.pretraining import corpus

HERE = "held out here"  # rows of training splits that are kept for validation
HELD_OUT_ROWS, HELD_OUT_PARAGRAPHS = 20, 100  # one of so many
VALIDATION_ROWS, VALIDATION_TEMPLATES = 250, 3
P3_FILE = "recross_t0_sources.jsonl.xz"
PASSAGES = {"context", "dialogue", "passage", "support", "situation"}
LONGEST, BEGINNING = 840, 0.6  # characters of a prompted input, and which part of them comes from its beginning
LONGEST_READ = 6000  # characters; longer inputs are left out
READ_ALONE = ("amazon_polarity", "yelp_review_full", "imdb", "app_reviews", "rotten_tomatoes", "ag_news", "dbpedia_14")

Row = dict[str, Any]


def read_rows(file: pathlib.Path) -> list[Row]:
    return [json.loads(line) for line in file.open(encoding="utf-8")]


def draw(*keys: object) -> random.Random:
    """A generator that depends on nothing but the keys."""
    return random.Random(hashlib.sha256(json.dumps(keys, default=str).encode()).hexdigest())


def folder(name: str) -> str:
    """Where the raw rows of a data set are."""
    return "cos_e/v1.11" if name == "cos_e" else name


def training_rows(shared: pathlib.Path, name: str, scale: int = 1) -> list[Row]:
    """The rows of a set's training split; of WikiQA, whose answers are mostly wrong, as many wrong as right."""
    rows = read_rows(shared / "data" / folder(name) / "train.jsonl")[::scale]
    if name != "wiki_qa":
        return rows
    right = sum(row["label"] for row in rows)
    wrong = [row for row in rows if not row["label"]]
    return [row for row in rows if row["label"]] + draw(name).sample(wrong, right)


def strings(value: Any) -> Iterator[str]:
    """The texts of a row, a list's as one. A question on a passage is none: questions on other passages equal it."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            if name != "id" and not (name == "question" and PASSAGES & set(value)):
                yield from strings(part)
    elif isinstance(value, Sequence):
        yield " ".join(text for part in value for text in strings(part))


def evaluated(shared: pathlib.Path) -> dict[str, list[str]]:
    """The texts of all rows that are evaluated, by split. Answers and names, of under three words, are not texts."""
    texts: dict[str, list[str]] = {}
    for file in sorted((shared / "data").rglob("*.json*")):
        split = file.relative_to(shared / "data").with_suffix("").as_posix()
        dataset, _, part = split.rpartition("/")
        if not dataset or "promptsource" in split or (part == "train" and dataset not in EVALUATED_TRAIN):
            continue
        rows = read_rows(file) if file.suffix == ".jsonl" else json.loads(file.read_text())["examples"]
        found = (text for row in rows for text in strings(row) if len(text.split()) > 2)
        texts[split] = list(found) + [key for row in rows for key in row.get("target_scores", ())]
    return texts


class Corpus:
    """The corpus while it is made: what is left out, by source and by evaluation split."""

    def __init__(self, shared: pathlib.Path, out: pathlib.Path, scale: int) -> None:
        self.shared, self.out, self.scale = shared, out, scale
        self.raw = {name: training_rows(shared, name, scale) for name, rows in SETS.items() if rows.templates}
        self.held_out = {
            name: [row for row in rows if draw(name, row).randrange(HELD_OUT_ROWS) == 0]
            for name, rows in self.raw.items()
            if SETS[name].validation == ""
        }
        held_out = ["\n".join(strings(row)) for rows in self.held_out.values() for row in rows]
        self.overlap = Overlap(evaluated(shared) | {HERE: held_out})
        self.report: dict[str, Any] = {"left_out": {}, "kept": {}, "by_split": collections.Counter()}

    def clean(self, source: str, texts: Sequence[str]) -> list[bool]:
        """Of each text, whether it may be kept; the others are counted."""
        found = list(self.overlap.found_in(texts))
        left_out = sum(map(bool, found))
        self.report["by_split"].update(split for splits in found for split in splits)
        counts = self.report["left_out"], self.report["kept"]
        for counted, number in zip(counts, (left_out, len(texts) - left_out), strict=True):
            counted[source] = counted.get(source, 0) + number
        print(f"{source}: {len(texts)}, {left_out} left out", flush=True)
        return [not splits for splits in found]

    def text(self) -> None:
        """Writes the plain text, and a part of it that is only measured on."""
        kept: dict[str, list[str]] = {}
        for name in TEXT:
            lines = list(corpus.lines(self.shared / "text" / f"{name}.txt.xz"))
            if name == "openstax":
                lines = [line for first, last in OPENSTAX for line in lines[first:last]]
            lines = [line for line in lines[:: self.scale] if line.strip()]
            kept[name] = list(itertools.compress(lines, self.clean(f"text/{name}", lines)))
        held_out = {name: lines[::HELD_OUT_PARAGRAPHS] for name, lines in kept.items()}
        self.write("validation/text.txt.xz", itertools.chain(*held_out.values()))
        for name, lines in kept.items():
            del lines[::HELD_OUT_PARAGRAPHS]
            self.write(f"text/{name}.txt.xz", lines)

    def rows(self) -> None:
        """Writes the prompted rows."""
        p3_rows = self.p3_rows()
        for name, source in SETS.items():
            made = list(self.rendered(name, source)) if source.templates else []
            made += p3_rows.get(name, ())
            kept = itertools.compress(made, self.clean(f"rows/{name}", [f"{x['input']}\n{x['target']}" for x in made]))
            self.write(f"rows/{name.replace('/', '.')}.jsonl.xz", (json.dumps(x, ensure_ascii=False) for x in kept))

    def rendered(self, name: str, source: Rows) -> Iterator[Row]:
        """A set's training rows, each with some of P3's templates; rows that overlap are left out before."""
        held_out = {json.dumps(row) for row in self.held_out.get(name, ())}
        rows = [row for row in self.raw[name] if json.dumps(row) not in held_out]
        clean = self.clean(f"data/{name}", ["\n".join(strings(row)) for row in rows])
        rows = list(itertools.compress(rows, clean))
        if name in READ_ALONE:
            texts = (" ".join(" ".join(strings(row)).split()) for row in rows)
            self.write(f"text/{name}.txt.xz", texts)
        tasks = self.tasks(name)
        for row in rows:
            for task in draw(name, row).sample(tasks, min(source.templates, len(tasks))):
                example = render(task, row)
                if example is not None and example.target and (made := shortened(record(task, example))):
                    yield made

    def p3_rows(self) -> dict[str, list[Row]]:
        """P3's rendered rows of training splits, by set."""
        rows: dict[str, list[Row]] = collections.defaultdict(list)
        with lzma.open(self.shared / "p3" / P3_FILE, "rt", encoding="utf-8") as lines:
            for line in itertools.islice(lines, 0, None, self.scale):
                row = json.loads(line)
                name = P3_NAMES.get(row["dataset"], row["dataset"])
                if name in SETS and SETS[name].rendered and row["split"] == "train":
                    made = {"dataset": name, "template": row["template"], "input": row["inputs"]}
                    if made := shortened(made | {"target": row["targets"].strip()}):
                        rows[name].append(made)
        return rows

    def tasks(self, name: str) -> list[Task]:
        """A set with each of the templates that P3 has for it."""
        dataset = next(one for one in p3.sources() if name in (one.name, one.task))
        templates = load_templates(str(self.shared / "data" / "promptsource"), dataset.task)
        named = [templates[prompt] for prompt in dataset.templates if usable(name, templates[prompt])]
        return [Task(name, template, "accuracy") for template in named]

    def validation(self) -> None:
        """Writes rows of which only the accuracy is measured, with their answer choices."""
        for name, source in SETS.items():
            if source.validation == "-":
                continue
            file = self.shared / "data" / folder(name) / f"{source.validation}.jsonl"
            rows = read_rows(file) if source.validation else self.held_out[name]
            rows = draw(name).sample(rows, min(VALIDATION_ROWS, len(rows)))
            tasks = [task for task in self.tasks(name) if task.template.answer_choices]
            made = []
            for task in tasks if len(tasks) <= VALIDATION_TEMPLATES else draw(name).sample(tasks, VALIDATION_TEMPLATES):
                examples = (render(task, row) for row in rows)
                ranked = [x for x in examples if x and len(set(x.choices)) > 1 and x.target in x.choices]
                made += [y | {"choices": x.choices} for x in ranked if (y := shortened(record(task, x)))]
            lines = (json.dumps(x, ensure_ascii=False) for x in made)
            self.write(f"validation/{name.replace('/', '.')}.jsonl.xz", lines)

    def write(self, name: str, lines: Iterable[str]) -> None:
        content = "".join(line + "\n" for line in lines).encode()
        with whole(self.out / name) as partial:
            partial.write_bytes(lzma.compress(content, preset=6))

    def check(self) -> None:
        """Reads everything that is trained on back, and checks that nothing overlaps."""
        for file in sorted([*(self.out / "text").iterdir(), *(self.out / "rows").iterdir()]):
            lines = list(corpus.lines(file))
            if file.name.endswith(".jsonl.xz"):
                lines = [f"{x.input}\n{x.target}" for _, _, x in corpus.prompted(file)]
            if any(self.overlap.found_in(lines)):
                raise SystemExit(f"{file} overlaps with evaluation rows.")


def usable(name: str, template: Template) -> bool:
    """Whether the rows at hand have what a template reads: those of WikiQA lack their documents' titles."""
    return name != "wiki_qa" or "document_title" not in template.jinja


def render(task: Task, row: Row) -> Example | None:
    """The row as text; None where it lacks what the template reads."""
    try:
        return task.render(row)
    except UserError:
        return None


def record(task: Task, example: Example) -> Row:
    """A line of the corpus."""
    return {"dataset": task.name, "template": task.template.name, "input": example.input, "target": example.target}


def shortened(row: Row, longest: int = LONGEST) -> Row | None:
    """The row with the middle of a long input left out; None where that takes the answer, or the input is far too long.

    What a template asks stands at the beginning or at the end. `longest` is in characters.
    """
    text, target = row["input"], row["target"].lower()
    if len(text) <= longest:
        return row
    first, last = round(longest * BEGINNING), round(longest * (1 - BEGINNING))
    kept = f"{text[:first].rsplit(' ', 1)[0]} ... {text[-last:].split(' ', 1)[-1]}"
    lost = target in text.lower() and target not in kept.lower()
    return None if lost or len(text) > LONGEST_READ else row | {"input": kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=pathlib.Path, help="the folder with data, p3 and text")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/mini_corpus"))
    parser.add_argument("--scale", type=int, default=1, help="read one row of so many, for a trial")
    arguments = parser.parse_args()
    made = Corpus(arguments.shared, arguments.out, arguments.scale)
    made.text()
    made.rows()
    made.validation()
    shares = {name: source.share for name, source in SETS.items()}
    write_json(arguments.out / "corpus.json", {"shares": shares, "text": TEXT})
    made.check()
    write_json(arguments.out / "overlap.json", made.report)


if __name__ == "__main__":
    main()
