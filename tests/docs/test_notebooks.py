"""Every notebook runs from top to bottom, in good time, is stored with its output, and ends with an exercise."""

import resource
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.docs

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
MAX_SECONDS = 90  # on one core
MAX_BYTES = 700_000
EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cpu_seconds_of_kernels() -> float:
    """CPU time of the kernels that have ended: what a wall clock would say on a core of its own."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


@EACH
def test_notebook(path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    before = cpu_seconds_of_kernels()
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert not [output for output in outputs(notebook) if output.get("name") == "stderr"]
    assert 0 < cpu_seconds_of_kernels() - before < MAX_SECONDS


@EACH
def test_what_is_stored(path):
    """The site shows the stored output: all of it, with pictures, without warnings and paths of a machine."""
    notebook = nbformat.read(path, as_version=4)
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert not [output for output in outputs(notebook) if output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs(notebook))
    said = [str(output.get("text", output.get("data", {}).get("text/plain"))) for output in outputs(notebook)]
    assert not [text for text in said if any(place in text for place in ("/home/", "/tmp/", "/root/", "/work/"))]
    assert path.stat().st_size < MAX_BYTES


@EACH
def test_ends_with_an_exercise(path):
    last = nbformat.read(path, as_version=4).cells[-1]
    assert last.cell_type == "markdown"
    assert "## Exercise\n" in last.source
    assert "?" in last.source.partition("## Exercise\n")[2]
