"""The jobs of RoSPr, and `predict`, on a disk that fills up: a sentence, and with more room the same results."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import ml_collections
import pytest
import small_disk
import tiny_sources

from infoprompt_jax import checksums, jobs
from infoprompt_jax.errors import UserError
from infoprompt_jax.rospr.library import PromptLibrary

pytestmark = [pytest.mark.usefixtures("programs"), pytest.mark.slow]

disk = small_disk.disk


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tiny_sources.write(tmp_path_factory.mktemp("sources"))
    jobs.run(tiny_sources.configure(folder), str(folder / "sources"))
    rows = [{"words": f"cat dog {n}"} for n in range(400)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def configured(job: str, folder: pathlib.Path) -> ml_collections.ConfigDict:
    config = tiny_sources.configure(folder)
    if job != "rospr_sources":
        config.job = job
        config.rospr.update(library=str(folder / "sources" / "library"), queries=4, top=2)
        config.task.name = tiny_sources.OTHER
    if job == "predict":
        config.data.file = str(folder / "rows.jsonl")
    return config


def results(workdir: pathlib.Path) -> list[Any]:
    """What the job ends in, without times and paths."""
    if (workdir / "library").exists():
        return [PromptLibrary.load(workdir / "library").fingerprint]
    if (workdir / "predictions.jsonl").exists():
        return [(workdir / "predictions.jsonl").read_bytes()]
    return [checksums.read_json(file, "") for file in sorted(workdir.glob("targets/*.json"))]


@pytest.mark.parametrize("job", ["rospr_sources", "rospr_eval", "predict"])
@pytest.mark.parametrize("left", [16, 48, 128])
def test_a_job_goes_on_when_there_is_room(
    job: str, left: int, disk: pathlib.Path, folder: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config, expected = configured(job, folder), tmp_path_factory.mktemp("expected")
    jobs.run(config, str(expected / "run"))
    ballast = small_disk.fill(disk, left * 1024)
    try:
        jobs.run(config, str(disk / "run"))
    except UserError as error:
        assert "cannot be written" in str(error) and "\n" not in str(error)
    else:
        assert left > 16, "the disk was to fill up"
    ballast.unlink()
    jobs.run(config, str(disk / "run"))
    assert results(disk / "run") == results(expected / "run") != []
