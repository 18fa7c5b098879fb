"""Memory is reported before it is taken."""

from __future__ import annotations

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infoprompt_jax import memory
from infoprompt_jax.errors import UserError
from infoprompt_jax.training.speed import Compilations

REMEDY = "lower train.batch_size"


def products() -> jax.stages.Wrapped:
    """A program that makes all products of two vectors."""
    return jax.jit(lambda a, b: jnp.sort(a[:, None] * b[None], axis=1)[:, 0])


def shapes(size: int) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    shape = jax.ShapeDtypeStruct((size,), np.float32)
    return shape, shape


def test_what_no_memory_holds_is_refused_before_it_is_taken() -> None:
    huge = products().lower(*shapes(10**7)).compile()  # 400 TB
    with pytest.raises(UserError, match=r"^The step needs \d+\.\d GB of memory, but there are .* GB: lower train"):
        memory.check(huge, "The step", REMEDY)


def test_what_is_not_free_is_reported_and_what_is_little_is_not(caplog: pytest.LogCaptureFixture) -> None:
    device = jax.local_devices()[0]
    most, available = memory.total(device, swap=True), memory.free(device)
    assert most and available and 0 < available <= most
    caplog.set_level(logging.INFO, memory.log.name)
    memory.check(products().lower(*shapes(100)).compile(), "A small step", REMEDY)
    assert not caplog.records
    memory.check(products().lower(*shapes(2**15)).compile(), "A large step", REMEDY)
    assert caplog.records[-1].message.startswith("A large step needs ")


def test_more_than_is_free_is_a_warning_with_a_remedy(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free", lambda _: 1000)
    memory.check(products().lower(*shapes(100)).compile(), "The step", REMEDY)
    assert caplog.records[-1].levelname == "WARNING" and caplog.records[-1].message.endswith(f"{REMEDY}.")


def test_the_check_compiles_nothing_twice() -> None:
    program, values = products(), jnp.arange(30.0)
    with Compilations() as compilations:
        first = memory.run(program, (values, values), 30, "The step", REMEDY)
        again = memory.run(program, (values, values), 30, "The step", REMEDY)
    assert compilations.count == 1 and np.array_equal(first, again)


def test_inside_another_program_there_is_no_check() -> None:
    program = products()
    outer = jax.jit(lambda a: memory.run(program, (a, a), None, "The step", REMEDY).sum())
    assert float(outer(jnp.ones(3))) == 3
