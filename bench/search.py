"""Search for the 10 nearest of 300,000 keys for 32 queries: exact, approximate, and FAISS's flat index.

    python -m bench.search [--keys 300000] [--width 512] [--out DIRECTORY]

Recall is measured against float64. The ratio is the time divided by that of the exact search.

Keys are drawn around centres, a hundred around each, as the instances of a task are. On a CPU the approximate search is
exact (recall 1.0); it is meant for TPUs, where it has not been measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bench import command
from bench.turns import Subject, Work, compare

KEYS_OF_CENTRE = 100


@dataclasses.dataclass(frozen=True)
class Size:
    keys: int = 300_000
    width: int = 512
    queries: int = 32
    top: int = 10

    def blocks(self, count: int) -> Iterator[np.ndarray]:
        """The first `count` keys, centre by centre, so that not all have to be in memory."""
        for centre in range(-(-count // KEYS_OF_CENTRE)):
            random = np.random.default_rng(centre)
            drawn = random.standard_normal(self.width, np.float32)[None]
            noise = random.standard_normal((KEYS_OF_CENTRE, self.width), np.float32)
            yield (drawn + 0.5 * noise)[: count - centre * KEYS_OF_CENTRE]

    def made(self) -> np.ndarray:
        """All keys [keys, width]."""
        return np.concatenate(list(self.blocks(self.keys)))

    def query_rows(self) -> np.ndarray:
        """Queries [Q, width]: keys from all over the range, with noise."""
        random = np.random.default_rng(self.keys)
        chosen = np.linspace(0, self.keys - 1, self.queries).astype(int)
        noise = 0.5 * random.standard_normal((self.queries, self.width), np.float32)
        rows = (
            block[chosen[chosen // KEYS_OF_CENTRE == i] % KEYS_OF_CENTRE]
            for i, block in enumerate(self.blocks(self.keys))
        )
        return np.concatenate(list(rows)) + noise

    def nearest(self) -> np.ndarray:
        """The places of the nearest keys [Q, top], in float64."""
        queries = self.query_rows().astype(np.float64)
        scores = np.concatenate([queries @ block.T.astype(np.float64) for block in self.blocks(self.keys)], axis=1)
        return np.argsort(-scores, axis=1, kind="stable")[:, : self.top]


def ours(size: Size, approximate: bool) -> Work:
    import jax

    from infoprompt_jax.rospr.search import Index
    from infoprompt_jax.t5 import partition

    keys = size.made()
    index = Index(lambda rows: keys[rows], size.keys, size.width, partition.make_mesh())
    return _work(size, lambda queries: index.search(queries, size.top, approximate)[1], jax.devices()[0].device_kind)


def faiss_flat(size: Size) -> Work:
    import faiss

    index = faiss.IndexFlatIP(size.width)
    for block in size.blocks(size.keys):
        index.add(block)
    return _work(size, lambda queries: index.search(queries, size.top)[1], "cpu")


def _work(size: Size, search: Callable[[np.ndarray], np.ndarray], device: str) -> Work:
    queries = size.query_rows()

    def finish() -> dict[str, Any]:
        places, expected = search(queries), size.nearest()
        shared = [len({*a} & {*b}) for a, b in zip(places.tolist(), expected.tolist(), strict=True)]
        return {"recall": sum(shared) / expected.size, "same_places": float((places == expected).mean())}

    flops = 2.0 * size.queries * size.keys * size.width
    facts = {"examples": size.queries, "model_flops": flops, "device": device}
    return Work(lambda: search(queries), facts, finish)


def subjects(size: Size) -> list[Subject]:
    return [
        Subject("exact", "bench.search:ours", {"size": size, "approximate": False}),
        Subject("approximate", "bench.search:ours", {"size": size, "approximate": True}),
        Subject("FAISS flat", "bench.search:faiss_flat", {"size": size}),
    ]


def main(arguments: list[str] | None = None) -> None:
    options = command.parser("Nearest keys: exact, approximate and FAISS.")
    for field in dataclasses.fields(Size):
        options.add_argument(f"--{field.name}", type=int, default=field.default)
    given = options.parse_args(arguments)
    size = Size(**{field.name: getattr(given, field.name) for field in dataclasses.fields(Size)})
    records = compare(subjects(size), given.rounds, given.steps)
    name = f"search-{size.keys}x{size.width}"
    command.finish(given.out, name, records, size=dataclasses.asdict(size), rounds=given.rounds, steps=given.steps)


if __name__ == "__main__":
    main()
