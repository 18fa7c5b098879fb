"""Which rows make up a batch, as a pure function of the step number, and the batches themselves.

A run needs only its step number to resume: no iterator has a state to save. Rows of similar length share a batch.
Inputs are padded to one of a few bucket lengths, which bounds the number of compiled programs. Targets and choices
have one length for a whole run's training, and one of a few in evaluation, where choices may be sentences. Members and
hosts compute the shapes of a step without communication.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TypeVar, cast

import numpy as np

from infoprompt_jax.batch import Batch, EvalBatch
from infoprompt_jax.data.rows import Rows
from infoprompt_jax.errors import UserError

Fields = dict[str, np.ndarray]  # of a batch, by name
Item = TypeVar("Item")
WINDOW = 16  # batches whose rows are sorted by length together, at most
RESOLUTION = 1024  # draws per task in one cycle of a mixture
SHOTS, CYCLE, EPOCH, ORDER = range(4)  # what a random number is for


def generator(purpose: int, seed: int, *numbers: int) -> np.random.Generator:
    """The random generator of one purpose (SHOTS, CYCLE, ...), seed and, for example, step or epoch."""
    return np.random.default_rng([purpose, seed % 2**32, *numbers])


def subset(n_rows: int, shots: int, seed: int, labels: np.ndarray) -> np.ndarray:
    """Sorted numbers of `shots` rows (all rows if there are fewer), balanced over the labels as far as possible."""
    order = generator(SHOTS, seed).permutation(n_rows)
    rank = np.empty(n_rows, np.int64)  # rows of the same label that come before, in this order
    for label in np.unique(labels):
        same = labels[order] == label
        rank[same] = np.arange(same.sum())
    return np.sort(order[np.argsort(rank, kind="stable")[:shots]])


class Pool:
    """One member's tasks as one list of rows: row r of task t has the number offsets[t] + r."""

    def __init__(self, rows: Sequence[Rows]) -> None:
        self.rows = tuple(rows)
        self.offsets = np.cumsum([0, *map(len, self.rows)])
        self.input_lengths = np.concatenate([part.input_lengths for part in self.rows])

    @functools.cached_property
    def answer_lengths(self) -> np.ndarray:
        """Tokens of each row's longest target or choice."""
        return np.concatenate([part.answer_lengths for part in self.rows])

    def split(self, number_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Task [B] and row in that task [B]."""
        task_B = np.searchsorted(self.offsets, number_B, side="right") - 1
        return task_B, number_B - self.offsets[task_B]

    def places(self, number_B: np.ndarray) -> Fields:
        """`split` as fields of a batch."""
        task_B, row_B = self.split(number_B)
        return {"task": task_B.astype(np.int32), "row": row_B.astype(np.int32)}

    def gather(self, number_B: np.ndarray, length: int, target_length: int, choices: int) -> Fields:
        """The fields of a batch with the rows `number_B`: `Rows.gather` of each task, put together in this order."""
        task_B, row_B = self.split(number_B)
        batch: Fields = {}
        for task in np.unique(task_B):
            of_task = task_B == task
            gathered = self.rows[task].gather(row_B[of_task], length, target_length, choices)
            for name, values in gathered.items():
                batch.setdefault(name, np.empty((len(number_B), *values.shape[1:]), values.dtype))[of_task] = values
        return batch


class Stream:
    """The training batches of one member: step number -> rows, the same in every process and after every restart.

    Each epoch of a task holds each row once, in a new order. Tasks are mixed by `rates` in a cycle that spreads them
    evenly. Windows of 16 batches are then sorted by length and cut into batches. With few rows a window is shorter,
    half an epoch or one batch: sorting several epochs together would fill a batch with copies of a few rows, and
    sorting whole ones would make the same batches in each. The order of batches in a window is random but the same for
    all members with windows of that length, so that their short batches fall on the same steps.

    Args:
      rows: one per task.
      rates: of the tasks, in any unit; one of rate 0 is never drawn.
      subsets: row numbers to train on, per task; None = all.
    """

    def __init__(
        self,
        rows: Sequence[Rows],
        rates: Sequence[float],
        seed: int,
        batch_size: int,
        subsets: Sequence[np.ndarray] | None = None,
    ) -> None:
        self.pool, self.rows = Pool(rows), tuple(rows)
        self.seed, self.batch_size = seed, batch_size
        subsets = [np.arange(len(part)) for part in rows] if subsets is None else subsets
        self.numbers = [offset + part for offset, part in zip(self.pool.offsets[:-1], subsets, strict=True)]
        self.window_batches = min(max(sum(map(len, self.numbers)) // (2 * batch_size), 1), WINDOW)
        self.cycle_task, self.cycle_draw, self.cycle_counts = mixture_cycle(rates, seed)
        self.epoch = functools.lru_cache(maxsize=2 * len(self.rows))(self._epoch)
        self.window = functools.lru_cache(maxsize=4)(self._window)

    def indices(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Task [B] and row in that task [B] of the batch of `step`."""
        return self.pool.split(self.numbers_of(step))

    def numbers_of(self, step: int) -> np.ndarray:
        """Row numbers [B] in the member's pool of the batch of `step`."""
        window, place = divmod(step, self.window_batches)
        return self.window(window)[place]

    def _window(self, window: int) -> np.ndarray:
        size = self.window_batches * self.batch_size
        numbers = self.drawn(np.arange(window * size, (window + 1) * size))
        by_length = numbers[np.argsort(self.pool.input_lengths[numbers], kind="stable")]
        return generator(ORDER, 0, window).permutation(by_length.reshape(-1, self.batch_size))

    def drawn(self, positions: np.ndarray) -> np.ndarray:
        """The row numbers at `positions` of the endless shuffled mixture."""
        cycle, place = np.divmod(positions, len(self.cycle_task))
        tasks = self.cycle_task[place]
        draws = cycle * self.cycle_counts[tasks] + self.cycle_draw[place]
        numbers = np.empty_like(positions)
        for task in np.unique(tasks):
            epochs, items = np.divmod(draws, len(self.numbers[task]))
            for epoch in np.unique(epochs[tasks == task]):
                chosen = (tasks == task) & (epochs == epoch)
                numbers[chosen] = self.epoch(int(task), int(epoch))[items[chosen]]
        return numbers

    def _epoch(self, task: int, epoch: int) -> np.ndarray:
        return generator(EPOCH, self.seed, task, epoch).permutation(self.numbers[task])


def mixture_cycle(rates: Sequence[float], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A repeating cycle of Z draws: each one's task [Z] and number in that task [Z]; draws per task [tasks].

    Raises:
      UserError: no rate is above 0.
    """
    if not np.sum(rates) > 0:
        raise UserError(
            f"All {len(rates)} rates of the mixture are 0: give one of its tasks or data sets a rate above 0."
        )
    shares = np.asarray(rates, np.float64) / np.sum(rates)
    counts = np.where(shares > 0, np.maximum(1, np.rint(shares * RESOLUTION * len(shares))), 0).astype(np.int64)
    tasks = np.repeat(np.arange(len(counts)), counts)
    draws = np.concatenate([np.arange(count) for count in counts])
    starts = generator(CYCLE, seed).random(len(counts))
    order = np.argsort((draws + starts[tasks]) / counts[tasks], kind="stable")
    return tasks[order], draws[order], counts


def mixing_rates(rows: Sequence[int], temperature: float = 1.0, cap: int = 0) -> list[float]:
    """How often each task of a mixture is drawn, relative to the others: min(rows, cap) ** (1 / temperature).

    The same as `seqio.mixing_rate_num_examples`; `rows` counts the tasks' training rows, cap 0 is no cap.

    Raises:
      UserError: the temperature is not positive.
    """
    if temperature <= 0:
        raise UserError(f"task.temperature is {temperature}, but must be above 0.")
    return [float(min(count, cap or count)) ** (1.0 / temperature) for count in rows]


@dataclasses.dataclass(frozen=True)
class Shapes:
    """What all batches of a run share: the possible input lengths, T and C."""

    buckets: tuple[int, ...]
    target_length: int
    choices: int

    @classmethod
    def of(cls, rows: Iterable[Rows], buckets: Sequence[int], max_input_length: int) -> Shapes:
        """The shapes that hold all of these rows.

        T is the longest target or choice, rounded up to 2, 4 or a multiple of 8. C is at least 1, also for free text.
        """
        rows = list(rows)
        longest = max(part.max_target_length for part in rows)
        target_length = next((length for length in (2, 4) if longest <= length), -(-longest // 8) * 8)
        choices = max(1, *(part.max_choices for part in rows))  # free text has one choice, all PAD
        return cls(complete(buckets, max_input_length), target_length, choices)

    def answer_buckets(self) -> tuple[int, ...]:
        """The lengths of targets and choices in evaluation: 4, 8, 16, 24, 32, 48, ... below T, and T."""
        steps = (4, 8, *(size * 2**power for power in range(self.target_length.bit_length()) for size in (16, 24)))
        return (*(length for length in steps if length < self.target_length), self.target_length)


def complete(buckets: Sequence[int], max_input_length: int) -> tuple[int, ...]:
    """The bucket lengths in order; one is added if none holds the longest input."""
    return tuple(sorted({*buckets} if max(buckets, default=0) >= max_input_length else {*buckets, max_input_length}))


def bucket_lengths(lengths: np.ndarray, buckets: Sequence[int]) -> np.ndarray:
    """The smallest bucket that holds each length."""
    ordered = np.sort(np.asarray(buckets))
    return ordered[np.searchsorted(ordered, lengths)]


def train_batches(
    streams: Sequence[Stream],
    start: int,
    stop: int,
    buckets: Sequence[int],
    max_input_length: int,
    threads: int,
    members: np.ndarray | None = None,
    places: np.ndarray | None = None,
) -> Iterator[Batch[np.ndarray]]:
    """The batches of steps `start` ... `stop` - 1, one stream per member, prefetched by `threads` threads.

    Yields inputs [M, B, L], targets [M, B, T], choices [M, B, C, T], label, row [M, B] int32 and weight [M, B] float32;
    `row` is the number in the member's pool. With several processes, each reads its share: `members` are the numbers of
    its streams, `places` [B] those of its rows in a batch; None = all. A stream that several members share is gathered
    once.
    """
    shapes = Shapes.of((part for stream in streams for part in stream.rows), buckets, max_input_length)
    unique, member = distinct(streams, map(id, streams))
    member = member if members is None else [member[m] for m in members]

    def batch(step: int) -> Batch[np.ndarray]:
        numbers = [stream.numbers_of(step) for stream in unique]
        fields = [{"row": n.astype(np.int32), "weight": np.ones(len(n), np.float32)} for n in numbers]
        made = stacked([stream.pool for stream in unique], numbers, fields, member, shapes, places)
        return cast(Batch[np.ndarray], made)

    return prefetched(batch, start, stop, threads)


def eval_batches(
    members: Sequence[Sequence[Rows]],
    batch_size: int,
    buckets: Sequence[int],
    max_input_length: int,
    limit: int = 0,
) -> Iterator[EvalBatch[np.ndarray]]:
    """Every row of every member's tasks once (the first `limit` of each task, if positive), in order of their buckets.

    Yields what `train_batches` does, but `task` [M, B] is the number of the task among the member's and `row` [M, B]
    the row in that task; T is of the batch. The last batch is filled up with the member's first row, whose answers may
    be cut, at weight 0.
    """
    shapes = Shapes.of((part for rows in members for part in rows), buckets, max_input_length)
    unique, member = distinct(members, (tuple(map(id, rows)) for rows in members))
    pools = [Pool(rows) for rows in unique]
    orders = [by_length(pool, shapes, limit) for pool in pools]
    for start in range(0, max(map(len, orders)), batch_size):
        places = np.arange(start, start + batch_size)
        numbers = [order[np.where(places < len(order), places, 0)] for order in orders]
        fields = [
            pool.places(number_B) | {"weight": (places < len(order)).astype(np.float32)}
            for pool, number_B, order in zip(pools, numbers, orders, strict=True)
        ]
        counted = [number_B[places < len(order)] for number_B, order in zip(numbers, orders, strict=True)]
        longest = max(pool.answer_lengths[few].max(initial=0) for pool, few in zip(pools, counted, strict=True))
        cut = dataclasses.replace(shapes, target_length=int(bucket_lengths(longest, shapes.answer_buckets())))
        yield cast(EvalBatch[np.ndarray], stacked(pools, numbers, fields, member, cut))


def by_length(pool: Pool, shapes: Shapes, limit: int) -> np.ndarray:
    """The numbers of the rows to evaluate, sorted by the input's bucket, then the answers', then the input's length."""
    numbers = np.arange(pool.offsets[-1])
    if limit > 0:
        numbers = numbers[pool.split(numbers)[1] < limit]
    inputs, answers = pool.input_lengths[numbers], bucket_lengths(pool.answer_lengths[numbers], shapes.answer_buckets())
    return numbers[np.lexsort((inputs, answers, bucket_lengths(inputs, shapes.buckets)))]


def stacked(
    pools: Sequence[Pool],
    numbers: Sequence[np.ndarray],
    fields: Sequence[Fields],
    member: Sequence[int],
    shapes: Shapes,
    places: np.ndarray | None = None,
) -> Fields:
    """One batch [M, B, ...]: member m reads rows `numbers` [B] of pool `member[m]`, and that pool's `fields` [B].

    `places`: those of the B rows that are read; None = all.
    """
    longest = max(pool.input_lengths[number_B].max() for pool, number_B in zip(pools, numbers, strict=True))
    length = int(bucket_lengths(longest, shapes.buckets))  # of the whole batch, so that all hosts agree
    read = slice(None) if places is None else places
    parts = {
        index: pools[index].gather(numbers[index][read], length, shapes.target_length, shapes.choices)
        | {name: values[read] for name, values in fields[index].items()}
        for index in set(member)
    }
    if len(parts) == 1:  # views: evaluation may hold a batch for each member at a time
        (part,) = parts.values()
        return {name: np.broadcast_to(values, (len(member), *values.shape)) for name, values in part.items()}
    return {name: np.stack([parts[index][name] for index in member]) for name in parts[member[0]]}


def distinct(items: Sequence[Item], keys: Iterable[Hashable]) -> tuple[list[Item], list[int]]:
    """The first item of every key, and the place of each item's key among them."""
    places: dict[Hashable, int] = {}
    index = [places.setdefault(key, len(places)) for key in keys]
    return [items[index.index(place)] for place in places.values()], index


def prefetched(batch: Callable[[int], Item], start: int, stop: int, threads: int) -> Iterator[Item]:
    """`batch(start)` ... `batch(stop - 1)` in order, computed ahead in threads."""
    import grain

    if start >= stop:
        return iter(())
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    return iter(grain.MapDataset.range(start, stop).map(batch).to_iter_dataset(options))
