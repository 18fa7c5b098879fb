"""A run on several hosts equals that on one; what happens when one of them stops, dies or makes a mistake."""

from __future__ import annotations

import json
import pathlib
import random
import shutil
from typing import Any

import ml_collections
import numpy as np
import pytest
import several_hosts
import tiny
import tiny_library
import tiny_runs
import tiny_sources

from infoprompt_jax import cluster, jobs, settings, watch
from infoprompt_jax.errors import UserError
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.serving import predictions_file

pytestmark = pytest.mark.usefixtures("programs")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ml_collections.ConfigDict:
    return tiny_runs.config(tmp_path_factory.mktemp("data"), train__steps=4)


@pytest.fixture(scope="module")
def on_one_host(config: ml_collections.ConfigDict, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The run of this process, on eight devices."""
    workdir = tmp_path_factory.mktemp("one")
    jobs.run(config, str(workdir))
    return workdir


def assert_same(found: pathlib.Path, expected: pathlib.Path, tolerance: float = 1e-5) -> None:
    """The same records, with the same values to float rounding."""
    logs = [
        [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()] for path in (found, expected)
    ]
    here, there = ([(r["step"], r["member"], r["name"]) for r in records] for records in logs)
    assert here == there
    values = [np.array([record["value"] for record in records]) for records in logs]
    np.testing.assert_allclose(*values, rtol=tolerance, atol=tolerance)


def test_two_processes_train_as_one(config: ml_collections.ConfigDict, tmp_path: pathlib.Path) -> None:
    """Only a prompt, for two steps; the tests below take all terms."""
    config = config.copy_and_resolve_references()
    config.infoprompt.update(gamma=0.0, beta=0.0, variational=False)
    config.train.update(steps=2, eval_every=0, save_every=0)
    first, second = several_hosts.run(config, tmp_path / "two", devices=1)
    assert (first.status, second.status) == (0, 0), first.said + second.said
    jobs.run(config, str(tmp_path / "one"))
    assert_same(tmp_path / "two", tmp_path / "one")
    assert "best accuracy" in first.printed and "best accuracy" not in second.printed
    assert "step 2: accuracy" in first.said and "accuracy" not in second.said  # the first reports for both


@pytest.mark.slow
def test_two_processes_train_all_terms_as_one(
    config: ml_collections.ConfigDict, on_one_host: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert [one.status for one in several_hosts.run(config, tmp_path / "run")] == [0, 0]
    assert_same(tmp_path / "run", on_one_host)


@pytest.mark.slow
def test_two_processes_train_members_of_their_own(config: ml_collections.ConfigDict, tmp_path: pathlib.Path) -> None:
    """Also killed, and resumed on one process that splits each member's rows instead."""
    config = config.copy_and_resolve_references()
    config.fleet.update(seeds=tuple(range(8)), over="members")
    first, second = several_hosts.run(config, tmp_path / "two")
    assert (first.status, second.status) == (0, 0), first.said + second.said
    jobs.run(config, str(tmp_path / "one"))
    assert_same(tmp_path / "two", tmp_path / "one")
    both = several_hosts.run(config, tmp_path / "killed", signals={1: ("step", "3")})
    assert [one.status for one in both] == [watch.LOST, -9], both
    config.fleet.over = "rows"
    jobs.run(config, str(tmp_path / "killed"))
    assert_same(tmp_path / "killed", tmp_path / "one")


@pytest.mark.slow
def test_two_processes_train_in_a_bucket(
    config: ml_collections.ConfigDict, on_one_host: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """One is killed; started again, they wait for the lock that the killed run held."""
    loopback_bucket = pytest.importorskip("loopback_bucket")
    address = loopback_bucket.new("hosts") + "/run"
    both = several_hosts.run(config, tmp_path / "run", place=address, signals={0: ("step", "3")})
    assert [one.status for one in both] == [-9, watch.LOST], both
    both = several_hosts.run(config, tmp_path / "run", place=address)
    assert [one.status for one in both] == [0, 0], both
    written = loopback_bucket.objects(address)
    assert {"summary.json", "report.html", "metrics.jsonl"} <= written.keys()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_bytes(written["metrics.jsonl"])
    assert_same(tmp_path / "run", on_one_host)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"coordinator": "host:1"}, "mesh.processes and mesh.process must be set too"),
        ({"processes": 2, "process": 0}, "mesh.coordinator must be set too"),
        ({"coordinator": "host", "processes": 2, "process": 0}, "mesh.coordinator='host' is not the address"),
        ({"coordinator": "host:65536", "processes": 2, "process": 0}, "with a port from 1 to 65535"),
        ({"coordinator": "host:1", "processes": 2, "process": 2}, "mesh.process=2 is out of range: choose 0 to 1"),
    ],
)
def test_processes_named_by_half_are_refused(fields: dict[str, Any], sentence: str) -> None:
    mesh = settings.defaults().mesh
    mesh.update(fields)
    with pytest.raises(UserError, match=sentence):
        cluster.join(mesh)


