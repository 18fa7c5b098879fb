"""What every test session shares: strict shapes, no network, and the optional folder of real data."""

from __future__ import annotations

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Eight devices to test sharding on; tests compile much and run little, so that optimised code is not worth its wait.
FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ.setdefault("XLA_FLAGS", FLAGS + " --xla_llvm_disable_expensive_passes=true")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """Real data and files made by other projects; not part of this repository."""
    path = pathlib.Path(__file__).resolve().parents[2] / "shared"
    if not (path / "data").is_dir():
        pytest.skip("the folder of real data (../shared) is not here")
    return path


@pytest.fixture(scope="session")
def vocabulary(shared: pathlib.Path) -> pathlib.Path:
    """The T5 SentencePiece model."""
    return shared / "fixtures" / "t5_vocabulary" / "spiece.model"
