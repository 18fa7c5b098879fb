"""Equal members of a fleet are evaluated once: the places of the copies in the fleet's program take other rows.

Before the first step, members of one seed have equal prompts, and all members do that have none. The program predicts
a batch of rows for each of M members. Where each member has at least k equals, k batches of one shape are packed into
one, and every result is that of the same program on the same rows. (Where `fleet.at_once` does not divide M, the last
members have a program of their own, and the last digits of its results may differ.)
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import jax
import numpy as np
from jax.sharding import Mesh

from infoprompt_jax.batch import EvalBatch
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.infoprompt.trainable import Trainable
from infoprompt_jax.t5 import partition

Batch = EvalBatch[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Copies:
    """`equals` has for each of M members the numbers of those that are equal to it, itself included; () = none."""

    equals: Sequence[Sequence[int]] = ()

    @classmethod
    def of(cls, trainable: Trainable, members: Sequence[Sequence[Rows]], mesh: Mesh) -> Copies:
        """The members that have the same values in `trainable` and predict the same rows of `members`."""
        keys: list[Any] = [tuple(map(id, tasks)) for tasks in members]
        for leaf in sorted(jax.tree.leaves(trainable), key=lambda leaf: leaf.size):
            if len(set(keys)) == len(keys):  # as after the first step: larger leaves need not be read
                break
            values = partition.on_host(leaf, mesh)
            keys = [(key, value.tobytes()) for key, value in zip(keys, values, strict=True)]
        return cls([[n for n, other in enumerate(keys) if other == key] for key in keys])

    def together(self, batches: Iterable[Batch]) -> Iterator[list[Batch]]:
        """The batches in their order, those together that one call of the program predicts."""
        most = min(map(len, self.equals), default=1)
        for _, alike in itertools.groupby(batches, lambda batch: (batch["inputs"].shape, batch["choices"].shape)):
            while packed := list(itertools.islice(alike, most)):
                yield packed

    def packed(self, batches: Sequence[Batch]) -> Batch:
        """The batches of one call as one batch, in which equal members read rows of different ones."""
        if len(batches) == 1:
            return batches[0]
        taken = [batches[same.index(m) % len(batches)] for m, same in enumerate(self.equals)]
        fields = {name: np.stack([batch[name][m] for m, batch in enumerate(taken)]) for name in batches[0]}
        return cast(Batch, fields)

    def unpacked(self, values: np.ndarray, count: int) -> list[np.ndarray]:
        """The results of `count` batches, each with its leading axis M, from those of what they were packed into."""
        if count == 1:
            return [values]
        return [values[[same[number] for same in self.equals]] for number in range(count)]


NO_COPIES = Copies()