class Service:
    """Stands for the coordination service: what all processes publish."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def key_value_set(self, key: str, text: str, allow_overwrite: bool) -> None:
        self.values[key] = text

    def key_value_dir_get(self, directory: str) -> list[tuple[str, str]]:
        return [(key, text) for key, text in self.values.items() if key.startswith(directory)]


@pytest.mark.parametrize("seed", range(20))
def test_processes_agree_on_the_point_at_which_they_stop(seed: int) -> None:
    """Whoever is asked, whenever, and in whatever order the processes work and exchange what they know."""
    rng, service = random.Random(seed), Service()
    watches = [watch.Watch(service, index, 3) for index in range(3)]
    stopped: dict[int, int] = {}
    for turn in range(400):
        one = rng.choice(watches)
        # Collectives keep the processes within two points of each other.
        ready = one.index not in stopped and one.may_go_on() and one.points <= min(w.points for w in watches) + 2
        if rng.random() < 0.5:
            one.beat()
        elif ready and one.stops(requested=turn > 50 and one.index == seed % 3):
            stopped[one.index] = one.points
    assert len(stopped) == 3 and len(set(stopped.values())) == 1


def test_a_process_that_jax_ends_names_the_silent_one() -> None:
    service = Service()
    first, second = (watch.Watch(service, index, 2) for index in range(2))
    for _ in range(watch.GRACE + 1):
        second.beat()
        first.beat()
    assert first.noticed() is None
    for _ in range(watch.GRACE + 1):
        first.beat()
    assert first.noticed() == (watch.LOST, watch.lost(1, 2))
    first.state["ended"] = {"status": 2, "sentence": "error: a mistake"}
    assert first.noticed() == (2, "error: a mistake")  # its own end comes first


@pytest.mark.slow
def test_four_processes_that_split_the_weights_train_as_one(
    config: ml_collections.ConfigDict, on_one_host: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """The heads lie on two hosts, which read the same rows."""
    all_ended = several_hosts.run(config, tmp_path / "run", 4, devices=2, mesh__model=4)
    assert [one.status for one in all_ended] == [0] * 4, all_ended
    assert_same(tmp_path / "run", on_one_host)


@pytest.mark.slow
def test_two_processes_evaluate_as_one(
    config: ml_collections.ConfigDict, on_one_host: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    fields = {"job": "evaluate", "prompt__init": str(on_one_host / "prompts")}
    assert [one.status for one in several_hosts.run(config, tmp_path / "run", **fields)] == [0, 0]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["members"][0]["best"] == pytest.approx(
        json.loads((on_one_host / "summary.json").read_text())["members"][0]["best"]
    )


@pytest.mark.slow
def test_two_processes_make_the_library_of_one(tmp_path: pathlib.Path) -> None:
    """Also where one of them is killed in the first group, and both are started again."""
    config = tiny_sources.configure(tiny_sources.write(tmp_path / "sources"), train__save_every=1)
    both = several_hosts.run(config, tmp_path / "two", signals={1: ("step", "2")})
    assert [one.status for one in both] == [watch.LOST, -9], both
    both = several_hosts.run(config, tmp_path / "two")
    assert [one.status for one in both] == [0, 0], both
    assert "library:" in both[0].printed and "library:" not in both[1].printed
    jobs.run(config, str(tmp_path / "one"))
    measured, expected = (PromptLibrary.load(tmp_path / name / "library") for name in ("two", "one"))
    assert [entry.name for entry in measured.entries] == [entry.name for entry in expected.entries]
    assert [entry.metrics for entry in measured.entries] == [entry.metrics for entry in expected.entries]
    np.testing.assert_allclose(measured.keys_KR, expected.keys_KR, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(measured.prompts_MPD, expected.prompts_MPD, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_two_processes_evaluate_tasks_with_a_library_as_one(tmp_path: pathlib.Path) -> None:
    library = tiny_library.random_library(tmp_path / "library", tiny.backbone(), 6)
    config = tiny_library.configure(tmp_path, library)
    both = several_hosts.run(config, tmp_path / "two")
    assert [one.status for one in both] == [0, 0], both
    jobs.run(config, str(tmp_path / "one"))
    made = [sorted((tmp_path / name / "targets").glob("*.json")) for name in ("two", "one")]
    assert [file.name for file in made[0]] == [file.name for file in made[1]] != []
    for measured, expected in zip(*([json.loads(file.read_text()) for file in of_run] for of_run in made), strict=True):
        assert measured["scores"] == expected["scores"] and measured["made_by"] == expected["made_by"]
        assert [one["name"] for one in measured["candidates"]] == [one["name"] for one in expected["candidates"]]


@pytest.mark.slow
def test_two_processes_predict_as_one(
    config: ml_collections.ConfigDict, on_one_host: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    file = pathlib.Path(config.data.dir) / config.task.name / "validation.jsonl"
    (prompt,) = (on_one_host / "prompts").iterdir()
    fields = {"job": "predict", "data__file": str(file), "prompt__init": str(prompt)}
    both = several_hosts.run(config, tmp_path / "two", **fields)
    assert [one.status for one in both] == [0, 0], both
    (alone,) = several_hosts.run(config, tmp_path / "one", 1, devices=8, **fields)
    assert alone.status == 0, alone
    measured, expected = (list(predictions_file.read(tmp_path / name)) for name in ("two", "one"))
    assert [line["row"] for line in measured] == [line["row"] for line in expected] != []
    for line, other in zip(measured, expected, strict=True):
        assert line["scores"] == pytest.approx(other["scores"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_stop_of_one_process_stops_both_and_one_resumes(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path, stopped: int
) -> None:
    longer = {"train__steps": 400, "train__eval_every": 0, "train__save_every": 100, "train__log_every": 10}
    both = several_hosts.run(config, tmp_path / "run", signals={stopped: ("stop", "20")}, **longer)
    assert [one.status for one in both] == [143, 143], both
    assert "Stopped at step" in both[0].said and "Stopped" not in both[1].said
    changed = config.copy_and_resolve_references()
    changed.update_from_flattened_dict({name.replace("__", "."): value for name, value in longer.items()})
    jobs.run(changed, str(tmp_path / "run"))  # on one host
    jobs.run(changed, str(tmp_path / "alone"))
    assert_same(tmp_path / "run", tmp_path / "alone", tolerance=1e-3)  # rounding grows over the steps


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_stop_of_one_process_in_an_evaluation_stops_both(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path, stopped: int
) -> None:
    """They agree on the batch: else one would wait for the other for ever."""
    fields = {"train__eval_batch_size": 8, "train__eval_every": 0, "task__eval_limit": 0}
    both = several_hosts.run(config, tmp_path / "run", signals={stopped: ("batch", "2")}, **fields)
    assert [one.status for one in both] == [143, 143], both
    assert "Stopped in the evaluation of step 4" in both[0].said and "Stopped" not in both[1].said
    both = several_hosts.run(config, tmp_path / "run", **fields)
    assert [one.status for one in both] == [0, 0], both
    alone = several_hosts.run(config, tmp_path / "alone", **fields)
    assert [one.status for one in alone] == [0, 0], alone
    logs = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("run", "alone")]
    assert logs[0] == logs[1]


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [1, 8])
def test_a_run_on_one_host_goes_on_with_two_processes(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path, fsdp: int
) -> None:
    """With the features that it has computed, and its weights on one host or split over both."""
    longer = config.copy_and_resolve_references()
    longer.train.update(steps=8, schedule="constant", warmup=0.0)
    longer.infoprompt.decay = 0.0
    shorter = longer.copy_and_resolve_references()
    shorter.train.steps = 4
    jobs.run(shorter, str(tmp_path / "run"))
    both = several_hosts.run(longer, tmp_path / "run", mesh__fsdp=fsdp)
    assert [one.status for one in both] == [0, 0], both
    assert "Resuming from step 4" in both[0].said
    jobs.run(longer, str(tmp_path / "alone"))
    assert_same(tmp_path / "run", tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other_with_a_sentence(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path, killed: int
) -> None:
    both = several_hosts.run(config, tmp_path / "run", signals={killed: ("step", "2")})
    assert both[killed].status == -9 and both[1 - killed].status == watch.LOST
    assert f"Process {killed} of 2 stopped answering" in both[1 - killed].said.splitlines()[-1]


@pytest.mark.slow
def test_a_mistake_of_one_process_ends_both(config: ml_collections.ConfigDict, tmp_path: pathlib.Path) -> None:
    both = several_hosts.run(config, tmp_path / "run", data__dir={1: str(tmp_path / "missing")})
    assert [one.status for one in both] == [2, 2], both
    assert "Process 1 of 2 ended: error:" in both[0].said and "missing" in both[0].said


@pytest.mark.slow
def test_a_mistake_of_all_is_printed_once(config: ml_collections.ConfigDict, tmp_path: pathlib.Path) -> None:
    both = several_hosts.run(config, tmp_path / "run", data__dir=str(tmp_path / "missing"))
    assert [one.status for one in both] == [2, 2]
    assert [one.said.count("error:") for one in both] == [1, 0]


@pytest.mark.slow
def test_hosts_with_different_rows_are_refused(config: ml_collections.ConfigDict, tmp_path: pathlib.Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(config.data.dir, other)
    for file in other.rglob("train.jsonl"):
        file.write_text("".join(file.read_text().splitlines(keepends=True)[::-1]))
    both = several_hosts.run(config, tmp_path / "run", data__dir={1: str(other)})
    assert [one.status for one in both] == [2, 2], both
    assert "The backbone or the rows of process 1 differ" in both[1].said + both[0].said


LIBRARY = """
import sys
from infoprompt_jax import cluster, hosts, settings

