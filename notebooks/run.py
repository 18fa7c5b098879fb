"""Runs the notebooks from the first cell to the last and stores what they print: `make notebooks`.

Nothing is downloaded. What an earlier run left in notebooks/runs is removed first, so that outputs are those of this
code. A cell that fails ends the command, and its notebook stays as it was. The digest of the cells is stored with the
outputs: a test compares them, so that a notebook cannot be edited without being run again. Paths are stored relative to
this folder.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil

import nbclient
import nbformat

FOLDER = pathlib.Path(__file__).resolve().parent


def digest(notebook: nbformat.NotebookNode) -> str:
    """Of the code of all cells, 16 hexadecimal digits."""
    code = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()[:16]


def run(path: pathlib.Path) -> None:
    """Executes a notebook in its folder and writes it with its outputs. Raises CellExecutionError."""
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(FOLDER)}}
    nbclient.NotebookClient(notebook, timeout=None, record_timing=False, resources=place).execute()
    tidy(notebook)
    notebook.metadata["executed"] = digest(notebook)
    nbformat.write(notebook, path)


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Makes paths in printed lines relative, and drops the notice that Jupyter has no widgets for progress bars."""
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.outputs = [output for output in cell.outputs if "TqdmWarning: IProgress" not in output.get("text", "")]
        for output in cell.outputs:
            if "text" in output:
                output.text = output.text.replace(f"{FOLDER}/", "")


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = str(FOLDER.parent)  # the kernel imports this checkout
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    shutil.rmtree(FOLDER / "runs", ignore_errors=True)
    for path in sorted(FOLDER.glob("*.ipynb")):
        print(f"Running {path.name}", flush=True)
        run(path)
