"""What the devices exchange in a training step, read from the compiled program of eight simulated devices."""

from __future__ import annotations

import functools

import jax
import numpy as np
import tiny
from flax import nnx

from infoprompt_jax.capacity.collectives import Collective, collectives
from infoprompt_jax.fleet.fleet import member_keys
from infoprompt_jax.t5 import partition

MEMBERS, ROWS = 8, 8


@functools.cache
def exchanged(data: int, fsdp: int, model: int, over: str = "rows") -> tuple[list[Collective], int]:
    """The collectives of a step of 8 members, and the bytes of one member's trainable tree."""
    mesh = partition.make_mesh(data, fsdp, model)
    backbone = tiny.backbone(mesh)
    program = tiny.fleet(backbone, over=over, critic="bilinear")
    seeds = list(range(MEMBERS))
    state = tiny.start(program, backbone, seeds)
    hyper, keys = partition.place((tiny.hyper(*[{}] * MEMBERS), member_keys(seeds)), program.member_sharding)
    batch = program.place(tiny.batch(MEMBERS, rows=ROWS))
    text = program.step.lower(state, backbone.frozen, batch, hyper, keys).compile().as_text()
    return collectives(text, mesh), sum(leaf.nbytes for leaf in jax.tree.leaves(state.trainable))


def test_data_parallel_devices_exchange_gradients_and_nothing_larger() -> None:
    found, trainable = exchanged(8, 1, 1)
    assert {one.kind for one in found} == {"all-reduce"}
    assert max(one.bytes for one in found) <= trainable
    assert sum(one.bytes * one.times for one in found if one.backward) <= 1.1 * trainable
    assert not [one for one in found if "/while/" in one.op_name], "nothing layer by layer"


def test_devices_with_members_of_their_own_exchange_metrics_alone() -> None:
    found, _ = exchanged(8, 1, 1, over="members")
    assert not [one for one in found if one.backward]
    assert sum(one.bytes for one in found) <= 1024, found  # numbers [M], which the host reads


def test_tensor_parallel_layers_exchange_sums_alone() -> None:
    """As in Megatron: no activation is gathered."""
    found, _ = exchanged(1, 1, 8)
    inside = [one for one in found if "/while/" in one.op_name]
    assert inside
    assert {one.kind for one in inside} == {"all-reduce"}


def test_fsdp_layers_gather_weights_alone() -> None:
    found, _ = exchanged(1, 8, 1)
    inside = [one for one in found if "/while/" in one.op_name]
    assert {one.kind for one in inside} == {"all-gather"}
    sizes = {64 * 64 * 4, 64 * 128 * 4}  # one layer's kernels
    assert {one.bytes for one in inside} <= sizes


def test_a_generated_token_exchanges_a_number_of_each_device_and_no_logits() -> None:
    mesh = partition.make_mesh(2, 1, 4)  # the vocabulary is split over four
    backbone = tiny.backbone(mesh)
    best = jax.jit(lambda frozen, hidden_BD: nnx.merge(backbone.graph, frozen).best(hidden_BD))
    hidden_BD = partition.place(np.ones((ROWS, backbone.config.d_model), np.float32), partition.split(mesh))
    found = collectives(best.lower(backbone.frozen, hidden_BD).compile().as_text(), mesh)
    assert found and max(one.bytes for one in found) <= 4 * mesh.shape["model"] * ROWS
