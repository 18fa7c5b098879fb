"""Search for the 10 nearest of 300,000 keys for 32 queries: ours, exact and approximate, beside FAISS's flat index.

`python -m bench.search [--keys 300000] [--width 512] [--out DIRECTORY]`; recall is against float64, and the ratio of
FAISS is how much longer it takes than our exact search.

Keys lie about centres, a hundred to each, as instances lie about their task. The approximate mode's measured recall is
1.0 on a CPU, where XLA leaves nothing out; on a TPU, which it is made for, it has not been measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from bench import command
from bench.turns import Subject, Work, compare

OWN_KEYS = 100  # of a centre, all of which are drawn at once


@dataclasses.dataclass(frozen=True)
class Size:
    keys: int = 300_000
    width: int = 512
    queries: int = 32
    top: int = 10

    def blocks(self, count: int) -> Iterator[np.ndarray]:
        """The first `count` keys, centre by centre: never all in memory unless the caller keeps them."""
        for centre in range(-(-count // OWN_KEYS)):
            random = np.random.default_rng(centre)
            drawn = random.standard_normal(self.width, np.float32)[None]
            noise = random.standard_normal((OWN_KEYS, self.width), np.float32)
            yield (drawn + 0.5 * noise)[: count - centre * OWN_KEYS]

    def made(self) -> np.ndarray:
        return np.concatenate(list(self.blocks(self.keys)))

    def query_rows(self) -> np.ndarray:
        """Keys spread over the whole, a little disturbed."""
        random = np.random.default_rng(self.keys)
        chosen = np.linspace(0, self.keys - 1, self.queries).astype(int)
        noise = 0.5 * random.standard_normal((self.queries, self.width), np.float32)
        found = [block[chosen[chosen // OWN_KEYS == i] % OWN_KEYS] for i, block in enumerate(self.blocks(self.keys))]
        return np.concatenate(found) + noise

    def nearest(self) -> np.ndarray:
        """The right answers [Q, top], by float64."""
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
        found, expected = search(queries), size.nearest()
        shared = [len({*a} & {*b}) for a, b in zip(found.tolist(), expected.tolist(), strict=True)]
        return {"recall": sum(shared) / expected.size, "same_places": float((found == expected).mean())}

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
    options = command.parser("Nearest keys, ours and FAISS's, in turn.")
    for field in dataclasses.fields(Size):
        options.add_argument(f"--{field.name}", type=int, default=field.default)
    given = options.parse_args(arguments)
    size = Size(**{field.name: getattr(given, field.name) for field in dataclasses.fields(Size)})
    records = compare(subjects(size), given.rounds, given.steps)
    name = f"search-{size.keys}x{size.width}"
    command.finish(given.out, name, records, size=dataclasses.asdict(size), rounds=given.rounds, steps=given.steps)


if __name__ == "__main__":
    main()
