"""Held-in data sets, on which the backbone is pretrained: one function each, from random draws to a row.

Those with a question about a text are in `reading.py`. Field names are those of the public data set that a set is
modelled on. Rows of different labels use the same words, so that a bag of words does not predict the label; where it
does, the docstring says so.
"""

from __future__ import annotations

import random
from typing import Any

from infoprompt_jax.nano import lexicon, scenes
from infoprompt_jax.nano.grammar import a, name, sentence, two

Row = dict[str, Any]

QUESTION_TYPES = ("person", "place", "time", "number", "thing", "reason")
RELATIONS = ("part of", "inside", "caused by", "made by", "from", "member of")


def remarks(draw: random.Random) -> Row:
    """Short praise and blame; words predict the label."""
    label = draw.randrange(2)
    thing = draw.choice(lexicon.WORKS + lexicon.FILM_PARTS + lexicon.MEAL_PARTS)
    first, second = two(draw, lexicon.GOOD if label else lexicon.BAD)
    person = name(draw.choice(lexicon.NAMES))
    patterns = (
        f"what {a(first)} {thing}!",
        f"the {thing} was {first} and {second}",
        f"{person} found the {thing} {first}",
        f"{a(first)}, {second} {thing}",
        f"so {first}, this {thing}",
    )
    return {"text": sentence(draw.choice(patterns)), "label": label}


def films(draw: random.Random) -> Row:
    """Reviews; the label is the opinion of the work, not of a part of it. A denial reverses an opinion."""
    label = draw.randrange(2)
    work = scenes.opinion(draw, draw.choice(lexicon.WORKS), good=label == 1)
    part = scenes.opinion(draw, draw.choice(lexicon.FILM_PARTS), good=draw.random() < 0.5)
    patterns = (
        f"{part}, but {work}",
        f"{work}, although {part}",
        f"although {part}, {work}",
        f"{work}. {sentence(part)}",
    )
    return {"text": sentence(work if draw.random() < 0.5 else draw.choice(patterns)), "label": label}


def meals(draw: random.Random) -> Row:
    """Reviews of two things, one liked and one disliked; the label is the opinion of `aspect`."""
    label = draw.randrange(2)
    aspect, other = two(draw, lexicon.MEAL_PARTS)
    clauses = [scenes.opinion(draw, aspect, good=label == 1), scenes.opinion(draw, other, good=label == 0)]
    draw.shuffle(clauses)
    joint = draw.choice((", but ", " and ", ", while "))
    return {"text": sentence(joint.join(clauses)), "aspect": aspect, "label": label}


def headlines(draw: random.Random) -> Row:
    """News; the label is the topic, which words predict."""
    label = draw.randrange(len(lexicon.TOPICS))
    topic = tuple(lexicon.TOPICS)[label]
    text = " ".join(scenes.topical(draw, topic) for _ in range(draw.choice((1, 1, 2))))
    return {"text": text, "label": label}


def same_topic(draw: random.Random) -> Row:
    """Two news items; 1 = of the same topic."""
    label = draw.randrange(2)
    topic, other = two(draw, tuple(lexicon.TOPICS))
    return {
        "sentence1": scenes.topical(draw, topic),
        "sentence2": scenes.topical(draw, topic if label else other),
        "label": label,
    }


def rewordings(draw: random.Random) -> Row:
    """Two sentences about one event with a giver and a taker; 1 = same meaning, 0 = giver and taker are swapped."""
    label = draw.randrange(2)
    giver, taker = (name(person) for person in two(draw, lexicon.NAMES))
    verb = draw.choice(lexicon.TRANSFERS)
    thing = f"the {draw.choice(lexicon.COLOURS)} {draw.choice(lexicon.OBJECTS)}"
    first = sentence(giver, verb[0], thing, "to", taker)
    if not label:
        giver, taker = taker, giver
    second = (
        sentence(giver, verb[2], thing, "to", taker),
        sentence(thing, "was", verb[1], "to", taker, "by", giver),
        sentence(taker, "got", thing, "from", giver),
    )
    return {"sentence1": first, "sentence2": draw.choice(second), "label": label}


def twin_questions(draw: random.Random) -> Row:
    """Two questions about one event; 1 = they ask for the same thing, 0 = for different things."""
    label = draw.randrange(2)
    person, thing = name(draw.choice(lexicon.NAMES)), draw.choice(lexicon.OBJECTS)
    (past, _, other_past, _) = draw.choice(lexicon.ACTIONS)
    forms = (
        (
            f"Where was it that {person} {past} the {thing}?",
            f"In which place was it that {person} {other_past} the {thing}?",
        ),
        (
            f"When was it that {person} {past} the {thing}?",
            f"At what time was it that {person} {other_past} the {thing}?",
        ),
        (
            f"Why was it that {person} {past} the {thing}?",
            f"For what reason was it that {person} {other_past} the {thing}?",
        ),
        (f"Who saw how {person} {past} the {thing}?", f"Which person saw how {person} {other_past} the {thing}?"),
    )
    first, second = two(draw, forms)
    pair = [draw.choice(first), draw.choice(second)] if not label else draw.sample(first, 2)
    return {"question1": pair[0], "question2": pair[1], "label": label}


