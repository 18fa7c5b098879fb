"""The public interface: its names resolve, and nothing heavy is imported before one is used."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tomllib

import pytest

import infoprompt_jax
from infoprompt_jax.version import version

ROOT = pathlib.Path(infoprompt_jax.__file__).parents[1]
HEAVY = ("jax", "flax", "optax", "orbax", "tensorflow", "tensorflow_datasets", "seqio", "huggingface_hub")


def printed(code: str) -> str:
    """What a fresh process prints."""
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


@pytest.mark.parametrize("module", ["infoprompt_jax", "infoprompt_jax.settings", "infoprompt_jax.main"])
def test_the_import_alone_is_light(module: str) -> None:
    assert printed(f"import sys, {module}; print(*[m for m in {HEAVY} if m in sys.modules])") == ""


@pytest.mark.parametrize("statement", ["import infoprompt_jax as ip", "from infoprompt_jax import *"])
def test_every_public_name_resolves(statement: str) -> None:
    assert set(infoprompt_jax.__all__) <= set(dir(infoprompt_jax))
    values = "ip.{}" if statement.startswith("import") else "{}"
    names = ", ".join(values.format(name) for name in infoprompt_jax.__all__)
    assert printed(f"{statement}\nprint(*[one.__name__ for one in ({names})])").split() == infoprompt_jax.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'infoprompt_jax' has no attribute 'trian'"):
        _ = infoprompt_jax.trian  # pyright: ignore[reportAttributeAccessIssue]


def test_no_public_name_is_a_module() -> None:
    """Importing a module sets an attribute of the package, which would replace the public name."""
    modules = {path.stem for path in (ROOT / "infoprompt_jax").iterdir()}
    assert not modules & set(infoprompt_jax.__all__)


def test_a_checkout_has_the_version_of_its_pyproject() -> None:
    assert infoprompt_jax.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert "__version__" in dir(infoprompt_jax)


@pytest.mark.parametrize(("project", "read"), [("infoprompt_jax", True), ("other", False)])
def test_the_version_is_not_another_projects(project: str, read: bool, tmp_path: pathlib.Path) -> None:
    """Beside an installed package may lie a pyproject.toml that is not its own."""
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "{project}"\nversion = "7.8.9"\n')
    assert (version(tmp_path / "infoprompt_jax") == "7.8.9") == read
