"""Every file of examples/ runs: shrunk, and else as its docstring has it; serve.py in tests/serving/test_server.py."""

from __future__ import annotations

import ast
import importlib
import json
import math
import pathlib
import re
from typing import Any

import ml_collections
import numpy as np
import pytest
import tiny_library

import infoprompt_jax as ip
from infoprompt_jax import command_line, settings
from infoprompt_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

pytestmark = pytest.mark.usefixtures("programs")


def example(name: str) -> Any:
    """The module, which `task.module` imports under the same name."""
    return importlib.import_module(f"examples.{name}")


def shrunk() -> ml_collections.ConfigDict:
    config = CONFIG()
    config.backbone.unroll = 1
    config.data.buckets = (64,)
    config.task.update(shots=16, eval_limit=8)
    config.train.update(steps=2, eval_every=1, log_every=1, eval_batch_size=8)
    return config


CONFIG = example("train").config


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The directory where the examples run, one after another."""
    return tmp_path_factory.mktemp("place")


@pytest.fixture
def printed(place: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs an example there with a config of two steps, and returns what it prints."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(place))  # of the cache of tokenised rows
    monkeypatch.setattr(example("train"), "config", shrunk)

    def run(name: str) -> list[str]:
        example(name).main()
        return capsys.readouterr().out.splitlines()

    return run


def test_training_then_predicting(printed: Any) -> None:
    *references, trained = printed("train")
    assert [line.split(":")[0] for line in references] == ["most frequent answer", "no prompt"]
    assert re.fullmatch(r"run: [01]\.\d\d after [012] steps", trained)
    assert printed("train")[-1] == trained  # the finished run
    answers = printed("predict")
    assert len(answers) == len(example("predict").ROWS)
    for line in answers:
        answer, yes, no = re.findall(r"\. (Yes|No) \(probabilities: Yes ([\d.]+), No ([\d.]+)\)$", line)[0]
        assert (answer == "Yes") == (float(yes) >= float(no)) and math.isclose(float(yes) + float(no), 1, abs_tol=0.3)


def test_retrieval(printed: Any, place: pathlib.Path) -> None:
    backbone = ip.load_backbone("nano")
    tiny_library.random_library(place / example("retrieval").LIBRARY, backbone, count=4)
    lines = printed("retrieval")
    weights, answers = lines[:-3], lines[-3:]
    assert 1 <= len(weights) <= 3 and math.isclose(sum(float(line.split()[0]) for line in weights), 1, abs_tol=0.02)
    assert {line.split()[-1] for line in answers} <= {"yes", "no"}


def test_an_own_estimator_is_a_bound_that_configs_may_name() -> None:
    pairs = example("estimator").pairs()
    exact = -math.log(1 - 0.8**2) / 2
    clipped, infonce = (float(ip.mutual_information(name, *pairs)) for name in ("clipped_infonce", "infonce"))
    assert clipped == pytest.approx(exact, abs=0.1) and clipped != infonce
    assert float(ip.mutual_information("clipped_infonce", *pairs, tau=1e4)) == pytest.approx(infonce, abs=1e-4)
    huge_B, low_BK = (1e9 * np.ones((4, *shape), np.float32) for shape in ((), (7,)))
    assert float(ip.mutual_information("clipped_infonce", huge_B, -low_BK)) <= math.log(8)
    config = settings.defaults()
    config.infoprompt.estimator = "clipped_infonce"
    assert settings.check(config) is config
    with pytest.raises(UserError, match="There is an estimator 'infonce' already: register yours under another name"):
        ip.register_estimator("infonce", example("estimator").clipped_infonce)


@pytest.mark.slow
def test_an_own_estimator_trains(printed: Any) -> None:
    exact, *bounds, trained = printed("estimator")
    assert exact == "exact: 0.51 nats" and len(bounds) == 3
    assert re.fullmatch(r"accuracy [01]\.\d\d, I\(prompt; head\) -?[\d.]+ nats", trained)


def test_an_own_metric_selects_the_best_prompt(printed: Any, place: pathlib.Path) -> None:
    (line,) = printed("metric")
    assert re.fullmatch(r"balanced accuracy [01]\.\d\d, accuracy [01]\.\d\d", line)
    summary = json.loads((place / example("metric").WORKDIR / "summary.json").read_text())
    best = summary["members"][0]["best"]
    assert next(iter(best)) == "balanced_accuracy" and 0 <= best["balanced_accuracy"] <= 1
    assert best["balanced_accuracy"] != best["accuracy"] or best["accuracy"] == 0.5
    path = ROOT / "examples" / "metric.py"
    config, workdir = command_line.parse(["", f"--config={path}", f"--workdir={place / example('metric').WORKDIR}"])
    assert settings.check(config).task.metric == "balanced_accuracy" and workdir.endswith("example-metric")


@pytest.mark.slow
def test_an_own_seqio_mixture(printed: Any) -> None:
    pytest.importorskip("seqio")
    lines = printed("seqio_mixture")
    assert {line.split()[0] for line in lines} >= {
        f"{metric}/seqio:{task}:registered"
        for metric in ("accuracy", "macro_f1")
        for task in ("example_colour", "example_red")
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_gives_its_command(path: pathlib.Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert f"    python -m examples.{path.stem}" in docstring and docstring.splitlines()[0].endswith(".")
    assert len(path.read_text().splitlines()) < 60
