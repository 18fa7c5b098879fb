"""Estimates of the information terms that have stopped to say anything, and what to change.

An InfoNCE estimate at its ceiling, the logarithm of the number of negatives plus one, has no gradient left. One below
zero for long comes from a critic that does not fit the vectors that it compares. Both are logged once for each term.
"""

from __future__ import annotations

import logging

import ml_collections

from infoprompt_jax.infoprompt.representation_loss import OF_ROWS

AT_CEILING = 0.95  # share of the most that the estimate can be
LONG = 5  # records of a member, one after the other
REMEDIES = {
    "head": "infoprompt.head='conditional', infoprompt.score='cosine', a higher infoprompt.temperature or "
    "infoprompt.gamma=0",
    "representation": "infoprompt.score='cosine', a higher infoprompt.temperature, other infoprompt.negatives or "
    "infoprompt.beta=0",
}

log = logging.getLogger(__name__)


class Estimates:
    """Counts, for each member and term, the records at the ceiling and those below zero."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str], int] = {}
        self._warned: set[tuple[str, str]] = set()

    def observe(self, member: str, term: str, nats: float, most: float | None) -> None:
        """Takes a record: the estimate, and the most that it can be.

        `most` is None for an estimator that has no such limit, and 0 where there were no negatives.
        """
        states = {"ceiling": most is not None and nats >= AT_CEILING * most > 0, "zero": nats < 0}
        for state, holds in states.items():
            key = member, term, state
            self._counts[key] = self._counts.get(key, 0) + 1 if holds else 0
            if self._counts[key] == LONG and (term, state) not in self._warned:
                self._warned.add((term, state))
                seen = f"at its ceiling, {most:.2f} nats, and has no gradient" if state == "ceiling" else "below 0 nats"
                log.warning(
                    "%s: the %s term's estimate was %s in %d records in a row: try %s.",
                    member,
                    term,
                    seen,
                    LONG,
                    REMEDIES[term],
                )


def warn_of_static(config: ml_collections.ConfigDict, representation: bool) -> None:
    """Logs what negatives from other rows cannot estimate for a prompt that is the same for all rows."""
    terms = config.infoprompt
    if representation and config.prompt.kind == "static" and terms.negatives in OF_ROWS:
        log.warning(
            "infoprompt.negatives=%r compares rows, and a static prompt is the same for all of them: the estimate "
            "tells nothing about it. Choose prompt.kind='instance', or negatives='unprompted' or 'shuffled'.",
            terms.negatives,
        )
