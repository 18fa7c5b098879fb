"""Collectives are read from compiled programs: of the CPU, and of a TPU's text."""

from __future__ import annotations

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from infoprompt_jax.capacity import hlo
from infoprompt_jax.capacity.collectives import Collective, collectives, largest, summary

LAYERS = 5
# Forms that only a TPU's compiler writes: a loop that turns by two and whose length is not stated, a reduce-scatter as
# a fusion, an all-gather as a chain of fusions, and three ways of writing groups.
TPU = (pathlib.Path(__file__).parent / "tpu_program.txt").read_text()


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    if jax.device_count() < 8:
        pytest.skip("needs 8 devices")
    return jax.make_mesh((2, 2, 2), ("data", "fsdp", "model"), axis_types=(AxisType.Auto,) * 3)


def test_a_scanned_layer_exchanges_once_a_layer(mesh: Mesh) -> None:
    """Rows of x over data, columns of w over fsdp and gathered for the product, its result summed over model."""

    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        def layer(x: jax.Array, w: jax.Array) -> tuple[jax.Array, None]:
            whole = jax.lax.with_sharding_constraint(w, NamedSharding(mesh, P("model", None)))
            return jax.lax.with_sharding_constraint(x @ whole, NamedSharding(mesh, P("data", "model"))), None

        return jnp.sum(jax.lax.scan(layer, x, w)[0])

    w = jax.ShapeDtypeStruct((LAYERS, 16, 16), jnp.float32, sharding=NamedSharding(mesh, P(None, "model", "fsdp")))
    x = jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=NamedSharding(mesh, P("data", "model")))
    listed = collectives(jax.jit(loss).lower(w, x).compile().as_text(), mesh)
    gathers = [one for one in listed if one.kind == "all-gather" and one.axes == ("fsdp",)]
    assert sum(one.times for one in gathers) == LAYERS
    assert {(one.bytes, one.devices, one.sent) for one in gathers} == {(8 * 16 * 4, 2, 8 * 16 * 2)}
    assert all(one.counted and not one.backward for one in listed)
    reduced = [one for one in listed if one.kind == "all-reduce" and "data" in one.axes]
    assert [(one.bytes, one.times) for one in reduced] == [(4, 1)]  # the loss
    # The backward pass gathers again, and sums the weights' gradient over data.
    gradient = collectives(jax.jit(jax.grad(loss)).lower(w, x).compile().as_text(), mesh)
    summed = largest((one for one in gradient if "data" in one.axes), "all-reduce", "reduce-scatter")
    assert summed is not None and summed.backward and summed.times == LAYERS


def test_the_forms_of_a_tpu_are_read(mesh: Mesh) -> None:
    listed = collectives(TPU, mesh)
    assert [(one.kind, one.shape, one.bytes, one.times, one.axes, one.sent) for one in listed] == [
        ("reduce-scatter", "bf16[4,16]", 128, 4, ("model",), 64),
        ("all-gather", "bf16[4,16]", 128, 4, ("fsdp",), 64),
        ("collective-permute", "bf16[4,8]", 64, 1, ("data",), 64),
        ("all-reduce", "f32[3] + pred[]", 13, 1, ("data", "fsdp"), 20),
        ("all-reduce", "f32[]", 4, 1, ("data", "fsdp", "model"), 7),
    ]
    assert [one.counted for one in listed] == [True, True, False, True, True]
    assert [one.backward for one in listed] == [True, False, False, False, False]
    assert {record["along"]: record["sent"] for record in summary(listed) if record["kind"] != "all-reduce"} == {
        "model": 256,
        "fsdp": 256,
        "data": 64,
    }


def test_the_largest_of_a_kind(mesh: Mesh) -> None:
    listed = collectives(TPU, mesh)
    whole, reduced = largest(listed), largest(listed, "all-reduce")
    assert isinstance(whole, Collective) and whole.bytes == 128
    assert reduced is not None and reduced.bytes == 13
    assert largest(listed, "all-to-all") is None


def test_a_type_has_its_bytes() -> None:
    assert (
        hlo.size("(bf16[2,3]{1,0:T(8,128)(2,1)}, /*index=1*/pred[5], s4[3], f8e4m3fn[7], u32[])") == 12 + 5 + 2 + 7 + 4
    )
    assert hlo.elements("(f32[2]{0:T(128)}, (s32[], u8[3]), token[])") == [
        "f32[2]{0:T(128)}",
        "(s32[], u8[3])",
        "token[]",
    ]
    assert np.prod([int(n) for n in hlo.shape("f32[4,5]{1,0}")[4:-1].split(",")]) == 20
