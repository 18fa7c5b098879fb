"""Un-prompted features: each example's representation without a prompt, which the representation loss compares with.

The frozen backbone is deterministic, so these features never change. They are computed once for each example; the
released code computes them in every step, which costs a second forward pass. Only rows that the run will visit are
computed, in batches of one length bucket. The workdir keeps them (`stored_rows`), so a resumed run reads the same bits.
"""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jax.experimental import multihost_utils

from infoprompt_jax import hosts
from infoprompt_jax.data.batches import Stream, bucket_lengths
from infoprompt_jax.fleet.fleet import Fleet
from infoprompt_jax.progress import watched
from infoprompt_jax.t5 import partition
from infoprompt_jax.t5.backbone import Backbone
from infoprompt_jax.training.stored_rows import StoredRows

Visited = dict[tuple[int, int], np.ndarray]  # numbers of rows, by the identities of a stream and of its `Rows`


class Features:
    """Float32 features of all rows that the members of a fleet train on."""

    def __init__(self, directory: pathlib.Path, streams: Sequence[Stream], width: int, source: str = "") -> None:
        """Opens the cache in `directory`; `width` is D, and `source` begins the files' names: the backbone's id.

        Of several processes the first one has the cache. Each of the others has a temporary copy.
        """
        if not hosts.first():
            self.scratch = tempfile.TemporaryDirectory()
            directory = pathlib.Path(self.scratch.name)
        self.streams = streams
        self.width = width
        distinct = {id(rows): rows for stream in streams for rows in stream.rows}
        self.values = {
            key: StoredRows(directory / f"{source}{rows.fingerprint}.npy", len(rows), width)
            for key, rows in distinct.items()
        }
        self.rows = distinct
        self._visited: Visited = {}  # what `fill` has filled
        self._deviations: dict[tuple[int, int], float] = {}

    def fill(
        self,
        fleet: Fleet,
        backbone: Backbone,
        steps: int,
        buckets: Sequence[int],
        batch_size: int,
        before_block: Callable[[], None] = lambda: None,
    ) -> None:
        """Computes the features that steps 0 to `steps` - 1 read, unless the cache holds them.

        Rows are computed in blocks that depend only on the config and not on what an earlier, killed run has finished,
        so the bits are the same either way. What `before_block` raises ends it; the blocks before are kept.
        """
        self._visited = self._visit(steps)
        blocks = list(self._blocks(buckets, batch_size))
        missing = set(hosts.decided(lambda: [n for n, (key, block, _) in enumerate(blocks) if self._lacks(key, block)]))
        wanted = [n for n in range(len(blocks)) if n in missing or hosts.count() > 1]
        for n in watched(wanted, "Features without a prompt, batches", len(wanted)):
            before_block()
            key, block, length = blocks[n]
            rows = np.resize(block, batch_size)
            if n in missing:
                inputs = partition.place(self.rows[key].inputs(rows, length), partition.split(backbone.mesh))
                values = np.asarray(fleet.features(backbone.frozen, inputs))
            else:  # the first process has them, as it computed them earlier
                values = multihost_utils.broadcast_one_to_all(np.asarray(self.values[key].values[rows]))
            self.values[key].write(block, values[: len(block)])
        for values in self.values.values():
            values.flush()

    def _lacks(self, key: int, block: np.ndarray) -> bool:
        return bool(self.values[key].lacks(block).any())

    def _blocks(self, buckets: Sequence[int], batch_size: int) -> Iterator[tuple[int, np.ndarray, int]]:
        """The blocks of all visited rows: the identity of their `Rows`, the rows' numbers and their bucket."""
        for key, rows in self.rows.items():
            wanted = np.unique(np.concatenate([numbers for (_, of), numbers in self._visited.items() if of == key]))
            lengths = bucket_lengths(rows.input_lengths[wanted], buckets)
            for length in np.unique(lengths):
                group = wanted[lengths == length]
                for start in range(0, len(group), batch_size):
                    yield key, group[start : start + batch_size], int(length)

    def _visit(self, steps: int) -> Visited:
        """The sorted numbers of the rows that each stream reads in so many steps."""
        visited: Visited = {}
        for stream in {id(stream): stream for stream in self.streams}.values():
            seen = {id(rows): np.zeros(len(rows), bool) for rows in stream.rows}
            for step in range(steps):
                task_B, row_B = stream.indices(step)
                for task in np.unique(task_B):
                    seen[id(stream.rows[task])][row_B[task_B == task]] = True
            visited |= {(id(stream), key): np.flatnonzero(mask) for key, mask in seen.items()}
        return visited

    def gather(self, row_MB: np.ndarray, members: np.ndarray | None = None) -> np.ndarray:
        """The features [M, B, D] of a training batch's `row` [M, B].

        `members`: the numbers of the streams that the batch is of; None = all.
        """
        gathered = np.empty((*row_MB.shape, self.width), np.float32)
        for place, (_, key), inner in self._of_rows(row_MB, members):
            gathered[place] = self.values[key].values[inner]
        return gathered

    def spread(self, row_MB: np.ndarray, members: np.ndarray | None = None) -> np.ndarray:
        """The deviation [M, B] of the features over the rows of each row's task that the row's member visits."""
        gathered = np.empty(row_MB.shape, np.float32)
        for place, keys, _ in self._of_rows(row_MB, members):
            if keys not in self._deviations:
                self._deviations[keys] = deviation(self.values[keys[1]].values[self._visited[keys]])
            gathered[place] = self._deviations[keys]
        return gathered

    def _of_rows(
        self, row_MB: np.ndarray, members: np.ndarray | None
    ) -> Iterator[tuple[tuple[int, np.ndarray], tuple[int, int], np.ndarray]]:
        """The places in a batch, the identities of the stream and the `Rows` that they are of, the rows' numbers."""
        streams = self.streams if members is None else [self.streams[m] for m in members]
        for m, (stream, row_B) in enumerate(zip(streams, row_MB, strict=True)):
            task_B, inner_B = stream.pool.split(row_B)
            for task in np.unique(task_B):
                here = task_B == task
                yield (m, here), (id(stream), id(stream.rows[task])), inner_B[here]


def deviation(features_ND: np.ndarray) -> float:
    """The deviation of features over rows, as the root mean square over D; 0 for less than two rows."""
    if len(features_ND) < 2:
        return 0.0
    return float(np.sqrt(np.mean(np.var(features_ND.astype(np.float64), axis=0))))
