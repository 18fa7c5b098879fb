"""Scenes that several data sets share: events, people, opinions, and other words for the same event."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from infoprompt_jax.nano import lexicon
from infoprompt_jax.nano.grammar import a, name, sentence


@dataclasses.dataclass(frozen=True)
class Event:
    """Somebody did something to a thing, somewhere. `verb` is a row of `lexicon.ACTIONS`."""

    person: str
    verb: tuple[str, str, str, str]
    thing: str
    colour: str
    place: str

    def active(self, synonym: bool = False) -> str:
        """The event as a sentence in the active voice, with the verb or its synonym."""
        verb = self.verb[2 if synonym else 0]
        return sentence(name(self.person), verb, "the", self.colour, self.thing, self._where())

    def passive(self, synonym: bool = False) -> str:
        """The event as a sentence in the passive voice, with the verb or its synonym."""
        verb = self.verb[3 if synonym else 1]
        return sentence("the", self.colour, self.thing, "was", verb, "by", name(self.person), self._where())

    def again(self, draw: random.Random) -> str:
        """The event in other words than `active`."""
        return draw.choice((self.active(synonym=True), self.passive(), self.passive(synonym=True)))

    def _where(self) -> str:
        return f"in the {self.place}" if self.place else ""


def events(draw: random.Random, count: int) -> list[Event]:
    """Events that share no person, verb, thing, colour or place."""
    pools = (lexicon.NAMES, lexicon.ACTIONS, lexicon.OBJECTS, lexicon.COLOURS, lexicon.PLACES)
    return [Event(*fields) for fields in _distinct(draw, count, pools)]


@dataclasses.dataclass(frozen=True)
class Person:
    """The facts of a profile."""

    first: str
    surname: str
    job: str
    city: str
    year: str
    hobby: str

    @property
    def pronoun(self) -> str:
        """The word "she" or "he", in lower case."""
        return "she" if self.first in lexicon.WOMEN else "he"

    def profile(self, draw: random.Random) -> str:
        """One or two sentences with all facts of the person."""
        full = f"{name(self.first)} {name(self.surname)}"
        city, they = name(self.city), name(self.pronoun)
        return draw.choice(
            (
                f"{full} is {a(self.job)} from {city}. {they} was born in {self.year} and likes {self.hobby}.",
                f"Born in {city} in {self.year}, {full} works as {a(self.job)} and enjoys {self.hobby}.",
                f"{full}, {a(self.job)}, likes {self.hobby}. {they} was born in {city} in {self.year}.",
            )
        )


def people(draw: random.Random, count: int) -> list[Person]:
    """People who have nothing in common."""
    pools = (lexicon.NAMES, lexicon.SURNAMES, lexicon.JOBS, lexicon.CITIES, lexicon.YEARS, lexicon.HOBBIES)
    return [Person(*fields) for fields in _distinct(draw, count, pools)]


def _distinct(draw: random.Random, count: int, pools: Iterable[Sequence[Any]]) -> Iterator[tuple[Any, ...]]:
    """`count` tuples with one item of each pool, which share no item."""
    return zip(*[draw.sample(pool, count) for pool in pools], strict=True)


def opinion(draw: random.Random, subject: str, good: bool) -> str:
    """That the subject is good or bad, by a word of that kind or by the denial of an opposite word."""
    denied = draw.random() < 0.5
    word = draw.choice(lexicon.GOOD if good != denied else lexicon.BAD)
    verb = (
        draw.choice(("was not", "was never", "was hardly")) if denied else draw.choice(("was", "was truly", "was very"))
    )
    return f"the {subject} {verb} {word}"


def topical(draw: random.Random, topic: str) -> str:
    """A sentence with two or three words of a topic."""
    first, second, third = (f"the {word}" for word in draw.sample(lexicon.TOPICS[topic], 3))
    person = name(draw.choice(lexicon.NAMES))
    return sentence(
        draw.choice(
            (
                f"{person} talked about {first} and {second}",
                f"after {first}, nobody expected {second} or {third}",
                f"a report says that {first} changed {second} on {name(draw.choice(lexicon.DAYS))}",
                f"{first} and {second} were more important than {third}",
                f"{person} has seen {first}, {second} and {third} in {name(draw.choice(lexicon.CITIES))}",
            )
        )
    )
