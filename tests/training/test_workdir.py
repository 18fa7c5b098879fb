"""A run's directory: it is one run's, it is claimed late, and nothing of another's is overwritten."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest

from infoprompt_jax import checksums, settings
from infoprompt_jax.errors import UserError
from infoprompt_jax.training.workdir import Workdir, finish

GROUP = "groups/0000/metrics.jsonl"


def config(**fields: Any) -> Any:
    made = settings.defaults()
    made.update_from_flattened_dict({name.replace("__", "."): value for name, value in fields.items()})
    return made


def test_nothing_is_written_before_the_claim(tmp_path: pathlib.Path) -> None:
    directory = Workdir(tmp_path / "new" / "run", config())
    assert directory.finished() is None and list(tmp_path.iterdir()) == []
    with directory.claim():
        pass
    kept = checksums.read_json(tmp_path / "new" / "run" / "config.json", "")
    assert kept == json.loads(config().to_json())


def test_the_same_config_goes_on(tmp_path: pathlib.Path) -> None:
    with Workdir(tmp_path, config(fleet__seeds=(0, 1))).claim():
        pass
    before = (tmp_path / "config.json").read_bytes()
    with Workdir(tmp_path, config(fleet__seeds=(0, 1), train__save_every=7, data__threads=5)).claim():
        pass
    assert (tmp_path / "config.json").read_bytes() == before


def test_two_processes_do_not_run_in_one_directory(tmp_path: pathlib.Path) -> None:
    """`flock` knows open files: another of this process is refused as that of another process is."""
    other = Workdir(tmp_path, config())
    sentence = r"^Another process is running in the workdir .*: choose another --workdir"
    with Workdir(tmp_path, config()).claim(), pytest.raises(UserError, match=sentence), other.claim():
        pass
    with other.claim():
        pass


def test_what_was_claimed_while_this_run_was_loading_is_not_taken(tmp_path: pathlib.Path) -> None:
    late = Workdir(tmp_path, config(seed=1))
    with Workdir(tmp_path, config()).claim():
        pass
    with pytest.raises(UserError, match="holds a run with seed=0, this one has 1"), late.claim():
        pass


def test_a_run_that_ran_out_of_memory_may_go_on_with_less(tmp_path: pathlib.Path) -> None:
    with Workdir(tmp_path, config()).claim():
        pass
    less = {"train__eval_batch_size": 8, "fleet__at_once": 1, "backbone__remat": "full"}
    Workdir(tmp_path, config(**less))
    with pytest.raises(UserError, match=r"holds a run with train\.learning_rate=0\.3, this one has 0\.1"):
        Workdir(tmp_path, config(**less, train__learning_rate=0.1))


def test_a_run_that_is_older_than_a_field_has_its_default(tmp_path: pathlib.Path) -> None:
    older = json.loads(config(seed=3).to_json())
    del older["task"]["cap"], older["fleet"]["presets"]
    (tmp_path / "config.json").write_text(json.dumps(older))
    Workdir(tmp_path, config(seed=3))
    with pytest.raises(UserError, match=r"holds a run with task\.cap=0, this one has 5"):
        Workdir(tmp_path, config(seed=3, task__cap=5))


def test_a_run_with_the_former_name_of_a_default_goes_on(tmp_path: pathlib.Path) -> None:
    with Workdir(tmp_path, config(rospr__similarity="inner_product")).claim():
        pass
    Workdir(tmp_path, config())
    with pytest.raises(UserError, match=r"rospr\.similarity='', this one has 'cosine'"):
        Workdir(tmp_path, config(rospr__similarity="cosine"))


def test_a_run_with_the_former_name_of_a_field_goes_on(tmp_path: pathlib.Path) -> None:
    older = json.loads(config(fleet__presets=("plain", "both")).to_json())
    older["fleet"]["variants"] = older["fleet"].pop("presets")
    (tmp_path / "config.json").write_text(json.dumps(older))
    Workdir(tmp_path, config(fleet__presets=("plain", "both")))
    with pytest.raises(UserError, match=r"fleet\.presets=\['plain', 'both'\], this one has \['both'\]"):
        Workdir(tmp_path, config(fleet__presets=("both",)))


def test_a_run_with_a_field_that_is_gone_goes_on(tmp_path: pathlib.Path) -> None:
    with Workdir(tmp_path, config()).claim():
        pass
    saved = json.loads((tmp_path / "config.json").read_text())
    saved["backbone"]["allow_pickle"] = True
    del saved["checksum"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    assert Workdir(tmp_path, config()).finished() is None


def test_another_config_is_refused(tmp_path: pathlib.Path) -> None:
    with Workdir(tmp_path, config()).claim():
        pass
    sentence = r"holds a run with train\.learning_rate=0\.3, this one has 0\.1: choose another --workdir"
    with pytest.raises(UserError, match=sentence):
        Workdir(tmp_path, config(train__learning_rate=0.1))


def test_what_is_no_run_is_left_alone(tmp_path: pathlib.Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"holds files but no config\.json: choose an empty --workdir"):
        Workdir(tmp_path, config())
    with pytest.raises(UserError, match=r"thesis\.tex cannot be written: choose another --workdir"):
        Workdir(tmp_path / "thesis.tex", config())
    with pytest.raises(UserError, match=r"thesis\.tex/run cannot be written: choose another --workdir"):
        Workdir(tmp_path / "thesis.tex" / "run", config())
    for text in ("{", "[]", "null", '{"checksum": ""}', '{"job": 1'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match=r"config\.json (cannot be read|holds|is not what was written).*: choose"):
            Workdir(tmp_path, config())


def test_what_a_process_killed_at_its_first_file_left_is_no_obstacle(tmp_path: pathlib.Path) -> None:
    (tmp_path / ".config.json.17.partial").write_text("{")
    with Workdir(tmp_path, config()).claim():
        pass
    assert (tmp_path / "config.json").is_file()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_directories_without_permission(tmp_path: pathlib.Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written: choose another --workdir"):
        Workdir(tmp_path / "run", config())


def test_directories_that_cannot_be_made(tmp_path: pathlib.Path) -> None:
    sentence = r"The workdir /proc/run cannot be written.*: choose another --workdir"
    with pytest.raises(UserError, match=sentence), Workdir("/proc/run", config()).claim():
        pass


def test_a_finished_run_gives_its_summary(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = Workdir(tmp_path, config())
    with directory.claim():
        pass
    (tmp_path / "summary.json").write_text('{"members": []}')
    with caplog.at_level("INFO"):
        assert directory.finished() == {"members": []}
    assert f"This run is done; its results stand in {tmp_path}." in caplog.text
    checksums.write_json(tmp_path / "summary.json", {"members": [1]}, kind="summary")
    for damaged in (b"", (tmp_path / "summary.json").read_bytes().replace(b"1", b"2", 1)):
        (tmp_path / "summary.json").write_bytes(damaged)
        caplog.clear()
        assert directory.finished() is None
        assert "the run is finished again from its checkpoint" in caplog.text


@pytest.mark.parametrize("file", ["metrics.jsonl", "prompts/run/prompt.json", "results.md", GROUP])
@pytest.mark.parametrize("damage", [pathlib.Path.unlink, lambda path: path.write_text("flipped")])
def test_what_a_finished_run_has_made_is_checked(
    tmp_path: pathlib.Path, file: str, damage: Callable[[pathlib.Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    directory = Workdir(tmp_path, config())
    with directory.claim():
        for name in ("metrics.jsonl", "prompts/run/prompt.json", "results.md", GROUP):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("written")
        finish(tmp_path, {"members": []})
    assert directory.finished() == {"members": []} and "run wrote" not in caplog.text
    damage(tmp_path / file)
    assert directory.finished() == {"members": []}
    what = "is not what the run wrote" if (tmp_path / file).exists() else "is missing"
    remedy = f"delete {tmp_path / 'summary.json'} to have it written again"
    if file == "metrics.jsonl":
        remedy = "put back a copy"
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [f"{tmp_path / file} {what}: {remedy}."]
