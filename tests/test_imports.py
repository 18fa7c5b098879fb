"""The rooms of the package, the arrows between them, and what compiled modules may import; read with `ast`.

Every import counts: at the top of a file, inside a function, and under TYPE_CHECKING.
"""

from __future__ import annotations

import ast
import graphlib
import pathlib
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "infoprompt_jax"
# Single modules that every room may import.
BASE = set(
    """
    batch bucket checksums devices disk errors estimator_names fields files foreign hosts leftovers memory
    member_names metric_names network plain_text program_cache progress recipe_fields run_fields saved_config settings
    watch
    """.split()  # noqa: SIM905 (sets of one element a line conflict with every other change)
)
ENTRY = "main"  # the other single modules: what a command line or `import infoprompt_jax` needs
ARROWS = {
    "main": {
        "serving",
        "rospr",
        "pretraining",
        "training",
        "evaluation",
        "reports",
        "data",
        "prompts",
        "infoprompt",
        "t5",
    },
    "serving": {"rospr", "training", "evaluation", "fleet", "infoprompt", "data", "prompts", "t5", "reports"},
    "rospr": {"training", "evaluation", "fleet", "data", "prompts", "t5", "reports"},
    "capacity": {"training", "fleet", "infoprompt", "t5", "reports"},
    "pretraining": {"training", "evaluation", "fleet", "data", "nano", "t5", "reports"},
    "training": {"evaluation", "fleet", "infoprompt", "data", "prompts", "t5", "reports"},
    "evaluation": {"fleet", "infoprompt", "data", "prompts", "t5"},
    "fleet": {"infoprompt", "prompts", "t5"},
    "infoprompt": {"prompts", "t5"},
    "data": {"nano", "t5"},
    "prompts": {"t5"},
    "t5": set(),
    "reports": set(),
    "nano": set(),
}
COMPILED = {
    "t5.blocks",
    "t5.model",
    "t5.layers",
    "t5.config",
    "t5.fused",
    "t5.int8",
    "t5.scoring",
    "prompts.prompts",
    "fleet.fleet",
    "fleet.optimizers",
}
COMPILED_OUTSIDE = {"jax", "flax", "optax", "numpy"}
# Beside each other, compiled modules name the batch's type, read the sharding rules and raise errors.
COMPILED_INSIDE = {"batch", "errors", "estimator_names", "t5.partition"}
TENSORFLOW = {"tensorflow", "tensorflow_datasets", "seqio"}
TENSORFLOW_IN = {
    "data.seqio_adapter",
    "data.seqio_registry",
    "training.metrics_log",
}  # the latter writes TensorBoard's event files


def name(path: pathlib.Path, root: pathlib.Path) -> str:
    """`t5.model` for t5/model.py, `t5` for t5/__init__.py, "" for the package's own __init__.py."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def imports(path: pathlib.Path, package: str, modules: set[str]) -> tuple[set[str], set[str]]:
    """Modules of the package that a file imports, by name, and top-level modules from outside it."""
    inside, outside = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            dotted = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import in line {node.lineno}"
            dotted = {f"{node.module}.{alias.name}" for alias in node.names}
        else:
            continue
        for one in dotted:
            first, _, rest = one.partition(".")
            if first != package:
                outside.add(first)
                continue
            parent = rest.rpartition(".")[0]
            inside.add(rest if rest in modules else parent)
    return inside, outside - sys.stdlib_module_names


def graph(root: pathlib.Path) -> dict[str, tuple[set[str], set[str]]]:
    paths = {name(path, root): path for path in root.rglob("*.py")}
    return {one: imports(path, root.name, set(paths)) for one, path in paths.items()}


def room(module: str) -> str:
    first = module.partition(".")[0]
    return first if first in ARROWS.keys() - {ENTRY} or first in BASE else ENTRY


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """A circle among the arrows; [] where there is none."""
    try:
        graphlib.TopologicalSorter(arrows).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


@pytest.fixture(scope="module")
def package() -> dict[str, tuple[set[str], set[str]]]:
    return graph(PACKAGE)


def test_arrows_between_rooms_point_one_way(package: dict[str, tuple[set[str], set[str]]]) -> None:
    assert {room(module) for module in package} == ARROWS.keys() | BASE
    wrong = [
        f"{module} imports {other}"
        for module, (inside, _) in package.items()
        for other in inside
        if room(other) not in {room(module), *BASE, *ARROWS.get(room(module), ())}
    ]
    assert not wrong
    assert not circle(ARROWS)


def test_no_circle_among_modules(package: dict[str, tuple[set[str], set[str]]]) -> None:
    assert not circle({module: inside for module, (inside, _) in package.items()})


def test_of_the_backbone_data_reads_the_tokenizer_alone(package: dict[str, tuple[set[str], set[str]]]) -> None:
    used = {other for module, (inside, _) in package.items() if room(module) == "data" for other in inside}
    assert {other for other in used if room(other) == "t5"} == {"t5.tokenizer"}


def test_compiled_modules_import_jax_flax_optax_and_numpy_alone(
    package: dict[str, tuple[set[str], set[str]]],
) -> None:
    compiled = COMPILED | {module for module in package if module.startswith("infoprompt.")}
    assert compiled <= package.keys()
    for module in compiled:
        inside, outside = package[module]
        assert inside <= compiled | COMPILED_INSIDE, module
        assert outside <= COMPILED_OUTSIDE, module


def test_tensorflow_is_imported_in_two_places_for_data_and_one_for_events(
    package: dict[str, tuple[set[str], set[str]]],
) -> None:
    assert {module for module, (_, outside) in package.items() if outside & TENSORFLOW} == TENSORFLOW_IN


@pytest.mark.parametrize(
    "hidden",
    [
        "from demo import b",
        "def late():\n    from demo.b import B",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import demo.b",
    ],
)
def test_a_hidden_circle_is_seen(tmp_path: pathlib.Path, hidden: str) -> None:
    root = tmp_path / "demo"
    root.mkdir()
    (root / "__init__.py").touch()
    (root / "a.py").write_text(hidden)
    (root / "b.py").write_text("from demo.a import A\nimport numpy")
    found = graph(root)
    assert found["b"] == ({"a"}, {"numpy"})
    assert {"a", "b"} <= set(circle({module: inside for module, (inside, _) in found.items()}))
