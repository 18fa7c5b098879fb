"""The wheel works where there is no checkout: it holds the backbones, the templates and the configs."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = ("infoprompt_jax", "configs", "pyproject.toml", "setup.py", "requirements.txt", "README.md", "LICENSE")
LOADED = """
import infoprompt_jax as ip
from infoprompt_jax import config_files

print(ip.__file__, ip.__version__, *config_files.shipped(), sep="\\n")
for name in ("nano", "mini"):
    print(name, ip.load_backbone(name).config.d_model)
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A directory with the wheel's files, as an installation has them. The checkout is built as a copy."""
    place = tmp_path_factory.mktemp("wheel")
    (place / "source").mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, place / "source" / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(place), str(place / "source")], check=True)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(place / "installed")
    shutil.rmtree(place / "source")
    return place / "installed"


def printed(installed: pathlib.Path, directory: pathlib.Path, *words: str, programs: dict[str, str]) -> tuple[str, str]:
    """What Python prints and logs in this directory, where the wheel is installed and nothing else of the project."""
    environment = os.environ | programs | {"PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run([sys.executable, *words], cwd=directory, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout, ran.stderr


def test_the_wheel_holds_what_the_checkout_has(installed: pathlib.Path) -> None:
    """Every file of the package that git does not ignore, and the configs."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "infoprompt_jax"]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    configs = [f"infoprompt_jax/configs/{path.name}" for path in (ROOT / "configs").glob("*.py")]
    kept = {str(path.relative_to(installed)) for path in (installed / "infoprompt_jax").rglob("*") if path.is_file()}
    assert kept == {*listed.stdout.splitlines(), *configs}


def test_the_package_is_whole(installed: pathlib.Path, tmp_path: pathlib.Path, programs: dict[str, str]) -> None:
    shown, _ = printed(installed, tmp_path, "-c", LOADED, programs=programs)
    file, version, *configs, nano, mini = shown.splitlines()
    assert pathlib.Path(file).is_relative_to(installed)
    assert f"infoprompt_jax-{version}.dist-info" in os.listdir(installed)
    assert configs == sorted(f"configs/{path.name}" for path in (ROOT / "configs").glob("*.py"))
    assert (nano, mini) == ("nano 128", "mini 384")


def test_a_config_of_the_package_trains(
    installed: pathlib.Path, tmp_path: pathlib.Path, programs: dict[str, str]
) -> None:
    command = ["-m", "infoprompt_jax.main", "--config=configs/rte.py:nano", "--config.train.steps=2"]
    small = ["--config.task.eval_limit=8", "--config.backbone.unroll=1", "--config.train.references=False"]
    small += [f"--config.data.cache_dir={tmp_path / 'cache'}"]
    table, logged = printed(installed, tmp_path, *command, *small, programs=programs)
    path = installed / "infoprompt_jax" / "configs" / "rte.py"
    assert f"config: {path}, which comes with the package" in logged
    assert "files in runs/rte-nano: prompts, curves.png, report.html, summary.json" in table
    (member,) = json.loads((tmp_path / "runs" / "rte-nano" / "summary.json").read_text())["members"]
    assert member["steps"] == 2
