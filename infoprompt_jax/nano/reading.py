"""Held-in data sets with a question: about a text, or about what everybody knows.

Like `held_in.py`: one function each, and words alone do not predict the label.
"""

from __future__ import annotations

import dataclasses
import random

from infoprompt_jax.nano import lexicon, scenes
from infoprompt_jax.nano.grammar import a, name, options, sentence, two
from infoprompt_jax.nano.held_in import Row


def _question(draw: random.Random, events: list[scenes.Event]) -> tuple[str, str, list[str]]:
    """A question about one of the events, its answer, and the answers that the other events would give."""
    event = draw.choice(events)
    person = name(event.person)
    (past, participle, _, _) = event.verb
    question, field = draw.choice(
        (
            (f"Who {past} the {event.thing}?", "person"),
            (f"By whom was the {event.thing} {participle}?", "person"),
            (f"Where was the {event.thing} {participle}?", "place"),
            (f"In which place was {person}?", "place"),
            (f"What was {participle} by {person}?", "thing"),
            (f"What was {participle} in the {event.place}?", "thing"),
            (f"What colour is the {event.thing}?", "colour"),
        )
    )
    shown = [name(getattr(e, field)) if field == "person" else getattr(e, field) for e in (event, *events)]
    return question, shown[0], [value for value in shown if value != shown[0]]


def liked(draw: random.Random) -> tuple[str, dict[str, str]]:
    """A sentence about what each of some people likes, and the same as a dict; all things are of one sort."""
    count = draw.choice((2, 3, 4))
    sort = draw.choice((lexicon.HOBBIES, lexicon.KINDS["drink"], lexicon.COLOURS, lexicon.CITIES))
    words = [name(word) if sort is lexicon.CITIES else word for word in draw.sample(sort, count)]
    likes = dict(zip(map(name, draw.sample(lexicon.NAMES, count)), words, strict=True))
    *first, last = (f"{person} likes {thing}" for person, thing in likes.items())
    return f"{', '.join(first)} and {last}.", likes


def tastes(draw: random.Random) -> Row:
    """What some people like, and a question about one of them; the answer is a word of the text."""
    text, likes = liked(draw)
    person, thing = draw.choice(list(likes.items()))
    question, answer = draw.choice(((f"What does {person} like?", thing), (f"Who likes {thing}?", person)))
    return {"context": text, "question": question, "answer": answer}


def stories(draw: random.Random) -> Row:
    """One or two events and a question; the answer is a word of the story."""
    events = scenes.events(draw, draw.choice((1, 2)))
    question, answer, _ = _question(draw, events)
    return {"context": " ".join(event.active() for event in events), "question": question, "answer": answer}


def profiles(draw: random.Random) -> Row:
    """Two people and a question about one of them; the answer is a word of the text."""
    people = scenes.people(draw, 2)
    person = draw.choice(people)
    first = name(person.first)
    question, answer = draw.choice(
        (
            (f"What is the job of {first}?", person.job),
            (f"What is the last name of {first}?", name(person.surname)),
            (f"Which city does {first} come from?", name(person.city)),
            (f"In what year was {first} born?", person.year),
            (f"What does {first} like to do?", person.hobby),
            (f"Who is the {person.job}?", first),
        )
    )
    return {"context": " ".join(p.profile(draw) for p in people), "question": question, "answer": answer}


def which_kind(draw: random.Random) -> Row:
    """Four words, one of them of a kind or with an ability; answering takes knowledge, the row has no text."""
    if draw.random() < 0.5:
        kind = draw.choice(tuple(lexicon.KINDS))
        question, right = f"Which of these is {a(kind)}?", [kind]
    else:
        ability = draw.choice(tuple(lexicon.ABILITIES))
        question, right = f"Which of these {ability}?", list(lexicon.ABILITIES[ability])
    wrong = draw.sample([kind for kind in lexicon.KINDS if kind not in right], 3)
    answer = draw.choice(lexicon.KINDS[draw.choice(right)])
    shuffled, label = options(draw, answer, [draw.choice(lexicon.KINDS[kind]) for kind in wrong])
    return {"question": question, "choices": shuffled, "label": label}


def story_choice(draw: random.Random) -> Row:
    """Two or three events and a question with as many choices, all of them from the story."""
    events = scenes.events(draw, draw.choice((2, 2, 3)))
    question, answer, wrong = _question(draw, events)
    shuffled, label = options(draw, answer, wrong)
    return {"context": " ".join(e.active() for e in events), "question": question, "choices": shuffled, "label": label}


def claims(draw: random.Random) -> Row:
    """One or two events and a claim; 1 = true. A false claim has one detail of another event, in the text or not."""
    label = draw.randrange(2)
    events = scenes.events(draw, 2)
    event, other = draw.sample(events, 2)
    if label:
        claim = event
    else:
        field = draw.choice(("person", "thing", "colour", "place"))
        claim = dataclasses.replace(event, **{field: getattr(other, field)})
    if draw.random() < 0.5:
        events = [event]
    return {"evidence": " ".join(e.active() for e in events), "claim": claim.again(draw), "label": label}


def common_facts(draw: random.Random) -> Row:
    """What a thing is or does; 1 = true. Answering takes knowledge, the row has no text."""
    label = draw.randrange(2)
    kinds = tuple(lexicon.KINDS)
    if draw.random() < 0.5:
        kind = draw.choice(kinds)
        statement, right = f"is {a(kind)}", [kind]
    else:
        statement = draw.choice(tuple(lexicon.ABILITIES))
        right = list(lexicon.ABILITIES[statement])
    kind = draw.choice(right if label else [k for k in kinds if k not in right])
    thing = a(draw.choice(lexicon.KINDS[kind]))
    speaker = f"{name(draw.choice(lexicon.NAMES))} {draw.choice(('says', 'thinks', 'believes'))} that"
    return {"text": sentence(speaker, thing, statement), "label": label}


def quantities(draw: random.Random) -> Row:
    """Who of two has more, or fewer, of something."""
    label = draw.randrange(2)
    first, second = (name(person) for person in two(draw, lexicon.NAMES))
    fewer, more = sorted(draw.sample(range(len(lexicon.NUMBERS)), 2))
    which = draw.choice(("more", "fewer"))
    counts = (more, fewer) if (which == "more") == (label == 0) else (fewer, more)
    thing = draw.choice(("lamp", "book", "apple", "hat", "coat", "chair", "lemon", "carrot", "goat", "cow")) + "s"
    text = f"{first} has {lexicon.NUMBERS[counts[0]]} {thing} and {second} has {lexicon.NUMBERS[counts[1]]}."
    return {"text": text, "question": f"Who has {which} {thing}?", "choices": [first, second], "label": label}


DONE = lexicon.words("danced sang cooked read slept worked ate swam painted travelled")


def order(draw: random.Random) -> Row:
    """What somebody did first, or last, of two things."""
    label = draw.randrange(2)
    early, late = two(draw, DONE)
    person = draw.choice(lexicon.NAMES)
    they = "she" if person in lexicon.WOMEN else "he"
    person = name(person)
    text = draw.choice(
        (
            f"{person} {early} before {they} {late}.",
            f"{person} {late} after {they} {early}.",
            f"Before {they} {late}, {person} {early}.",
            f"After {they} {early}, {person} {late}.",
            f"{person} {early} and then {late}.",
        )
    )
    which = draw.choice(("first", "last"))
    answer, wrong = (early, late) if which == "first" else (late, early)
    return {
        "text": text,
        "question": f"What did {person} do {which}?",
        "choices": [answer, wrong] if label == 0 else [wrong, answer],
        "label": label,
        "key": (text, which),
    }
