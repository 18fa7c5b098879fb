"""What every test session shares: strict shapes, no network, invented rows, and the optional folder of real data."""

from __future__ import annotations

import gc
import os
import pathlib
from collections.abc import Iterator
from importlib.metadata import version

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Eight devices to test sharding on. Tests compile much and run little: code is compiled fast, not to run fast.
FLAGS = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
FLAGS += " --xla_llvm_disable_expensive_passes=true"
if [int(part) for part in version("jaxlib").split(".")[:2]] < [0, 11]:  # later ones end at a flag they do not know
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", FLAGS + " --xla_cpu_parallel_codegen_split_count=1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch's threads wait for each other, on matrices this small
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")  # but in tests that ask for `programs`
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from infoprompt_jax.devices import order_collectives

order_collectives()

import invented_rows
import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
# Tracing makes many objects: by default Python walks over all that JAX and the tests hold, again and again.
gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """Real data and files made by other projects; not part of this repository."""
    path = pathlib.Path(__file__).resolve().parents[2] / "shared"
    if not (path / "data").is_dir():
        pytest.skip("the folder of real data (../shared) is not here")
    return path


@pytest.fixture(scope="session")
def shared_data(shared: pathlib.Path) -> pathlib.Path:
    return shared / "data"


@pytest.fixture(scope="session")
def t5_vocabulary(shared: pathlib.Path) -> pathlib.Path:
    """The SentencePiece model of Google's T5s."""
    return shared / "fixtures" / "t5_vocabulary" / "spiece.model"


@pytest.fixture(scope="session")
def invented(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder of rows for every data set that has shipped templates."""
    return invented_rows.write(tmp_path_factory.mktemp("invented"))


@pytest.fixture(params=["invented", "real"])
def data_dir(request: pytest.FixtureRequest) -> pathlib.Path:
    """A folder of rows: the invented ones, and the real ones where they are."""
    return request.getfixturevalue("invented" if request.param == "invented" else "shared_data")


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A small SentencePiece model of T5's kind, trained on the invented rows."""
    return invented_rows.write_vocabulary(tmp_path_factory.mktemp("vocabulary"))


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Keeps compiled programs, so that a second run of the same shapes does not compile; as environment variables."""
    from jax.experimental.compilation_cache import compilation_cache

    kept = {
        "jax_enable_compilation_cache": True,
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("programs")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in kept}
    for name, value in kept.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield {name.upper(): str(value) for name, value in kept.items()}
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


MAPS = pathlib.Path("/proc/self/maps")
MOST_MAPS = 30_000  # Linux ends a process that has 65,530; each compiled program has some


@pytest.fixture(autouse=True, scope="module")
def few_programs() -> Iterator[None]:
    """Frees compiled programs after a module when there are many, so that one process can run all tests."""
    yield
    if MAPS.exists() and len(MAPS.read_bytes().splitlines()) > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


# Modules that take most of a minute and more on a slow core: the fast tests have to end in a quarter of an hour there.
SLOW = (
    "bench/test_bench.py",
    "bench/test_device.py",
    "serving/test_texts.py",
    "training/test_outcomes.py",
)


def pytest_collection_finish() -> None:
    gc.freeze()  # modules stay; the collector need not look at them


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.as_posix().endswith(SLOW):
            item.add_marker(pytest.mark.slow)
