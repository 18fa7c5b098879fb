"""What of the information terms says nothing in a run, and what to change.

An InfoNCE estimate at its ceiling, the logarithm of the number of negatives plus one, has no gradient left. One below
zero for long comes from a critic that does not fit the vectors that it compares. Without negatives there is nothing to
estimate. Each is logged once for each term. Fields that have no effect are logged before training.
"""

from __future__ import annotations

import logging
from typing import Any

import ml_collections

from infoprompt_jax import settings
from infoprompt_jax.fleet.members import Member
from infoprompt_jax.infoprompt.objective import Objective
from infoprompt_jax.infoprompt.representation_loss import OF_ROWS

AT_CEILING = 0.95  # share of the most that the estimate can be
LONG = 5  # records of a member, one after the other
SEEN = {
    "ceiling": "at its ceiling, {most:.2f} nats, and has no gradient",
    "zero": "below 0 nats",
    "empty": "0 nats for want of negatives",
}
WEIGHTS = {"head": "infoprompt.gamma", "representation": "infoprompt.beta"}

log = logging.getLogger(__name__)


class Estimates:
    """Counts, for each member and term, the records at the ceiling, those below zero and those without negatives."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str], int] = {}
        self._warned: set[tuple[str, str]] = set()

    def observe(self, member: Member, term: str, nats: float, most: float) -> None:
        """Takes a record: the estimate, and the most that InfoNCE can estimate, 0 where there are no negatives."""
        limited = member.config.infoprompt.estimator == "infonce"
        states = {"ceiling": limited and nats >= AT_CEILING * most > 0, "zero": nats < 0, "empty": most == 0}
        for state, holds in states.items():
            key = member.name, term, state
            self._counts[key] = self._counts.get(key, 0) + 1 if holds else 0
            if self._counts[key] == LONG and (term, state) not in self._warned:
                self._warned.add((term, state))
                *others, last = remedies(member.config, term, state)
                log.warning(
                    "%s: the %s term's estimate was %s in %d records in a row: try %s or %s.",
                    member.name,
                    term,
                    SEEN[state].format(most=most),
                    LONG,
                    ", ".join(others),
                    last,
                )


def remedies(config: ml_collections.ConfigDict, term: str, state: str) -> list[str]:
    """What a member with this config can change about an estimate in this state; nothing that it has already."""
    terms, off = config.infoprompt, f"{WEIGHTS[term]}=0"
    if state == "empty":
        return ["a higher infoprompt.vocabulary_negatives" if term == "head" else "other infoprompt.negatives", off]
    scale = "infoprompt.score='cosine'" if terms.score == "product" else "a higher infoprompt.temperature"
    if term == "representation":
        return [scale, "other infoprompt.negatives", off]
    # Steps on the head loss alone exclude the conditional pairs.
    pairs = [] if terms.head == "conditional" or terms.head_steps else ["infoprompt.head='conditional'"]
    return [*pairs, scale, off]


def warn_of_fields(config: ml_collections.ConfigDict, objective: Objective) -> None:
    """Logs fields without effect, and negatives that estimate nothing about a static prompt."""
    terms = config.infoprompt
    for field, other in disabled(config, objective).items():
        log.warning(
            "infoprompt.%s=%r has no effect with infoprompt.%s=%r: leave it at %r, or change infoprompt.%s.",
            field,
            terms[field],
            other,
            terms[other],
            default(field),
            other,
        )
    if objective.representation_term and config.prompt.kind == "static" and terms.negatives in OF_ROWS:
        log.warning(
            "infoprompt.negatives=%r compares rows, and a static prompt is the same for all of them: the estimate "
            "tells nothing about it. Choose prompt.kind='instance', or negatives='unprompted' or 'shuffled'.",
            terms.negatives,
        )


def disabled(config: ml_collections.ConfigDict, objective: Objective) -> dict[str, str]:
    """The fields of the terms in the program that are not at their defaults, but have no effect; why: another field."""
    terms = config.infoprompt
    causes: dict[str, str] = {}
    if objective.representation_term and not has_noise(config):
        causes = dict.fromkeys(("noise", "noise_scale"), "variational" if terms.variational else "negatives")
    if (objective.head_term or objective.representation_term) and terms.score == "product":
        causes["learn_temperature"] = "score"
    return {field: other for field, other in causes.items() if terms[field] != default(field)}


def default(field: str) -> Any:
    """The default of a field of `infoprompt`."""
    return settings.FIELDS[f"infoprompt.{field}"].default


def has_noise(config: ml_collections.ConfigDict) -> bool:
    """Whether the negatives of a representation term have the noise that `noise` and `noise_scale` describe."""
    return config.infoprompt.negatives == "posterior" and not config.infoprompt.variational
