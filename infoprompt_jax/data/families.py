"""Families of tasks, such as sentiment, and formats of answers, such as yes/no.

In RoSPr (arXiv 2210.03029), a source prompt helps more if its answer choices have the evaluation task's format than if
the two tasks are of one family. Families are those of T0 (arXiv 2110.08207) and of the nano world, under the same
names. The format follows only from the answer choices:

    free text      none: the answer is generated       yes/no       Yes and No are among them, perhaps with Maybe
    options        they differ from row to row         true/false   so are True and False
    label words    the same words for every row        letters      A, B, C or 1, 2, 3, also as Ending 1, Ending 2
"""

from __future__ import annotations

import pathlib
import string

import numpy as np

from infoprompt_jax.data.rows import Rows
from infoprompt_jax.nano import world
from infoprompt_jax.t5.tokenizer import Tokenizer

FAMILIES = {
    "multiple-choice QA": "commonsense_qa cos_e cosmos_qa dream qasc quail quarel quartz "
    "sciq social_i_qa wiki_hop wiqa",
    "extractive QA": "adversarial_qa duorc quoref ropes",
    "closed-book QA": "hotpot_qa wiki_qa",
    "structure to text": "common_gen wiki_bio",
    "sentiment": "amazon_polarity app_reviews imdb rotten_tomatoes yelp_review_full",
    "summarization": "cnn_dailymail gigaword multi_news samsum xsum",
    "topic": "ag_news dbpedia_14 trec",
    "paraphrase": "glue/mrpc glue/qqp paws",
    "natural language inference": "anli super_glue/cb super_glue/rte",
    "sentence completion": "hellaswag story_cloze super_glue/copa",
    "coreference": "super_glue/wsc.fixed winogrande",
    "word sense": "super_glue/wic",
}
FAMILY = {name: family for family, names in FAMILIES.items() for name in names.split()} | {
    world.PREFIX + name: dataset.family for name, dataset in world.DATASETS.items()
}
COUNTED = (string.ascii_lowercase, string.digits[1:], string.digits)


def family(dataset: str) -> str:
    """The family of a data set as `task.name` names it, with its configuration or without; "" if it is not known."""
    path = pathlib.PurePosixPath(dataset)
    return next((FAMILY[str(name)] for name in (path, *path.parents) if str(name) in FAMILY), "")


def same_choices(fixed: tuple[str, ...] | None, rows: Rows, tokenizer: Tokenizer) -> tuple[str, ...] | None:
    """The answer choices that all rows share, in any order; None where rows differ.

    Args:
      fixed: `Task.choices`, the choices that the template fixes; None if it makes them from each row.
    """
    if fixed is not None:
        return fixed
    every = {frozenset(rows.choice_list(number)) for number in np.unique(rows.arrays["choice_index"]).tolist()}
    return tuple(sorted(map(tokenizer.decode, every.pop()))) if len(every) == 1 else None


def answer_format(choices: tuple[str, ...] | None) -> str:
    """The format of a template's answer choices: () if it has none, None if they differ by row (`same_choices`)."""
    if choices is None:
        return "options"
    if not choices:
        return "free text"
    lower = [choice.lower() for choice in choices]
    for pair in (("yes", "no"), ("true", "false")):
        if set(pair) <= set(lower):
            return "/".join(pair)
    return "letters" if _counts(lower) else "label words"


def _counts(choices: list[str]) -> bool:
    """Whether the choices differ only in a last letter or digit, which numbers them."""
    ends = "".join(sorted(choice[-1:] for choice in choices))
    return len({choice[:-1] for choice in choices}) == 1 and any(counted.startswith(ends) for counted in COUNTED)
