"""Exact search for the most similar of many keys: a matrix product and a top-k, block by block and device by device.

The keys are split over the mesh as the rows of a batch are. Each device goes through its share in blocks and keeps the
best scores so far, so that the scores of all queries with all keys never exist at once. The devices' best are then
merged. Equal scores are ordered by key number, the lower first, independent of blocks and devices.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from infoprompt_jax.t5 import partition

QUERY_BLOCK, KEY_BLOCK = 256, 16384  # scores that exist at once on a device


def comparable(rows: np.ndarray, similarity: str) -> np.ndarray:
    """Rows [..., R] whose inner product is the similarity, `inner_product` or `cosine`; zero vectors stay zero."""
    if similarity == "inner_product":
        return rows
    norms = np.linalg.norm(rows.astype(np.float64), axis=-1, keepdims=True)
    return (rows / np.where(norms == 0, 1, norms)).astype(np.float32)


class Index:
    """Keys [K, R] on the devices of a mesh; similarity is the inner product."""

    def __init__(self, take: Callable[[np.ndarray], np.ndarray], count: int, width: int, mesh: Mesh) -> None:
        """`take` returns the float32 keys with some numbers below `count` (K); each device's share is read once."""
        shards = partition.row_devices(mesh)
        share = -(-count // shards)
        blocks = -(-share // KEY_BLOCK)
        self.count, self.mesh = count, mesh
        self.block = -(-share // blocks)  # equal blocks, so that little padding is needed
        rows = shards * blocks * self.block

        def padded(index: Any) -> np.ndarray:
            start, stop, _ = index[0].indices(rows)
            filled = np.zeros((stop - start, width), np.float32)
            wanted = np.arange(start, max(start, min(stop, count)))
            filled[: len(wanted)] = take(wanted)
            return filled

        self.keys_KR = jax.make_array_from_callback((rows, width), partition.split(mesh), padded)

    def search(self, queries_QR: np.ndarray, top: int, approximate: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Scores, float32, and key numbers, int32, [Q, top], best first; `top` is at most K.

        `approximate` uses `jax.lax.approx_max_k` within each block.
        """
        parts = [
            partition.on_host(
                _search(self.keys_KR, rows, self.count, self.mesh, self.block, top, approximate), self.mesh
            )
            for rows in _query_blocks(queries_QR)
        ]
        scores_QN, numbers_QN = (np.concatenate(part)[: len(queries_QR)] for part in zip(*parts, strict=True))
        return scores_QN, numbers_QN


def _query_blocks(queries_QR: np.ndarray) -> Iterator[np.ndarray]:
    """Blocks of one size; the last of several is padded with zeros."""
    size = min(len(queries_QR), QUERY_BLOCK)
    for start in range(0, len(queries_QR), size):
        block = queries_QR[start : start + size]
        yield np.pad(block, ((0, size - len(block)), (0, 0)))


@functools.partial(jax.jit, static_argnums=(3, 4, 5, 6))
def _search(
    keys_KR: jax.Array, queries_QR: jax.Array, count: int, mesh: Mesh, block: int, top: int, approximate: bool
) -> tuple[jax.Array, jax.Array]:
    """Scores and numbers [Q, top] of the first `count` keys; the others are padding."""

    def share(keys_KR: jax.Array, queries_QR: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
        first = jax.lax.axis_index(partition.ROWS) * len(keys_KR)

        def step(best: tuple[jax.Array, jax.Array], start: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
            block_KR = jax.lax.dynamic_slice_in_dim(keys_KR, start, block)
            scores_QK = jnp.einsum("QR,KR->QK", queries_QR, block_KR, precision=jax.lax.Precision.HIGHEST)
            numbers_K = first + start + jnp.arange(block)
            scores_QK = jnp.where((numbers_K < count)[None], scores_QK, -jnp.inf)
            nearest = jax.lax.approx_max_k if approximate else jax.lax.top_k
            scores_QN, places_QN = nearest(scores_QK, min(top, block))  # before merging, which copies whole rows
            numbers_QN = numbers_K[places_QN]
            return _best(jnp.append(best[0], scores_QN, axis=1), jnp.append(best[1], numbers_QN, axis=1), top), None

        shape = len(queries_QR), top
        nothing = jnp.full(shape, -jnp.inf), jnp.full(shape, count)
        return jax.lax.scan(step, nothing, jnp.arange(0, len(keys_KR), block))[0]

    specs = P(partition.ROWS), P(), P()
    sharded = jax.shard_map(share, mesh=mesh, in_specs=specs, out_specs=P(None, partition.ROWS), check_vma=False)
    return _best(*sharded(keys_KR, queries_QR, jnp.asarray(count, jnp.int32)), top)


def _best(scores_QK: jax.Array, numbers_QK: jax.Array, top: int) -> tuple[jax.Array, jax.Array]:
    """The `top` best; equal scores in the order of K, which is the order of key numbers."""
    best_QN, places_QN = jax.lax.top_k(scores_QK, top)
    return best_QN, jnp.take_along_axis(numbers_QK, places_QN, axis=1)
