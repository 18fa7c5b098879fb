"""The nano world's unlabelled text, for span corruption.

As in most text, a line repeats a fact in other words and a word keeps its sense, so that a masked span of one sentence
can be inferred from another.
"""

from __future__ import annotations

import random

from infoprompt_jax.nano import held_in, held_out, lexicon, reading, scenes
from infoprompt_jax.nano.grammar import a, name, sentence, two
from infoprompt_jax.nano.senses import SENSES


def event(draw: random.Random) -> str:
    """Two events, and both again in any words."""
    both = scenes.events(draw, 2)
    again = [draw.choice((e.active(), e.again(draw))) for e in draw.sample(both, 2)]
    return " ".join([*(e.active() for e in both), *again])


def transfer(draw: random.Random) -> str:
    """One handover of a thing, in two sentences of different words."""
    giver, taker = (name(person) for person in two(draw, lexicon.NAMES))
    verb = draw.choice(lexicon.TRANSFERS)
    thing = f"the {draw.choice(lexicon.COLOURS)} {draw.choice(lexicon.OBJECTS)}"
    sentences = (
        sentence(giver, verb[0], thing, "to", taker),
        sentence(giver, verb[2], thing, "to", taker),
        sentence(thing, "was", verb[1], "to", taker, "by", giver),
        sentence(taker, "got", thing, "from", giver),
    )
    return " ".join(two(draw, sentences))


def tastes(draw: random.Random) -> str:
    """What each of some people likes, and all of it again in another order."""
    text, likes = reading.liked(draw)
    again = (f"{person} likes {thing}." for person, thing in draw.sample(list(likes.items()), len(likes)))
    return f"{text} {' '.join(again)}"


def numbers(draw: random.Random) -> str:
    """That one number is more than another."""
    fewer, more = sorted(draw.sample(range(len(lexicon.NUMBERS)), 2))
    return sentence(lexicon.NUMBERS[more], "is more than", lexicon.NUMBERS[fewer])


def quantity(draw: random.Random) -> str:
    """How much of something two people have, and who of them has more, or fewer."""
    row = reading.quantities(draw)
    return f"{row['text']} {row['choices'][row['label']]} has {row['question'].removeprefix('Who has ').rstrip('?')}."


def order(draw: random.Random) -> str:
    """Two things that somebody did, and which of them was first, or last."""
    row = reading.order(draw)
    person, which = row["question"].removeprefix("What did ").rstrip("?").split(" do ")
    return f"{row['text']} {person} {row['choices'][row['label']]} {which}."


def kinds(draw: random.Random) -> str:
    """For each of two kinds, a thing of that kind and an ability of it."""
    sentences = []
    for kind in draw.sample(tuple(lexicon.KINDS), 2):
        word = draw.choice(lexicon.KINDS[kind])
        able = draw.choice([ability for ability, kinds in lexicon.ABILITIES.items() if kind in kinds])
        sentences.append(sentence(f"{a(word)} is {a(kind)} and {able}"))
    return " ".join(sentences)


def cause(draw: random.Random) -> str:
    """A cause and its effect on a person, in either order."""
    person = draw.choice(lexicon.NAMES)
    they = "she" if person in lexicon.WOMEN else "he"
    cause, effect = draw.choice(lexicon.CAUSES)
    return draw.choice(
        (
            sentence(name(person), f"{cause}, so {they} {effect}"),
            sentence(name(person), f"{effect} because {they} {cause}"),
            f"{sentence(name(person), cause)} {sentence('then', they, effect)}",
        )
    )


def reason(draw: random.Random) -> str:
    """Who of two people a reason is about."""
    people = [name(person) for person in two(draw, lexicon.NAMES)]
    start, *reasons = draw.choice(held_out.SCHEMAS)
    answer = draw.randrange(2)
    return f"{start.format(A=people[0], B=people[1])} {people[answer]} {reasons[answer]}."


def sense(draw: random.Random) -> str:
    """One sense of a word in two of its sentences."""
    contexts = draw.choice(SENSES[draw.choice(tuple(SENSES))])
    return " ".join(sentence(context) for context in two(draw, contexts))


def opinions(draw: random.Random) -> str:
    """One opinion of one thing, in two sentences."""
    good = draw.random() < 0.5
    thing = draw.choice(lexicon.WORKS + lexicon.FILM_PARTS + lexicon.MEAL_PARTS)
    return " ".join(sentence(scenes.opinion(draw, thing, good)) for _ in range(2))


def remark(draw: random.Random) -> str:
    """Short praise or blame."""
    return held_in.remarks(draw)["text"]


def news(draw: random.Random) -> str:
    """Two sentences on one topic."""
    topic = draw.choice(tuple(lexicon.TOPICS))
    return f"{scenes.topical(draw, topic)} {scenes.topical(draw, topic)}"


def profile(draw: random.Random) -> str:
    """Two people, and a fact of each again."""
    both = scenes.people(draw, 2)
    sentences = [person.profile(draw) for person in both]
    for person in draw.sample(both, 2):
        first = name(person.first)
        sentences.append(
            draw.choice(
                (
                    f"{first} {name(person.surname)} comes from {name(person.city)}.",
                    f"{first} is {a(person.job)}.",
                    f"The {person.job} likes {person.hobby}.",
                    f"{first} was born in {person.year}.",
                )
            )
        )
    return " ".join(sentences)


TEXTS = (
    *(event, event, event, tastes, tastes, tastes, transfer, transfer, profile, profile),  # these repeat their facts
    *(quantity, numbers, order, kinds, cause, reason, sense, opinions, remark, news),
)
