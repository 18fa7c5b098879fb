"""BIG-bench's multiple-choice tasks as rows: `<folder>/bigbench/<task>/task.json`, or `<task>/<sub-task>/task.json`.

A row has the columns `idx` (position in its file), `subtask` ("" without sub-tasks), `input` (only the question),
`inputs` (the question as BIG-bench shows it: prefixes, options, and where the answer goes), `choices`, `targets` (the
right answer) and `label` (its index). The order of the choices, here and in `inputs`, depends only on the row,
because many tasks list the right answer first. Where several answers share the best score, the first one listed is the
right one and the others are left out, so that no right answer counts as wrong. Scores are finite numbers; a row whose
answers all have the same score, and one with an answer twice, is refused. Sub-tasks are read in turn (`spread`), so
that the first rows of a task, which `task.eval_limit` and slices take, are of all of them.

The files carry a canary, a string that marks them as evaluation data. Their one split is called `validation`, the
default of `task.eval_split`; training on it is refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infoprompt_jax import foreign
from infoprompt_jax.data.datasets import Dataset
from infoprompt_jax.errors import UserError
from infoprompt_jax.fields import shortened

TASKS = (  # of RoSPr's evaluation
    "known_unknowns",
    "logic_grid_puzzle",
    "strategyqa",
    "hindu_knowledge",
    "movie_dialog_same_or_different",
    "code_line_description",
    "conceptual_combinations",
    "language_identification",
    "vitaminc_fact_verification",
    "formal_fallacies_syllogisms_negation",
    "misconceptions",
    "logical_deduction",
    "winowhy",
    "novel_concepts",
)
SPLIT = "validation"
FILE = "task.json"
ORDER_SEED = 0  # determines the order of every row's choices
SPREAD = b"spread"  # for fingerprints: tokens that were kept when sub-tasks were read one after the other are not read


def evaluation_tasks() -> tuple[Dataset, ...]:
    """The 14 tasks of RoSPr's evaluation as data sets."""
    names = (f"bigbench/{task}" for task in TASKS)
    return tuple(Dataset(name, name, SPLIT) for name in names)


def is_task(dataset: str) -> bool:
    """Whether a data set's name is that of a BIG-bench task, `bigbench/<task>`, or of one of its sub-tasks."""
    parts = pathlib.PurePosixPath(dataset).parts
    return len(parts) > 1 and parts[0] == "bigbench"


def evaluation_only(dataset: str) -> UserError:
    """The error for a job that trains on a task."""
    return UserError(
        f"{dataset} has no rows to train on: the canary in its files keeps BIG-bench out of training data, so "
        f"its only split is {SPLIT!r}; change task.name, or set job=evaluate."
    )


def task_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The task's file, or those of its sub-tasks in order of name; [] if there is none."""
    file = folder / FILE
    is_there = file.exists() or (isinstance(file, pathlib.Path) and file.is_symlink())
    return [file] if is_there else sorted(folder.glob(f"*/{FILE}"))


def read_task(folder: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Every row, those of sub-tasks in the order of `spread`.

    Raises:
      UserError: an example is not multiple choice; the sentence names the file and the example.
    """
    yield from spread([_file_rows(file, file.parent == folder) for file in task_files(folder)])


def spread(parts: Sequence[Sequence[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """The rows of all parts, each part's in its order; the first rows hold each part by its share of all rows.

    Row i of a part with n rows comes at (i + 1/2) / n of the way; of rows at one place, the earlier part's is first.
    """
    places = [((2 * i + 1) / (2 * len(part)), p, i) for p, part in enumerate(parts) for i in range(len(part))]
    return (parts[p][i] for _, p, i in sorted(places))


def _file_rows(file: pathlib.Path, whole: bool) -> list[dict[str, Any]]:
    """The rows of a file, which holds the `whole` task or a sub-task."""
    content = _content(file)
    layout = _layout(content, file)
    subtask = "" if whole else file.parent.name
    rows = []
    for index, example in enumerate(content["examples"]):
        row = _row(example, layout, f"{file} (in data.dir), example {index} (from 0),")
        rows.append({"idx": index, "subtask": subtask, **row})
    return rows


def _content(file: pathlib.Path) -> dict[str, Any]:
    place = f"{file} (in data.dir)"
    with foreign.reading(place, "a whole task.json of BIG-bench was expected"):
        content = foreign.table(file)
    if not isinstance(content.get("examples"), list):
        raise UserError(f"{place} is not a BIG-bench task: it has no list of `examples`.")
    if not content["examples"]:
        raise UserError(f"{place} holds no rows.")
    return content


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a task shows its examples; the defaults are BIG-bench's."""

    task_prefix: str = ""
    example_input_prefix: str = "\nQ: "
    choice_prefix: str = "\n  choice: "
    example_output_prefix: str = "\nA: "
    append_choices_to_input: bool = True

    def text(self, question: str, choices: list[str]) -> str:
        """The input of an example. The choices are listed after the question unless the layout omits them."""
        shown = [self.choice_prefix + choice for choice in choices] if self.append_choices_to_input else []
        return "".join([self.task_prefix, self.example_input_prefix, question, *shown, self.example_output_prefix])


def _layout(content: Mapping[str, Any], file: pathlib.Path) -> Layout:
    given: dict[str, Any] = {f.name: content[f.name] for f in dataclasses.fields(Layout) if f.name in content}
    # logic_grid_puzzle has the text "false", which BIG-bench itself takes as true: its published inputs show options.
    given["append_choices_to_input"] = bool(given.get("append_choices_to_input", True))
    for name, value in given.items():
        if not isinstance(value, str) and name != "append_choices_to_input":
            raise UserError(f"{file} (in data.dir) holds {name}={shortened(value)}, but a text was expected.")
    return Layout(**given)


def _row(example: Any, layout: Layout, place: str) -> dict[str, Any]:
    question, scores = _question(example, place)
    best = max(scores.values())
    answer = next(choice for choice, score in scores.items() if score == best)
    choices = shuffled(question, [choice for choice, score in scores.items() if score < best or choice == answer])
    if len(choices) < 2:
        raise UserError(
            f"{place} has no wrong answer: the score of every choice is {shortened(best)}; leave it out of the file."
        )
    text = layout.text(question, choices)
    return {"input": question, "inputs": text, "choices": choices, "targets": answer, "label": choices.index(answer)}


def _question(example: Any, place: str) -> tuple[str, dict[str, float]]:
    if not isinstance(example, dict) or not isinstance(example.get("input"), str):
        raise UserError(f"{place} has no `input` text; see task.name.")
    scores = example.get("target_scores")
    if not isinstance(scores, dict) or not scores:
        raise UserError(f"{place} has no `target_scores`: only multiple choice is read, not free text; see task.name.")
    for score in scores.values():
        if not isinstance(score, int | float) or isinstance(score, bool):
            raise UserError(
                f"{place} has the score {shortened(score)} in `target_scores`, but numbers were expected; leave the "
                "example out of the file."
            )
    if len({choice.strip() for choice in scores} - {""}) < len(scores):
        raise UserError(f"{place} has a choice that is empty, or two that are the same; leave it out of the file.")
    return example["input"], scores


def shuffled(question: str, choices: list[str]) -> list[str]:
    """The choices in the order of their hashes: on every machine the same, and for any order of the list."""

    def position(choice: str) -> bytes:
        return hashlib.sha256(json.dumps([ORDER_SEED, question, choice]).encode()).digest()

    return sorted(choices, key=position)
