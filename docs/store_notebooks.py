"""Run notebooks from top to bottom and store them with their output.

make notebooks                          all
make notebooks NOTEBOOK=notebooks/06*   one
"""

from __future__ import annotations

import base64
import io
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

from fluidsurrogate.core.files import atomic_write


def with_fewer_colours(png: str) -> str:
    """Return a PNG picture, in base64, with 256 colours: a third of the bytes, and no difference that one sees.

    Maximum coverage keeps rare colours, which the median cut turns into others.
    """
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    small = io.BytesIO()
    picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def store(path: Path) -> None:
    """Run a notebook and write it back with its output.

    Parameters
    ----------
    path : Path
        The notebook. It runs in its own folder, on one thread.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=600, record_timing=False, resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if png := output.get("data", {}).get("image/png"):
                output.data["image/png"] = with_fewer_colours(png)
    with atomic_write(path) as beside:
        nbformat.write(notebook, beside)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in sys.argv[1:]:
        store(Path(name))
