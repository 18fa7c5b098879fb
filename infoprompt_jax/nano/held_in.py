"""The data sets that the backbone is pretrained on: one function each, from random draws to a row.

The field names are those of the public data sets that a set is modelled on, where there is one. Unless a docstring says
that words give the label away, the two sides of a label use the same words: who did what decides, not which words occur.
"""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from infoprompt_jax.nano import lexicon, scenes
from infoprompt_jax.nano.grammar import a, name, options, sentence, two

Row = dict[str, Any]

QUESTION_TYPES = ("person", "place", "time", "number", "thing", "reason")
RELATIONS = ("part of", "inside", "caused by", "made by", "from", "member of")


def remarks(draw: random.Random) -> Row:
    """Short praise and blame; the words tell."""
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
    """Reviews; the opinion of the work counts, not the one of a part of it, and denials turn opinions round."""
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
    """Reviews of two things, one liked and the other not; the label is the opinion of `aspect`."""
    label = draw.randrange(2)
    aspect, other = two(draw, lexicon.MEAL_PARTS)
    clauses = [scenes.opinion(draw, aspect, good=label == 1), scenes.opinion(draw, other, good=label == 0)]
    draw.shuffle(clauses)
    joint = draw.choice((", but ", " and ", ", while "))
    return {"text": sentence(joint.join(clauses)), "aspect": aspect, "label": label}


def headlines(draw: random.Random) -> Row:
    """News; the label is the topic of its words."""
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
    """Two sentences of one event with a giver and a taker; 1 = they say the same, 0 = the two have changed places."""
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
    """Two questions about one event; 1 = they ask for the same, 0 = for different things."""
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
    """Questions by what they ask for; the question words tell."""
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


def _asked(draw: random.Random, told: list[scenes.Event]) -> tuple[str, str, list[str]]:
    """A question about one of the events, its answer, and what the other events would answer."""
    event = draw.choice(told)
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
    shown = [name(getattr(e, field)) if field == "person" else getattr(e, field) for e in (event, *told)]
    return question, shown[0], [value for value in shown if value != shown[0]]


def liked(draw: random.Random) -> tuple[str, dict[str, str]]:
    """A sentence about what some people like, all of one sort of thing, and who likes what."""
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
    told = scenes.events(draw, draw.choice((1, 2)))
    question, answer, _ = _asked(draw, told)
    return {"context": " ".join(event.active() for event in told), "question": question, "answer": answer}


def profiles(draw: random.Random) -> Row:
    """Two people and a question about one of them; the answer is a word of the text."""
    told = scenes.people(draw, 2)
    person = draw.choice(told)
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
    return {"context": " ".join(p.profile(draw) for p in told), "question": question, "answer": answer}


def which_kind(draw: random.Random) -> Row:
    """Four words, one of them of a kind or with an ability; nothing but knowledge tells which."""
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
    told = scenes.events(draw, draw.choice((2, 2, 3)))
    question, answer, wrong = _asked(draw, told)
    shuffled, label = options(draw, answer, wrong)
    return {"context": " ".join(e.active() for e in told), "question": question, "choices": shuffled, "label": label}


def claims(draw: random.Random) -> Row:
    """One or two events and a claim; 1 = true. A false claim takes one thing from another event, told or not."""
    label = draw.randrange(2)
    told = scenes.events(draw, 2)
    event, other = draw.sample(told, 2)
    if label:
        claim = event
    else:
        field = draw.choice(("person", "thing", "colour", "place"))
        claim = dataclasses.replace(event, **{field: getattr(other, field)})
    if draw.random() < 0.5:
        told = [event]
    return {"evidence": " ".join(e.active() for e in told), "claim": claim.again(draw), "label": label}


def common_facts(draw: random.Random) -> Row:
    """What a thing is or does; 1 = true. Nothing but knowledge tells."""
    label = draw.randrange(2)
    kinds = tuple(lexicon.KINDS)
    if draw.random() < 0.5:
        kind = draw.choice(kinds)
        said, right = f"is {a(kind)}", [kind]
    else:
        said = draw.choice(tuple(lexicon.ABILITIES))
        right = list(lexicon.ABILITIES[said])
    kind = draw.choice(right if label else [k for k in kinds if k not in right])
    thing = a(draw.choice(lexicon.KINDS[kind]))
    speaker = f"{name(draw.choice(lexicon.NAMES))} {draw.choice(('says', 'thinks', 'believes'))} that"
    return {"text": sentence(speaker, thing, said), "label": label}


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
    """A noun phrase that holds a relation, and the two nouns."""
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
    """Two related pairs in a sentence; the label is the relation of the pair that is asked about."""
    label = draw.randrange(len(RELATIONS))
    asked = _related(draw, RELATIONS[label])
    other = _related(draw, draw.choice([r for r in RELATIONS if r != RELATIONS[label]]))
    phrases = [asked[0], other[0]]
    draw.shuffle(phrases)
    person = name(draw.choice(lexicon.NAMES))
    verb = draw.choice(("saw", "remembered", "photographed", "wrote about"))
    text = sentence(person, verb, f"{phrases[0]} and {phrases[1]}")
    return {"sentence": text, "entity1": asked[1], "entity2": asked[2], "label": label}


def grammar(draw: random.Random) -> Row:
    """Sentences; 1 = grammatical. The wrong ones have a verb that does not agree, or two words that changed places."""
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


def quantities(draw: random.Random) -> Row:
    """Who of two has more, or fewer, of something."""
    label = draw.randrange(2)
    first, second = (name(person) for person in two(draw, lexicon.NAMES))
    fewer, more = sorted(draw.sample(range(len(lexicon.NUMBERS)), 2))
    asked = draw.choice(("more", "fewer"))
    counts = (more, fewer) if (asked == "more") == (label == 0) else (fewer, more)
    thing = draw.choice(("lamp", "book", "apple", "hat", "coat", "chair", "lemon", "carrot", "goat", "cow")) + "s"
    text = f"{first} has {lexicon.NUMBERS[counts[0]]} {thing} and {second} has {lexicon.NUMBERS[counts[1]]}."
    return {"text": text, "question": f"Who has {asked} {thing}?", "choices": [first, second], "label": label}


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
    asked = draw.choice(("first", "last"))
    answer, wrong = (early, late) if asked == "first" else (late, early)
    return {
        "text": text,
        "question": f"What did {person} do {asked}?",
        "choices": [answer, wrong] if label == 0 else [wrong, answer],
        "label": label,
        "key": (text, asked),
    }


def concepts(draw: random.Random) -> Row:
    """Four words in alphabetical order; the answer is the sentence that they make."""
    event = scenes.events(draw, 1)[0]
    words = sorted((event.person, event.verb[0], event.thing, event.place))
    target = sentence(name(event.person), event.verb[0], "the", event.thing, "in the", event.place)
    return {"concepts": words, "target": target}