mesh = settings.defaults().mesh
mesh.update(coordinator=sys.argv[1], processes=2, process=int(sys.argv[2]))
cluster.join(mesh)
if mesh.process == 1:
    raise ValueError("a mistake of the program")
hosts.meet()
"""


@pytest.mark.slow
def test_an_error_of_a_program_around_the_package_ends_all_its_processes() -> None:
    address = f"localhost:{several_hosts.free_port()}"
    both = several_hosts.ended([several_hosts.program("-c", LIBRARY, address, str(index)) for index in range(2)])
    assert [one.status for one in both] == [watch.LOST] * 2, both
    assert "Process 1 of 2 ended: ValueError: a mistake of the program" in both[0].said
    assert "Traceback" in both[1].said


@pytest.mark.slow
def test_a_process_that_does_not_come_is_reported(config: ml_collections.ConfigDict, tmp_path: pathlib.Path) -> None:
    (first, second) = several_hosts.start(config, tmp_path / "run", mesh__wait=8)
    second.kill()
    (one,) = several_hosts.ended([first])
    second.communicate()
    assert one.status == watch.LOST and "waited mesh.wait=8 seconds for the others" in one.said.splitlines()[-1]


@pytest.mark.slow
def test_killed_at_ten_random_steps_the_log_is_that_of_an_uninterrupted_run(
    config: ml_collections.ConfigDict, tmp_path: pathlib.Path
) -> None:
    fields: dict[str, Any] = {"train__steps": 40, "train__save_every": 2}
    assert [one.status for one in several_hosts.run(config, tmp_path / "whole", **fields)] == [0, 0]
    rng, steps = random.Random(0), sorted(random.Random(1).sample(range(1, 39), 10))
    for step in steps:
        killed = rng.randrange(2)
        both = several_hosts.run(config, tmp_path / "run", signals={killed: ("step", str(step))}, **fields)
        assert both[killed].status == -9 and both[1 - killed].status == watch.LOST
    assert [one.status for one in several_hosts.run(config, tmp_path / "run", **fields)] == [0, 0]
    logs = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("run", "whole")]
    assert logs[0] == logs[1]
