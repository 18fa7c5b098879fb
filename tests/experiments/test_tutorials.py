"""Following a tutorial: its blocks in their order, and what is left out."""

from __future__ import annotations

import pathlib
import subprocess

import pytest

from experiments import tutorials

PAGE = """# A page

```bash
export WORD=tram
printf "$WORD" > word
```

```python
word = open("word").read()
```

<!-- needs a network -->
```bash
exit 1
```

```text
not a command
```

```python
open("twice", "w").write(word + word)
```

```bash
printf "$WORD" >> twice
```
"""


@pytest.fixture(autouse=True)
def here(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_blocks_share_exported_variables_and_a_session(here: pathlib.Path) -> None:
    every = tutorials.blocks(PAGE)
    assert [block.needs for block in every] == ["", "", "a network", "", ""]
    assert len(tutorials.follow(every)) == 4
    assert (here / "twice").read_text() == "tramtramtram"


def test_a_block_that_fails_ends_the_page(here: pathlib.Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        tutorials.follow(tutorials.blocks("```bash\nfalse\n```\n\n```bash\ntouch after\n```\n"))
    assert not (here / "after").exists()


def test_a_run_may_be_stopped(here: pathlib.Path) -> None:
    """By `timeout`, with the status of a stopped run."""
    tutorials.shell("timeout 60 bash -c 'exit 143'")
    with pytest.raises(subprocess.CalledProcessError):
        tutorials.shell("exit 143")


def test_a_page_is_a_line_of_the_table() -> None:
    record = {"subject": "tpu", "title": "A slice", "bash": 5, "python": 0, "seconds": 90.0, "longest": 30.0}
    record |= {"processor": "EPYC", "cores": 2, "load_average": 3.3}
    assert "| [A slice](tpu.md) | 5 | 0 | 0 | EPYC | 2 | 3.3 | 1.5 | 0.5 |" in tutorials.table(
        [record | {"left_out": 0, "needs": []}]
    )
    needs = {"left_out": 2, "needs": ["a TPU", "a network"]}
    assert "| 2: needs a TPU or a network |" in tutorials.table([record | needs])


def test_a_page_keeps_the_machine_that_it_was_followed_on() -> None:
    """The file's machine is that of the pages which were followed last."""
    machine = {"processor": "new", "cores": 1, "load_average": 0.5, "python": "3"}
    older = {"subject": "tpu", "processor": "old", "cores": 2, "load_average": 3.3}
    records = tutorials.placed({"machine": machine, "records": [older, {"subject": "peft"}]})
    assert records == [older, {"processor": "new", "cores": 1, "load_average": 0.5, "subject": "peft"}]


def test_every_tutorial_can_be_followed() -> None:
    """Each has blocks, and each block that needs something says what."""
    pages = sorted(tutorials.TUTORIALS.parent.glob("*.md"))
    followed = {page.stem: tutorials.blocks(page.read_text()) for page in pages if page != tutorials.TUTORIALS}
    assert {"own-data", "infoprompt", "library", "tpu", "peft"} <= followed.keys()
    for name, every in followed.items():
        assert any(not block.needs for block in every), name
        assert {block.needs for block in every} <= {"", "a network", "a TPU"}, name


def test_a_page_does_not_get_the_readers_caches(here: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in tutorials.CACHES:
        monkeypatch.setenv(name, str(here))
    page = here / "page.md"
    page.write_text('# A page\n\n```bash\ntest -z "$HF_HOME$XDG_CACHE_HOME$JAX_COMPILATION_CACHE_DIR"\n```\n')
    assert tutorials.timed(page)["bash"] == 1
