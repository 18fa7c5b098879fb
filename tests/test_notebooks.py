"""The notebooks: their cells use public names alone, and run from the first to the last."""

from __future__ import annotations

import ast
import os
import pathlib
import re
import runpy

import pytest

import infoprompt_jax

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MODULES = {"jobs", "settings"}  # those that docs/api.md names beside the public names

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
RUN = runpy.run_path(str(ROOT / "notebooks" / "run.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_stored_outputs_are_those_of_these_cells(path: pathlib.Path) -> None:
    """All cells were run in their order and as they stand, without an error, and the file stays small."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    assert notebook.metadata["executed"] == RUN["digest"](notebook), "make notebooks"
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs and not [output for output in outputs if output.output_type == "error"]
    assert path.stat().st_size < 300_000
    assert not re.search(r"(^|[\s'\"])/\w+/", "".join(output.get("text", "") for output in outputs))


def test_paths_are_stored_relative() -> None:
    text = f"library: {RUN['FOLDER']}/runs/rospr\n"
    output = nbformat.v4.new_output("stream", text=text)
    notice = nbformat.v4.new_output("stream", name="stderr", text="x: TqdmWarning: IProgress not found.")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[notice, output])])
    RUN["tidy"](notebook)
    assert [one.text for one in notebook.cells[0].outputs] == ["library: runs/rospr\n"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_use_public_names(path: pathlib.Path) -> None:
    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    tree = ast.parse("\n".join(cell.source for cell in code))
    imported = {f"{n.module}.{a.name}" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names}
    imported = {name for name in imported if name.startswith("infoprompt_jax.")}
    assert imported <= {f"infoprompt_jax.{module}" for module in MODULES}
    names = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and getattr(n.value, "id", "") == "ip"}
    assert names and names <= {*infoprompt_jax.__all__}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_lead_somewhere(path: pathlib.Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        assert "://" in link or (path.parent / link).resolve().exists(), link


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(path: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With few steps of training; everything else is as it stands. `examples` lies beside the notebooks' folder."""
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HOME", str(tmp_path))  # of the cache of tokenised rows
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"].replace("--xla_force_host_platform_device_count=8", ""))
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = re.sub(r"(config\.train\.steps) = \d+", r"\1 = 4", cell.source)
        cell.source = re.sub(r"(config\.train\.eval_every) = [1-9]\d*", r"\1 = 2", cell.source)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "notebooks").mkdir()
    place = {"metadata": {"path": str(tmp_path / "notebooks")}}
    nbclient.NotebookClient(notebook, timeout=None, resources=place).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in shown if output.output_type == "error"]
    assert any("prediction" in output.get("data", {}).get("text/plain", "") for output in shown)
