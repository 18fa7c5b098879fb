"""A T5X checkpoint of a T5 v1.1 with a few weights."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
from flax import serialization


def write(path: pathlib.Path, vocabulary: int = 64) -> None:
    """A T5 v1.1 in T5X's layout: matrices as zarr arrays in chunks of at most 8 x 8, vectors in the msgpack file."""
    import tensorstore

    path.mkdir(parents=True)
    random = np.random.default_rng(0)

    def vector() -> dict[str, Any]:
        return {"scale": random.uniform(0.5, 1.5, 4).astype(np.float32)}

    def matrix(name: str, *shape: int) -> dict[str, Any]:
        chunks = [min(size, 8) for size in shape]
        metadata = {"shape": list(shape), "chunks": chunks, "dtype": "<f4", "compressor": {"id": "gzip", "level": 1}}
        file = {"driver": "file", "path": str(path / f"target.{name}")}
        spec = {"driver": "zarr", "metadata": metadata}
        stored = tensorstore.open({**spec, "kvstore": file}, create=True).result()
        stored.write(random.standard_normal(shape).astype(np.float32)).result()
        return {**spec, "kvstore": {"driver": "gfile", "path": f"target.{name}"}}

    def kernels(name: str, **shapes: tuple[int, int]) -> dict[str, Any]:
        return {kernel: {"kernel": matrix(f"{name}.{kernel}.kernel", *shape)} for kernel, shape in shapes.items()}

    def layer(name: str, attentions: dict[str, str]) -> dict[str, Any]:
        square = dict.fromkeys(("query", "key", "value", "out"), (4, 4))
        made: dict[str, Any] = {block: kernels(f"{name}.{block}", **square) for block in attentions}
        made |= {f"pre_{norm}_layer_norm": vector() for norm in (*attentions.values(), "mlp")}
        return made | {"mlp": kernels(f"{name}.mlp", wi_0=(4, 8), wi_1=(4, 8), wo=(8, 4))}

    attentions = {
        "encoder": {"attention": "attention"},
        "decoder": {"self_attention": "self_attention", "encoder_decoder_attention": "cross_attention"},
    }
    target: dict[str, Any] = {"token_embedder": {"embedding": matrix("token_embedder.embedding", vocabulary, 4)}}
    for stack, blocks in attentions.items():
        target[stack] = {f"layers_{i}": layer(f"{stack}.layers_{i}", blocks) for i in range(2)}
        target[stack][f"{stack}_norm"] = vector()
        bias = f"{stack}.relpos_bias.rel_embedding"
        target[stack]["relpos_bias"] = {"rel_embedding": matrix(bias, 2, 4)}
    target["decoder"] |= kernels("decoder", logits_dense=(4, vocabulary))
    (path / "checkpoint").write_bytes(serialization.msgpack_serialize({"optimizer": {"target": target}}))
