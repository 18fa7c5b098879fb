"""Configs that come with the package run in every directory; a file of the directory itself comes first."""

from __future__ import annotations

import logging
import pathlib

import pytest

from infoprompt_jax import config_files
from infoprompt_jax.command_line import help_text, parse
from infoprompt_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
CONFIGS = {f"configs/{path.name}": path for path in (ROOT / "configs").glob("*.py")}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_packages_config_runs_in_an_empty_directory(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    config, workdir = parse(["main", "--config=configs/rte.py:nano", "--config.train.steps=3"])
    assert (config.task.name, config.backbone.name, config.train.steps) == ("super_glue/rte", "nano", 3)
    assert workdir == "runs/rte-nano"
    assert f"config: {CONFIGS['configs/rte.py']}, which comes with the package" in caplog.text


def test_a_file_of_the_working_directory_comes_first(elsewhere: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (elsewhere / "configs").mkdir()
    changed = CONFIGS["configs/rte.py"].read_text().replace("super_glue/rte", "super_glue/cb")
    (elsewhere / "configs" / "rte.py").write_text(changed)
    assert parse(["main", "--config=configs/rte.py"])[0].task.name == "super_glue/cb"
    assert "comes with the package" not in caplog.text


@pytest.mark.parametrize("name", ["configs/nope.py", "configs/__init__.py", "configs/rte"])
def test_a_config_that_nobody_has_is_refused_with_those_that_there_are(name: str) -> None:
    with pytest.raises(
        UserError, match=r"is neither a file here nor a config .*: choose from configs/cb\.py, "
    ) as error:
        parse(["main", f"--config={name}:nano"])
    assert all(one in str(error.value) for one in CONFIGS)


@pytest.mark.parametrize("name", ["rte.py", "configs/../configs/rte.py", "other/configs/rte.py", "/configs/rte.py"])
def test_no_other_path_is_searched_in_the_package(name: str) -> None:
    with pytest.raises(UserError, match=r"cannot be read: No such file or directory\.$"):
        parse(["main", f"--config={name}"])


def test_an_installed_packages_configs_are_its_own(elsewhere: pathlib.Path) -> None:
    """Beside it may lie a folder of that name that is another's."""
    for folder in ("configs", "package/configs"):
        (elsewhere / folder).mkdir(parents=True)
        (elsewhere / folder / "one.py").touch()
    found = config_files.shipped(elsewhere / "package")
    assert found == {"configs/one.py": elsewhere / "package" / "configs" / "one.py"}
    assert config_files.shipped(elsewhere / "gone" / "package") == {}


def test_help_lists_the_configs() -> None:
    text = help_text()
    assert all(name in text for name in CONFIGS) and max(map(len, text.splitlines())) <= 120
