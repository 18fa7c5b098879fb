"""An evaluation's directory and its library: what may have changed, moved or been damaged when it goes on."""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import pytest
import tiny
from tiny_library import configure, prompt, random_library

from infoprompt_jax import jobs
from infoprompt_jax.errors import UserError
from infoprompt_jax.prompts.saved import Prompt
from infoprompt_jax.rospr import evaluate, keys
from infoprompt_jax.rospr.library import PromptLibrary
from infoprompt_jax.rospr.library_files import Entry
from infoprompt_jax.rospr.library_sources import SourcePrompt

pytestmark = pytest.mark.usefixtures("programs")


@pytest.fixture(scope="module")
def model() -> tiny.Backbone:
    return tiny.backbone()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Data, templates and tokenised rows that the tests share."""
    return tmp_path_factory.mktemp("eval")


def test_what_does_not_fit_leaves_the_workdir_to_the_mended_config(
    model: tiny.Backbone, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    library = random_library(tmp_path / "library", model, 2)
    run, mended = tmp_path / "run", configure(folder, library, task__template="bare", rospr__methods=("rospr",))
    for fields, message in (
        ({"rospr__top": 11}, r"rospr\.top=11 is not between 1 and 10, the number of keys .* set rospr\.top to at most"),
        ({"rospr__query_split": "secret"}, "has no split 'secret'"),
        ({"task__eval_split": "secret"}, "has no split 'secret'"),
    ):
        wrong = mended.copy_and_resolve_references()
        wrong.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
        with pytest.raises(UserError, match=message):
            jobs.run(wrong, str(run))
        assert not run.exists()
    jobs.run(mended, str(run))


@pytest.mark.parametrize(("damaged", "size"), [("json", 0), ("safetensors", 100), ("safetensors", None)])
def test_a_task_whose_files_are_damaged_is_evaluated_again(
    damaged: str, size: int | None, model: tiny.Backbone, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    config = configure(folder, random_library(tmp_path / "library", model, 2), task__template="bare")
    config.rospr.methods = ("rospr", "oracle")
    jobs.run(config, str(tmp_path / "run"))
    (tmp_path / "run" / "summary.json").unlink()
    results = (tmp_path / "run" / "results.json").read_text()
    (file,) = (tmp_path / "run" / "targets").glob(f"*.{damaged}")
    before = file.read_bytes()
    file.unlink() if size is None else file.write_bytes(before[:size])
    jobs.run(config, str(tmp_path / "run"))
    assert file.read_bytes() == before and (tmp_path / "run" / "results.json").read_text() == results


def test_a_library_may_move_but_not_change(model: tiny.Backbone, folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    run, moved, other = tmp_path / "run", tmp_path / "moved", tmp_path / "other"
    config = configure(folder, random_library(tmp_path / "library", model, 2), task__template="bare")
    config.rospr.methods = ("none", "rospr")
    table = jobs.run(config, str(run))
    assert f"2 source prompts with 10 keys, {tmp_path / 'library'}" in table
    assert "2 source prompts with 10 keys" in (run / "results.md").read_text()
    (target,) = (run / "targets").glob("*.json")
    before = target.stat().st_mtime_ns
    (tmp_path / "library").rename(moved)
    random_library(other, model, 3)
    at_other = config.copy_and_resolve_references()
    config.rospr.library, at_other.rospr.library = str(moved), str(other)
    assert jobs.run(config, str(run)) == table
    with pytest.raises(UserError, match=r"with the library of fingerprint .*, but that of rospr\.library=.*/other' is"):
        jobs.run(at_other, str(run))
    shutil.copytree(other, tmp_path / "library")  # the path of before, with other content
    at_former = config.copy_and_resolve_references()
    at_former.rospr.library = str(tmp_path / "library")
    with pytest.raises(
        UserError, match=r"with the library of fingerprint .*, but that of rospr\.library=.*/library' is"
    ):
        jobs.run(at_former, str(run))
    shutil.rmtree(tmp_path / "library")
    assert jobs.run(at_former, str(run)) == table
    (run / "summary.json").unlink()
    with pytest.raises(UserError, match="when the fingerprint of the library was"):
        jobs.run(at_other, str(run))
    jobs.run(config, str(run))
    assert target.stat().st_mtime_ns == before
    results = json.loads((run / "results.json").read_text())
    assert results["library"] == {"path": str(moved), "prompts": 2, "keys": 10}


def test_results_are_of_the_library_that_was_opened(
    model: tiny.Backbone, folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that grows while the models are loaded is another for the run that resumes."""
    path = random_library(tmp_path / "library", model, 3)
    config, load = configure(folder, path, task__template="bare"), evaluate.configured_backbone

    def and_append(*arguments: Any) -> Any:
        monkeypatch.undo()
        library = PromptLibrary.load(path)
        late = Prompt(prompt(9, model.config.d_model))
        library.append(keys.model(model), [SourcePrompt(Entry("late", "late"), late, library.keys_KR[:2])])
        return load(*arguments)

    opened = PromptLibrary.load(path).fingerprint
    monkeypatch.setattr(evaluate, "configured_backbone", and_append)
    jobs.run(config, str(tmp_path / "run"))
    (target,) = (tmp_path / "run" / "targets").glob("*.json")
    assert json.loads(target.read_text())["made_by"]["library"] == opened
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(UserError, match=f"when the fingerprint of the library was {opened}, but it is .* now"):
        jobs.run(config, str(tmp_path / "run"))
