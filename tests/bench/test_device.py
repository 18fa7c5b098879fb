"""The measurement on an accelerator: a rehearsal on tiny sizes, and what must not stop it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
from typing import Any
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import pytest
from bench_subjects import CPU

import bench.device.__main__ as command_line
from bench import speed_chart
from bench.device import estimate, plan, rates, report, run, tables
from bench.device.cases import Case, Group, toy
from bench.device.worker import Worker
from bench.synthetic import Size
from infoprompt_jax.t5.config import T5Config
from infoprompt_jax.training import speed

ROOT = pathlib.Path(__file__).parents[2]
SIZE = Size("toy", batch=4, input_length=8, target_length=4, prompt_length=2)
BLOCKED = ("tensorflow", "tensorflow_text", "seqio", "grain", "tensorflow_datasets", "orbax")
BLOCKER = f"""
import sys


class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in {BLOCKED} else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


def case(function: str, name: str = "") -> Case:
    return Case(name or function, "train", f"bench_subjects:{function}", SIZE)


def group(*cases: Case, share: float = 1.0) -> Group:
    return Group("group", cases, ("bench_subjects",), share=share)


def records(directory: pathlib.Path) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in (directory / "cases").glob("*.json")}


def command(directory: pathlib.Path, *arguments: str) -> str:
    """Runs the whole command on tiny sizes in an environment without what it must not need; what it printed."""
    blocker = directory / "blocker"
    blocker.mkdir(parents=True)
    (blocker / "sitecustomize.py").write_text(BLOCKER)
    flags = os.environ["XLA_FLAGS"].replace("--xla_force_host_platform_device_count=8", "")
    paths = os.pathsep.join([str(blocker), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    line = [sys.executable, "-m", "bench.device", "--toy", "--out", str(directory), *arguments]
    return subprocess.run(line, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout


def test_a_rehearsal_writes_a_record_a_case(tmp_path: pathlib.Path) -> None:
    printed = command(tmp_path, "--minutes", "30", "--only", "xl-product-jax", "xl-int8-score*", "base-fleet-64-by-8*")
    found = records(tmp_path)
    assert sorted(found) == ["base-fleet-64-by-8-L128-b1", "xl-int8-score-L128-b32", "xl-product-jax"]
    for name, record in found.items():
        assert "error" not in record, record
        assert record["least_seconds"] <= record["p50_seconds"] <= record["most_seconds"]
        assert record["repetitions"] >= 5 and record["memory_bytes"] > 0 and record["platform"] == "cpu"
        assert f"`{name}`" in printed and name in (tmp_path / "summary.md").read_text()
    fleet = found["base-fleet-64-by-8-L128-b1"]
    assert fleet["size"]["members"] == 4 and fleet["loss"] > 0
    scored = found["xl-int8-score-L128-b32"]
    assert 1 < scored["estimated_flops"] / scored["model_flops"] < 2  # which leaves attention's scores out
    assert "estimate ms" in printed
    joined = json.loads((tmp_path / tables.FILE).read_text())
    assert {record["case"] for record in joined["records"]} == set(found) and joined["device"] == "cpu"
    assert joined["records"][0]["case"] == "xl-product-jax"  # the plan's order


def test_without_time_nothing_is_run_and_nothing_breaks(tmp_path: pathlib.Path) -> None:
    printed = command(tmp_path, "--minutes", "0")
    found = records(tmp_path)
    assert len(found) == len(all_cases())
    assert {record["not_run"] for record in found.values()} == {"no time left"}
    assert "Not run, for no time was left: xl-train-ours-L128-b32," in printed


def test_what_breaks_one_case_leaves_the_others(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = [case("failing"), case("exhausted"), case("dying"), case("not_there")]
    measured = run.Run(tmp_path, minutes=30, least=0)
    run.measure([group(*broken, case("fine")), group(case("fine", "other"))], measured)
    found = records(tmp_path)
    assert found["failing"]["error"] == "ValueError: two lines"
    assert found["exhausted"]["error"].startswith("out of memory: RESOURCE_EXHAUSTED")
    assert found["dying"]["error"] == "its process ended with exit code 3"
    assert found["not_there"]["error"].startswith("AttributeError")
    assert found["fine"]["p50_seconds"] == found["other"]["p50_seconds"] == 2.0
    assert found["fine"]["examples_per_second"] == 2.0
    capsys.readouterr()
    run.measure([group(*broken[:1], case("fine"))], run.Run(tmp_path, minutes=30, least=0))
    assert "fine" not in capsys.readouterr().out  # measured already; the failing one is tried again


def test_a_case_is_stopped_at_the_deadline(tmp_path: pathlib.Path) -> None:
    run.measure([group(case("hanging"), case("fine"))], run.Run(tmp_path, minutes=0.02, least=0))
    found = records(tmp_path)
    assert found["hanging"]["error"].startswith("stopped after ")
    assert found["fine"]["not_run"] == "no time left"


def test_a_case_that_takes_too_long_ends_its_process_alone(tmp_path: pathlib.Path) -> None:
    worker = Worker(group(), tmp_path / "log.txt")
    assert worker.measure(case("hanging"), 0.1)["error"].startswith("stopped after 0 s")
    assert not worker.alive


def test_a_group_past_its_share_goes_on_last(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    groups = [group(case("fine", "first"), share=0), group(case("fine", "second"))]
    run.measure(groups, run.Run(tmp_path, minutes=30, least=0))
    printed = capsys.readouterr().out
    assert printed.index("second") < printed.index("first")


def test_an_estimate_is_of_all_layers() -> None:
    """Counted are two and three layers; the rest of the program, here a first product, counts once."""

    def lowered(depth: int) -> Any:
        def program(x: jax.Array, first: jax.Array, layers: jax.Array) -> jax.Array:
            x = x @ first
            for layer in layers:
                x = jnp.tanh(x) @ layer
            return x

        shapes = ((4, 8), (8, 16), (depth, 16, 16))
        return jax.jit(program).lower(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes))

    counts = estimate.of_layers(24, lowered)
    products = 2 * 4 * 8 * 16 + 24 * 2 * 4 * 16 * 16
    assert products <= counts["estimated_flops"] < 1.1 * products
    whole = lowered(24).compile().cost_analysis()["bytes accessed"]
    assert counts["estimated_bytes"] == pytest.approx(whole, rel=0.1)
    assert "bound_seconds" not in counts  # of a CPU, no rates are known


def test_a_topic_names_its_cases() -> None:
    chosen = {case.name for group in command_line.chosen(["int8"]) for case in group.cases}
    assert {case.name for case in all_cases() if case.topic == "int8"} == chosen
    assert {"xl-bf16-train-L128-b32", "xl-int8-train-L128-b32", "xxl-int8-train-L128-b32"} <= chosen


def all_cases() -> list[Case]:
    return [case for group in plan.groups() for case in group.cases]


def test_the_plan_holds_together() -> None:
    cases = all_cases()
    names = [case.name for case in cases]
    assert len(set(names)) == len(names)
    assert {case.beside for case in cases} - {""} <= set(names)
    assert {case.topic for case in cases} == set(tables.TOPICS)
    assert all(callable(getattr(importlib.import_module(plan.OURS), c.kind)) for c in cases if plan.OURS in c.build)
    for small in (case for group in plan.groups() for case in toy(group).cases):
        assert small.size.shape == "toy" and small.size.members * small.size.batch <= 16


@pytest.mark.parametrize("device", ["NVIDIA H100 80GB HBM3", "NVIDIA H200"])
def test_utilisation_is_of_the_chips_peak(device: str) -> None:
    step = Case("step", "train", "x:train", Size("v1.1-xl", batch=8))
    record = rates.complete(step, {"seconds": [0.1, 0.1, 0.2], "device": device, "devices": 2, "platform": "gpu"})
    # Layers of 16.8 M (attention) and 31.5 M (feed-forward) weights: 24 a stack on 228 and 8 positions a row, besides
    # the decoder's cross-attention (half of its weights on the input's positions) and the head.
    attention, feed_forward, head = 4 * 2048 * 2048, 3 * 2048 * 5120, 32128 * 2048
    row = 24 * 228 * (1.5 * attention + feed_forward) + 8 * (24 * (1.5 * attention + feed_forward) + head)
    assert record["model_flops"] == pytest.approx(4 * 8 * row)
    assert record["mfu"] == pytest.approx(4 * 8 * row / 0.1 / (2 * 989e12))
    assert record["examples_per_second"] == pytest.approx(80)


def test_scoring_counts_forward_passes() -> None:
    size = Size("toy", batch=4, choices=3, input_length=8, target_length=4, prompt_length=2)
    shared, each = (rates.model_flops(Case("x", "score", "x:score", size, {"shared": s})) for s in (True, False))
    config = T5Config(**rates.SHAPES["toy"])
    assert shared == speed.step_flops(config, 4 * 10, 4 * 3 * 4) / 2
    assert each == speed.step_flops(config, 3 * 4 * 10, 4 * 3 * 4) / 2


def test_tables_compare_and_name_what_failed(tmp_path: pathlib.Path) -> None:
    found = [
        rates.complete(case("fine", "a"), {"seconds": [1.0], **CPU}),
        rates.complete(case("fine", "b"), {"seconds": [1.5], **CPU}) | {"beside": "a"},
        rates.about(case("fine", "c")) | {"error": "out of memory: much"},
        rates.about(case("fine", "d")) | {"not_run": "no time left"},
    ]
    lines = tables.sections(found).splitlines()
    cells = {line.split(" | ")[0]: line.split(" | ") for line in lines if line.startswith("| `")}
    assert [cells["| `a`"][3], cells["| `b`"][3], cells["| `b`"][1]] == ["1", "1.50", "1500"]
    assert cells["| `c`"][1] == "out of memory: much" and "| `d`" not in cells
    assert lines[-1] == "Not run, for no time was left: d."

    page = tmp_path / "page.md"
    page.write_text("before\n<!-- accelerator -->\nold\n<!-- end -->\nafter\n")
    report.main(page, tmp_path / "results")
    assert "\nNot measured.\n" in page.read_text() and "old" not in page.read_text()
    (tmp_path / "results" / "chip").mkdir(parents=True)
    content = {"device": "Chip 1", "machine": {"jax": "0.1"}, "records": found}
    (tmp_path / "results" / "chip" / tables.FILE).write_text(json.dumps(content))
    report.main(page, tmp_path / "results")
    assert "### Chip 1\n\n`bench/results/chip/device.json`; jax 0.1." in page.read_text()
    assert "`b` | 1500 |" in page.read_text() and page.read_text().endswith("after\n")


def test_the_pages_section_is_that_of_the_results() -> None:
    """The documentation has a place for them, and holds what the command would write."""
    page = (ROOT / "docs" / "performance.md").read_text()
    assert f"<!-- {report.BLOCK} -->\n\n{report.text(report.RESULTS)}\n\n<!-- end -->" in page


def test_the_speed_chart_has_the_files_ratios() -> None:
    """And docs/charts/speed.svg is that chart."""
    chart = speed_chart.draw(report.RESULTS)
    texts = [title.text for title in ElementTree.fromstring(chart).findall(".//{*}g/{*}title")]
    record = json.loads((report.RESULTS / "one-core" / "search-300000x512.json").read_text())["records"][-1]
    assert "{ratio:.2f} ({ratio_least:.2f} to {ratio_most:.2f})".format(**record) in texts
    records = json.loads((report.RESULTS / "h100" / tables.FILE).read_text())["records"]
    by_case = {one["case"]: one for one in records}
    relative = [tables.relative(by_case[case], by_case) for case in speed_chart.H100]
    assert [text.partition(" ")[0] for text in texts[-len(relative) :] if text] == relative
    current = (report.PAGE.parent / "charts" / "speed.svg").read_text(encoding="utf-8") == chart
    assert current, "python -m bench.device report"


@pytest.mark.slow
def test_every_case_runs_on_tiny_sizes(tmp_path: pathlib.Path) -> None:
    command(tmp_path, "--minutes", "60")
    found = records(tmp_path)
    torch = all(importlib.util.find_spec(name) for name in ("torch", "peft"))
    expected = {case.name for case in all_cases() if torch or plan.PEER not in case.build}
    assert {name: r.get("error") or r["not_run"] for name, r in found.items() if "p50_seconds" not in r}.keys() == (
        found.keys() - expected
    )
