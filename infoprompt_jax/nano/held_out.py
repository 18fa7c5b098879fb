"""Held-out data sets, of four families that the backbone is not pretrained on; T0 holds out the same families.

The pretraining's unlabelled text (`texts.py`) is about the same world and states some answers (docs/nano.md). It has no
row, template or label of these data sets.
"""

from __future__ import annotations

import dataclasses
import random
from typing import Any

from infoprompt_jax.nano import lexicon, scenes
from infoprompt_jax.nano.grammar import a, name, options, others, sentence, two
from infoprompt_jax.nano.senses import SENSES

Row = dict[str, Any]

# What A did to B, then a reason that is about A and one that is about B.
SCHEMAS = (
    ("{A} thanked {B} because", "was grateful", "had helped"),
    ("{A} helped {B} because", "was kind", "was in trouble"),
    ("{A} followed {B} because", "was lost", "knew the way"),
    ("{A} gave {B} some money because", "was rich", "was poor"),
    ("{A} beat {B} in the race because", "was faster", "was slower"),
    ("{A} lost to {B} because", "played badly", "played well"),
    ("{A} could not hear {B} because", "was deaf", "spoke too softly"),
    ("{A} visited {B} in hospital because", "was worried", "was badly hurt"),
    ("{A} carried {B} because", "was strong", "was too tired to walk"),
    ("{A} taught {B} because", "knew a lot", "wanted to learn"),
    ("{A} shouted at {B} because", "was angry", "had told a lie"),
    ("{A} arrived after {B} because", "missed the bus", "took the fast train"),
    ("{A} paid {B} because", "had a debt", "had done the work"),
    ("{A} hired {B} because", "needed workers", "needed a job"),
    ("{A} feared {B} because", "was shy", "was dangerous"),
    ("{A} envied {B} because", "had nothing", "was successful"),
)
FITS = (
    "The {A} does not fit into the {B} because the _ is too big.",
    "The {A} does not fit into the {B} because the _ is too small.",
)
CONTENTS = ("ball", "book", "lamp", "clock", "camera", "umbrella", "mirror", "blanket")
CONTAINERS = ("box", "bag", "basket", "drawer", "suitcase", "cupboard", "pocket", "trunk")
OPENERS = ("", "I think ", "we know that ", "they say that ", "it is true that ", "I heard that ", "he wrote that ")


def wider(thing: str) -> str:
    """The kind of a thing: `sparrow` -> `bird`."""
    return next(kind for kind, words in lexicon.KINDS.items() if thing in words)


def entailment(draw: random.Random) -> Row:
    """0 = the hypothesis follows from one of the two sentences, 1 = it does not, with the same words either way."""
    label = draw.randrange(2)
    kinds = draw.sample([kind for kind in lexicon.KINDS if kind != "drink"], 2)  # nobody finds, or fixes, a lemonade
    things = [draw.choice(lexicon.KINDS[kind]) for kind in kinds]
    events = [dataclasses.replace(e, thing=t) for e, t in zip(scenes.events(draw, 2), things, strict=True)]
    event, other = draw.sample(events, 2)
    claim = event
    if label:
        field = draw.choice(("person", "thing", "place"))
        claim = dataclasses.replace(event, **{field: getattr(other, field)})
    form = draw.choice(("passive", "kind", "place"))
    person = name(claim.person)
    hypothesis = {
        "passive": dataclasses.replace(claim, colour="").again(draw),
        "kind": sentence(person, claim.verb[0], a(wider(claim.thing)), "in the", claim.place),
        "place": sentence(f"in the {claim.place},", person, claim.verb[2], a(claim.thing)),
    }[form]
    return {"premise": " ".join(e.active() for e in events), "hypothesis": hypothesis, "label": label}


def inference(draw: random.Random) -> Row:
    """0 = entailment, 1 = neutral, 2 = contradiction. Two of three things have a colour; the hypothesis names one."""
    label = draw.randrange(3)
    first, second, plain = scenes.events(draw, 3)
    plain = dataclasses.replace(plain, colour="")
    events = draw.sample((first, second, plain), 3)
    thing = plain.thing if label == 1 else first.thing
    colour = second.colour if label == 2 else first.colour
    claim = draw.choice(
        (f"the {thing} is {colour}", f"the {thing} has the colour {colour}", f"the colour of the {thing} is {colour}")
    )
    return {"premise": " ".join(e.active() for e in events), "hypothesis": sentence(claim), "label": label}


def causes(draw: random.Random) -> Row:
    """The effect or the cause of an event: two choices, the wrong one of another event."""
    label, question = draw.randrange(2), draw.choice(("cause", "effect"))
    (cause, effect), (other_cause, other_effect) = two(draw, lexicon.CAUSES)
    person = draw.choice(lexicon.NAMES)
    they = "she" if person in lexicon.WOMEN else "he"
    premise, right, wrong = (cause, effect, other_effect) if question == "effect" else (effect, cause, other_cause)
    pair = [right, wrong] if label == 0 else [wrong, right]
    return {
        "premise": sentence(name(person), premise),
        "question": question,
        "choice1": sentence(they, pair[0]),
        "choice2": sentence(they, pair[1]),
        "label": label,
        "key": (cause, other_cause, question),
    }


def endings(draw: random.Random) -> Row:
    """The ending of a short story: four choices, three of them of other stories."""
    person = draw.choice(lexicon.NAMES)
    they = "she" if person in lexicon.WOMEN else "he"
    cause, effect = draw.choice(lexicon.CAUSES)
    wrong = [other for _, other in others(draw, lexicon.CAUSES, (cause, effect), 3)]
    shuffled, label = options(draw, effect, wrong)
    opening = draw.choice(
        (
            f"was in the {draw.choice(lexicon.PLACES)} on {name(draw.choice(lexicon.DAYS))}",
            f"lives in {name(draw.choice(lexicon.CITIES))}",
        )
    )
    return {
        "ctx": f"{sentence(name(person), opening)} {sentence(they, cause)}",
        "endings": [sentence(they, e) for e in shuffled],
        "label": label,
    }


def pronouns(draw: random.Random) -> Row:
    """Which of two people or things fills the gap; the reason in the sentence decides."""
    label = draw.randrange(2)
    if draw.random() < 0.2:
        first, second = (draw.choice(pool) for pool in (CONTENTS, CONTAINERS))
        answer = draw.randrange(2)
        text = FITS[answer].format(A=first, B=second)
    else:
        first, second = (name(person) for person in two(draw, lexicon.NAMES))
        start, *reasons = draw.choice(SCHEMAS)
        answer = draw.randrange(2)
        text = f"{start.format(A=first, B=second)} _ {reasons[answer]}."
    right, wrong = (first, second) if answer == 0 else (second, first)
    pair = [right, wrong] if label == 0 else [wrong, right]
    return {"sentence": text, "option1": pair[0], "option2": pair[1], "label": label, "key": text}


def senses(draw: random.Random) -> Row:
    """A word in two sentences; 1 = it means the same in both.

    The pairs of sentences of each split are fixed, so that each sentence is equally often in pairs of both labels.
    """
    label = draw.randrange(2)
    word = draw.choice(tuple(SENSES))
    one, other = draw.sample(SENSES[word], 2)
    i, j = two(draw, range(len(one)))
    apart = j - i if one is SENSES[word][0] else i - j
    split = ((i ^ j) if label else apart % 4) - 1
    return {
        "word": word,
        "sentence1": sentence(draw.choice(OPENERS) + one[i]),
        "sentence2": sentence(draw.choice(OPENERS) + (one if label else other)[j]),
        "label": label,
        "split": ("train", "validation", "test")[split],
    }
