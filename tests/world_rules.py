"""What the right answer to a row of the nano world is, read only from the row's text.

Independent of the code that makes the rows: only word tables are shared. Each rule returns the label, or the answer
where answers are free, and raises if the text is not one that it can read.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from infoprompt_jax.nano import lexicon
from infoprompt_jax.nano.lexicon import words
from infoprompt_jax.nano.senses import SENSES

Row = dict[str, Any]

NUMBER = {word: value for value, word in enumerate(words("two three four five six seven eight nine ten eleven twelve"))}
PAST = {form: verb[0] for verb in lexicon.ACTIONS + lexicon.TRANSFERS for form in verb}
KIND = {word: kind for kind, members in lexicon.KINDS.items() for word in members}
TOPIC = {word: topic for topic, members in lexicon.TOPICS.items() for word in members}
EFFECT = dict(lexicon.CAUSES)
CAUSE = {effect: cause for cause, effect in lexicon.CAUSES}
GROUPS = words("team flock army pack choir government class swarm fleet court cast union order deck")
CONTAINERS = words("basket box bag bottle drawer suitcase")
RELATIONS = ("part of", "inside", "caused by", "made by", "from", "member of")
ASKED_FOR = (  # of these exactly one is in a question, by what the question asks for
    r"\bwho\b|by whom|which \w+ works|the name of",
    r"where|which city|what country|what place",
    r"when|what year|which day|what time|the date",
    r"how (?:many|old|far)|the price|what number",
    r"what did|which thing|does the \w+ carry|what lies|which object",
    r"why|what reason|what made|the cause",
)
# A reason that is one for what the first person of the sentence did; all others are about the second.
DOERS = (
    "was grateful|was kind|was lost|was rich|was faster|played badly|was deaf|was worried|was strong|knew a lot|"
    "was angry|missed the bus|had a debt|needed workers|was shy|had nothing|is too big"
)


def match(pattern: str, text: str) -> tuple[str, ...]:
    found = re.fullmatch(pattern, text)
    assert found, f"{text!r} is not {pattern}"
    return found.groups()


def opinions(text: str) -> dict[str, bool]:
    """What is said to be good."""
    said = re.findall(r"the (\w+) was (?:(not|never|hardly|truly|very) )?(\w+)", text.lower())
    assert said and all((word in lexicon.GOOD) != (word in lexicon.BAD) for *_, word in said)
    return {thing: (word in lexicon.GOOD) != (adverb in ("not", "never", "hardly")) for thing, adverb, word in said}


def remarks(row: Row) -> int:
    said = set(re.findall(r"\w+", row["text"].lower()))
    good, bad = said & set(lexicon.GOOD), said & set(lexicon.BAD)
    assert bool(good) != bool(bad)
    return int(bool(good))


def films(row: Row) -> int:
    (good,) = [good for thing, good in opinions(row["text"]).items() if thing in lexicon.WORKS]
    return int(good)


def meals(row: Row) -> int:
    said = opinions(row["text"])
    assert len(said) == 2 and len(set(said.values())) == 2
    return int(said[row["aspect"]])


def topic(text: str) -> str:
    (found,) = {TOPIC[word] for word in re.findall(r"the (\w+)", text.lower()) if word in TOPIC}
    return found


def headlines(row: Row) -> int:
    return list(lexicon.TOPICS).index(topic(row["text"]))


def same_topic(row: Row) -> int:
    return int(topic(row["sentence1"]) == topic(row["sentence2"]))


def transfer(text: str) -> tuple[str, ...]:
    """Giver, thing, taker."""
    if " by " in text:
        thing, taker, giver = match(r"The (\w+ \w+) was .+ to (\w+) by (\w+)\.", text)
    elif " got " in text:
        taker, thing, giver = match(r"(\w+) got the (\w+ \w+) from (\w+)\.", text)
    else:
        giver, thing, taker = match(r"(\w+) .+ the (\w+ \w+) to (\w+)\.", text)
    return giver, thing, taker


def rewordings(row: Row) -> int:
    return int(transfer(row["sentence1"]) == transfer(row["sentence2"]))


def twin_questions(row: Row) -> int:
    sought = []
    for question in (row["question1"], row["question2"]):
        asked, person, past, thing = match(
            r"(.+) (?:was it that|saw how) (\w+) (\w+) the (\w+)\?", question.replace("At what time", "When")
        )
        same = {"In which place": "Where", "For what reason": "Why", "Which person": "Who"}
        sought.append((same.get(asked, asked), person, PAST[past], thing))
    assert sought[0][1:] == sought[1][1:]
    return int(sought[0] == sought[1])


def questions(row: Row) -> int:
    question = re.sub(r"^(.*: |Do you know this\? )", "", row["text"])
    (asked,) = [label for label, pattern in enumerate(ASKED_FOR) if re.search(pattern, question.lower())]
    return asked


@dataclasses.dataclass(frozen=True)
class Event:
    person: str
    past: str
    colour: str
    thing: str
    place: str


def event(text: str) -> Event:
    """Of a sentence such as `Anna bought the red box in the park.` or `The box was bought by Anna in the park.`"""
    if " by " in text:
        colour, thing, verb, person, place = match(r"The (\w+ )?(\w+) was (\w+) by (\w+) in the (\w+)\.", text)
    else:
        person, verb, colour, thing, place = match(r"(\w+) (\w+) the (\w+ )?(\w+) in the (\w+)\.", text)
    return Event(person, PAST[verb], (colour or "").strip(), thing, place)


def events(text: str) -> list[Event]:
    return [event(sentence) for sentence in re.findall(r"[^.]+\.", text.replace(". ", "."))]


def tastes(row: Row) -> str:
    likes = dict(re.findall(r"(\w+) likes (\w+)", row["context"]))
    asked = match(r"What does (\w+) like\?|Who likes (\w+)\?", row["question"])
    return likes[asked[0]] if asked[0] else {thing: person for person, thing in likes.items()}[asked[1]]


def story_answer(row: Row) -> str:
    question, told = row["question"], events(row["context"])
    mentioned = set(re.findall(r"\w+", question))
    (told_of,) = [e for e in told if mentioned & {e.person, e.thing, e.place}]
    verbs = [PAST[word] for word in mentioned & PAST.keys()]
    assert verbs in ([], [told_of.past])
    asked = {"Who": "person", "By": "person", "Where": "place", "In": "place", "What was": "thing", "What": "colour"}
    return getattr(told_of, next(field for opening, field in asked.items() if question.startswith(opening)))


def profiles(row: Row) -> str:
    tables = {
        "name": lexicon.NAMES,
        "surname": lexicon.SURNAMES,
        "job": lexicon.JOBS,
        "city": lexicon.CITIES,
        "year": lexicon.YEARS,
        "hobby": lexicon.HOBBIES,
    }
    said = re.findall(r"\w+", row["context"])
    column = {
        field: [w for w in said if w.lower() in table and w.istitle() == (field in ("name", "surname", "city"))]
        for field, table in tables.items()
    }
    assert all(len(found) == 2 for found in column.values())
    if "Who is" in row["question"]:
        return column["name"][column["job"].index(match(r"Who is the (\w+)\?", row["question"])[0])]
    (person,) = [column["name"].index(w) for w in re.findall(r"\w+", row["question"]) if w in column["name"]]
    asked = {"job": "job", "last name": "surname", "city": "city", "year": "year", "like": "hobby"}
    (field,) = [field for word, field in asked.items() if word in row["question"]]
    return column[field][person]


def holds(thing: str, said: str) -> bool:
    """Whether something said of a thing, `is a bird` or `has eyes`, is true."""
    if said in lexicon.ABILITIES:
        return KIND[thing] in lexicon.ABILITIES[said]
    return match(r"is an? (.+)", said)[0] == KIND[thing]


def which_kind(row: Row) -> int:
    (said,) = match(r"Which of these (.+)\?", row["question"])
    (label,) = [index for index, choice in enumerate(row["choices"]) if holds(choice, said)]
    return label


def story_choice(row: Row) -> int:
    return row["choices"].index(story_answer(row))


def claims(row: Row) -> int:
    return int(event(row["claim"]) in events(row["evidence"]))


def common_facts(row: Row) -> int:
    return int(holds(*match(r"\w+ (?:says|thinks|believes) that (?:an? )?(\w+) (.+)\.", row["text"])))


def relations(row: Row) -> int:
    pattern = rf"the {row['entity1']} (in|inside|after|due to|belonging to|built by|brought from|from|of) (?:the )?"
    (joint,) = re.findall(pattern + row["entity2"] + r"\b", row["sentence"])
    member = "member of" if row["entity2"] in GROUPS else ""
    found = {
        "in": member or "inside" * (row["entity2"] in CONTAINERS),
        "of": member or ("made by" if row["entity2"] in lexicon.JOBS else "part of"),
        "inside": "inside",
        "after": "caused by",
        "due to": "caused by",
        "belonging to": "part of",
        "built by": "made by",
    }
    return RELATIONS.index(found.get(joint, "from"))


def grammar(row: Row) -> int:
    agrees = re.fullmatch(r"The (\w+) (?:near|behind|with) the \w+ (is|are) [\w ]+\.", row["sentence"])
    if agrees:
        return int(agrees[1].endswith("s") == (agrees[2] == "are"))
    found = re.fullmatch(r"(\w+) (\w+) the (\w+) (\w+) in the (\w+)\.", row["sentence"])
    tables = (lexicon.NAMES, PAST, lexicon.COLOURS, lexicon.OBJECTS, lexicon.PLACES)
    return int(bool(found) and all(w.lower() in table for w, table in zip(found.groups(), tables, strict=True)))


def quantities(row: Row) -> int:
    first, many, second, others = match(r"(\w+) has (\w+) \w+ and (\w+) has (\w+)\.", row["text"])
    extreme = max if "more" in row["question"] else min
    return row["choices"].index(extreme((first, second), key=lambda who: NUMBER[many if who == first else others]))


def order(row: Row) -> int:
    text = re.sub(r" (he|she)\b", "", row["text"].rstrip("."))
    person, before = match(r"What did (\w+) do (first|last)\?", row["question"])
    plain = [w for w in text.replace(",", "").split() if w not in (person, "and", "Before", "After", "before", "after")]
    done = [word for word in plain if word != "then"]
    reversed_order = " after " in text or text.startswith("Before")
    assert len(done) == 2
    return row["choices"].index(done[reversed_order] if before == "first" else done[not reversed_order])


def concepts(row: Row) -> str:
    """The sentence, if it is one of all the words and of no others."""
    said = event(row["target"])
    assert said.colour == "" and sorted((said.person.lower(), said.past, said.thing, said.place)) == row["concepts"]
    return row["target"]


def entailment(row: Row) -> int:
    text = row["hypothesis"]
    moved = re.fullmatch(r"In the (\w+), (\w+) (\w+) an? (.+)\.", text)
    by_kind = re.fullmatch(r"(\w+) (\w+) an? (.+) in the (\w+)\.", text)
    if moved:
        place, person, verb, thing = moved.groups()
    elif by_kind:
        person, verb, thing, place = by_kind.groups()
    else:
        said = event(text)
        person, verb, thing, place = said.person, said.past, said.thing, said.place
    claim = (person, PAST[verb], place)
    told = events(row["premise"])
    return int(not any((e.person, e.past, e.place) == claim and thing in (e.thing, KIND[e.thing]) for e in told))


def inference(row: Row) -> int:
    text = row["hypothesis"].lower()
    (colour,) = {word for word in re.findall(r"\w+", text) if word in lexicon.COLOURS}
    told = {e.thing: e.colour for e in events(row["premise"])}
    (thing,) = {word for word in re.findall(r"\w+", text) if word in told}
    return 1 if not told[thing] else 0 if told[thing] == colour else 2


def rest(sentence: str) -> str:
    """What is said of the person that a sentence begins with."""
    return match(r"\w+ (.+)\.", sentence)[0]


def only(right: str, choices: Sequence[str]) -> int:
    (label,) = [index for index, choice in enumerate(choices) if choice == right]
    return label


def causes(row: Row) -> int:
    table = EFFECT if row["question"] == "effect" else CAUSE
    return only(table[rest(row["premise"])], [rest(row["choice1"]), rest(row["choice2"])])


def endings(row: Row) -> int:
    return only(EFFECT[rest(row["ctx"].split(". ")[1])], [rest(ending) for ending in row["endings"]])


def pronouns(row: Row) -> int:
    said = row["sentence"]
    options = [row["option1"], row["option2"]]
    first = min(options, key=lambda option: re.search(rf"\b{option}\b", said).start())  # pyright: ignore
    (reason,) = re.findall(r"because (?:the )?_ (.+)\.", said)
    return options.index(first) if re.fullmatch(DOERS, reason) else 1 - options.index(first)


def sense(word: str, sentence: str) -> tuple[int, int]:
    """Which sense of the word, and which of its contexts, a sentence holds."""
    (found,) = [
        (number, index)
        for number, contexts in enumerate(SENSES[word])
        for index, context in enumerate(contexts)
        if re.search(rf"(^| ){re.escape(context)}$", sentence.lower().rstrip("."))
    ]
    return found


def senses(row: Row) -> int:
    return int(sense(row["word"], row["sentence1"])[0] == sense(row["word"], row["sentence2"])[0])


def content(dataset: str, row: Row) -> Any:
    """What rows of different splits must not have in common."""
    if dataset == "causes":
        asked = {rest(row["choice1"]), rest(row["choice2"])}
        return row["question"], rest(row["premise"]), frozenset(asked)
    if dataset == "senses":
        return row["word"], frozenset(sense(row["word"], row[field]) for field in ("sentence1", "sentence2"))
    if dataset == "pronouns":
        return row["sentence"], frozenset((row["option1"], row["option2"]))
    if dataset == "which_kind":  # its splits tell rows apart by the order of their choices, too (docs/nano.md)
        return row["question"], *row["choices"]
    own = {field: value for field, value in row.items() if field != "label"}
    return tuple(frozenset(value) if isinstance(value, list) else value for value in own.values())


RULES = {
    rule.__name__: rule
    for rule in (
        *(
            remarks,
            films,
            tastes,
            meals,
            headlines,
            same_topic,
            rewordings,
            twin_questions,
            questions,
            profiles,
            which_kind,
        ),
        *(story_choice, claims, common_facts, relations, grammar, quantities, order, concepts, entailment, inference),
        *(causes, endings, pronouns, senses),
    )
} | {"stories": story_answer}
