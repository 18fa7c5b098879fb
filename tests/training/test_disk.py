"""A disk that fills up at any moment costs a sentence; with more room, the same command ends in the same results."""

from __future__ import annotations

import pathlib
import subprocess

import ml_collections
import pytest
import small_disk
import tiny_runs

from infoprompt_jax import checksums, command_line, disk, jobs
from infoprompt_jax.errors import UserError

pytestmark = pytest.mark.usefixtures("programs")

small = small_disk.disk
COMPARED = ("metrics.jsonl", "prompts/*/prompt.*", "last_prompts/*/prompt.*")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ml_collections.ConfigDict:
    return tiny_runs.config(tmp_path_factory.mktemp("data"), train__steps=6, infoprompt__gamma=0.0)


@pytest.fixture(scope="module")
def expected(config: ml_collections.ConfigDict, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    directory = tmp_path_factory.mktemp("expected")
    jobs.run(config, str(directory))
    return results(directory)


def results(directory: pathlib.Path) -> dict[str, bytes]:
    """What a run ends in, by file."""
    members = checksums.read_json(directory / "summary.json", "", kind="summary")["members"]
    found = {file: file.read_bytes() for pattern in COMPARED for file in directory.glob(pattern)}
    return {"members": repr(members).encode(), **{str(file.relative_to(directory)): of for file, of in found.items()}}


MORE = [pytest.param(left, marks=pytest.mark.slow) for left in (0, 32, 64, 128, 192, 256)]


@pytest.mark.parametrize("left", [16, 96, 320, *MORE])
def test_a_run_goes_on_when_there_is_room(
    left: int, small: pathlib.Path, config: ml_collections.ConfigDict, expected: dict[str, bytes]
) -> None:
    ballast = small_disk.fill(small, left * 1024)
    with pytest.raises(UserError, match=r"run.* cannot be written \(.*[Nn]o space left on device.*\): ") as caught:
        jobs.run(config, str(small / "run"))
    assert "\n" not in str(caught.value)
    ballast.unlink()
    jobs.run(config, str(small / "run"))
    assert results(small / "run") == expected
    assert not [file for file in (small / "run").rglob("*") if "partial" in file.name]


def test_a_finished_run_on_a_read_only_disk_is_shown_and_evaluated(
    small: pathlib.Path, config: ml_collections.ConfigDict, tmp_path_factory: pytest.TempPathFactory
) -> None:
    table = jobs.run(config, str(small / "run"))
    subprocess.run(["mount", "-o", "remount,ro", small], check=True)
    assert jobs.run(config, str(small / "run")) == table
    with pytest.raises(UserError, match=r"cannot be written: choose another --workdir"):
        jobs.run(config, str(small / "another"))
    evaluated, workdir = command_line.parse(
        ["main", f"--config={small}/run/config.json", "--config.job=evaluate",
         f"--workdir={tmp_path_factory.mktemp('evaluate')}"]
    )  # fmt: skip
    trained = checksums.read_json(small / "run" / "summary.json", "", kind="summary")["members"][0]
    jobs.run(evaluated, workdir)
    again = checksums.read_json(f"{workdir}/summary.json", "", kind="summary")["members"][0]
    assert again["best"]["accuracy"] == trained["best"]["accuracy"]


def test_tokens_that_a_full_disk_cannot_keep_stay_in_memory(
    small: pathlib.Path,
    config: ml_collections.ConfigDict,
    caplog: pytest.LogCaptureFixture,
    expected: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    made = config.copy_and_resolve_references()
    made.data.cache_dir = str(small)
    small_disk.fill(small, 0)
    workdir = tmp_path_factory.mktemp("run")
    jobs.run(made, str(workdir))
    assert results(workdir) == expected and "see data.cache_dir" in caplog.text


def test_what_is_no_matter_of_the_disk_stays_what_it_is() -> None:
    with pytest.raises(ZeroDivisionError), disk.watched("run"):
        raise ZeroDivisionError
    with pytest.raises(PermissionError), disk.watched("run"):
        raise PermissionError(13, "Permission denied")
    with pytest.raises(UserError, match="File exists, run/features"), disk.watched("run"):
        raise FileExistsError(17, "File exists", "run/features")
