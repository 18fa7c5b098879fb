"""From words to text: articles, capitals, sentences, and random choices among items."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from infoprompt_jax.nano import lexicon

Item = TypeVar("Item")


def sentence(*parts: str) -> str:
    """The parts with spaces between them, a capital and a full stop."""
    text = " ".join(part for part in parts if part).replace(" ,", ",").replace(" '", "'")
    return text[0].upper() + text[1:] + ("" if text[-1] in ".?!" else ".")


def a(noun: str) -> str:
    """The noun with its indefinite article, if it takes one."""
    if noun in lexicon.UNCOUNTED:
        return noun
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def name(lower: str) -> str:
    """A name with its capital; the lexicon has names in lower case."""
    return lower.capitalize()


def two(draw: random.Random, items: Sequence[Item]) -> tuple[Item, Item]:
    """Two different items."""
    first, second = draw.sample(items, 2)
    return first, second


def others(draw: random.Random, items: Sequence[Item], answer: Item, count: int) -> list[Item]:
    """`count` different items, none of them the answer."""
    return draw.sample([item for item in items if item != answer], count)


def options(draw: random.Random, answer: Item, wrong: Sequence[Item]) -> tuple[list[Item], int]:
    """The answer and the wrong items in random order, and the index of the answer."""
    label = draw.randrange(len(wrong) + 1)
    shuffled = draw.sample(wrong, len(wrong))
    return [*shuffled[:label], answer, *shuffled[label:]], label