def questions(draw: random.Random) -> Row:
    """Questions by the type of their answer; question words predict the label."""
    label = draw.randrange(len(QUESTION_TYPES))
    person, thing = name(draw.choice(lexicon.NAMES)), draw.choice(lexicon.OBJECTS)
    past, participle = draw.choice(lexicon.ACTIONS)[:2]
    job, place, city = draw.choice(lexicon.JOBS), draw.choice(lexicon.PLACES), name(draw.choice(lexicon.CITIES))
    forms = (
        (f"Who {past} the {thing}?", f"What is the name of the {job} in {city}?", f"By whom was the {thing} {participle}?",
         f"Which {job} works in the {place}?", f"Who is the {job} that {person} likes?"),
        (f"Where is the {thing}?", f"In which city does {person} live?", f"What country is {city} in?",
         f"Where did {person} meet the {job}?", f"In what place was the {thing} {participle}?"),
        (f"When was the {thing} {participle}?", f"In what year was {person} born?", f"On which day does the {place} open?",
         f"At what time does the {job} come?", f"What is the date of the meeting in {city}?"),
        (f"How many people visit the {place}?", f"What is the price of the {thing}?", f"How old is the {job}?",
         f"How far is {city} from the {place}?", f"What number does {person} have?"),
        (f"What did {person} put in the {place}?", f"Which thing was {participle} by the {job}?", f"What does the {job} carry?",
         f"What lies beside the {thing}?", f"Which object is in the {place}?"),
        (f"Why was the {thing} {participle}?", f"For what reason did {person} come?", f"What made the {job} leave {city}?",
         f"Why does {person} hate the {place}?", f"What is the cause of the noise in the {place}?"),
    )  # fmt: skip
    opener = draw.choice(
        ("", "", "Tell me: ", "Please say: ", "Do you know this? ", f"{name(draw.choice(lexicon.NAMES))} asks: ")
    )
    return {"text": opener + draw.choice(forms[label]), "label": label}


PARTS = tuple(
    pair.split()
    for pair in (
        "wheel car", "handle hammer", "string guitar", "page book", "sleeve coat", "drawer desk", "roof church", "leg chair",
        "engine truck", "button shirt", "key piano", "lid box", "door garage", "pedal bicycle",
    )
)  # fmt: skip
EFFECTS = tuple(
    pair.split()
    for pair in (
        "flood storm", "fire candle", "noise drum", "smoke fire", "damage flood", "illness virus", "accident ice", "shadow tree",
        "panic alarm", "joy victory", "hunger drought", "burn sun", "delay snow", "scar knife",
    )
)  # fmt: skip
GROUPS = tuple(
    pair.split()
    for pair in (
        "player team", "sheep flock", "soldier army", "wolf pack", "singer choir", "minister government", "student class",
        "bee swarm", "ship fleet", "judge court", "actor cast", "worker union", "monk order", "card deck",
    )
)  # fmt: skip


def _related(draw: random.Random, relation: str) -> tuple[str, str, str]:
    """A noun phrase with this relation, and its two nouns."""
    if relation in ("part of", "caused by", "member of"):
        first, second = draw.choice({"part of": PARTS, "caused by": EFFECTS, "member of": GROUPS}[relation])
        joints = {"part of": ("of", "belonging to"), "caused by": ("after", "due to"), "member of": ("in", "of")}[
            relation
        ]
        return f"the {first} {draw.choice(joints)} the {second}", first, second
    first = draw.choice(lexicon.OBJECTS)
    if relation == "inside":
        second = draw.choice(
            [place for place in ("basket", "box", "bag", "bottle", "drawer", "suitcase") if place != first]
        )
        return f"the {first} {draw.choice(('in', 'inside'))} the {second}", first, second
    if relation == "made by":
        second = draw.choice(lexicon.JOBS)
        return f"the {first} {draw.choice(('of', 'built by'))} the {second}", first, second
    second = name(draw.choice(lexicon.CITIES))
    return f"the {first} {draw.choice(('from', 'brought from'))} {second}", first, second


def relations(draw: random.Random) -> Row:
    """Two related pairs in a sentence; the label is the relation of the pair in `entity1` and `entity2`."""
    label = draw.randrange(len(RELATIONS))
    labelled = _related(draw, RELATIONS[label])
    other = _related(draw, draw.choice([r for r in RELATIONS if r != RELATIONS[label]]))
    phrases = [labelled[0], other[0]]
    draw.shuffle(phrases)
    person = name(draw.choice(lexicon.NAMES))
    verb = draw.choice(("saw", "remembered", "photographed", "wrote about"))
    text = sentence(person, verb, f"{phrases[0]} and {phrases[1]}")
    return {"sentence": text, "entity1": labelled[1], "entity2": labelled[2], "label": label}


def grammar(draw: random.Random) -> Row:
    """Sentences; 1 = grammatical. A wrong one has a verb that does not agree or two swapped words."""
    label = draw.randrange(2)
    noun, near = draw.choice(lexicon.JOBS), draw.choice(lexicon.OBJECTS + lexicon.JOBS)
    many, near_many = draw.random() < 0.5, draw.random() < 0.5
    subject = f"the {noun}{'s' * many} {draw.choice(('near', 'behind', 'with'))} the {near}{('es' if near == 'box' else 's') * near_many}"
    if draw.random() < 0.5:
        verb = "are" if many == (label == 1) else "is"
        return {
            "sentence": sentence(
                subject, verb, draw.choice(("tired", "late", "in the " + draw.choice(lexicon.PLACES)))
            ),
            "label": label,
        }
    event = scenes.events(draw, 1)[0]
    words = event.active().rstrip(".").split()
    if not label:
        at = draw.choice((1, 2, 4, 5, 6))  # not colour and thing: "painted the lamp red" is grammatical
        words[at], words[at + 1] = words[at + 1], words[at]
    return {"sentence": " ".join(words) + ".", "label": label}


def concepts(draw: random.Random) -> Row:
    """Four words in alphabetical order; the target is a sentence with all of them."""
    event = scenes.events(draw, 1)[0]
    words = sorted((event.person, event.verb[0], event.thing, event.place))
    target = sentence(name(event.person), event.verb[0], "the", event.thing, "in the", event.place)
    return {"concepts": words, "target": target}
