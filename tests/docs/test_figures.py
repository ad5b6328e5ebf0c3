"""The figures of the concept pages can be drawn again, and what is committed is small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs

FIGURES = Path(__file__).parents[2] / "docs" / "figures"
SCRIPTS = sorted(path for path in FIGURES.glob("*.py") if path.stem != "style")
LARGEST = 200_000  # bytes


@pytest.mark.parametrize("script", [pytest.param(path, id=path.stem) for path in SCRIPTS])
def test_script_draws_its_figure(script, tmp_path):
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (drawn,) = tmp_path.iterdir()
    assert (FIGURES / drawn.name).is_file()
    assert drawn.stat().st_size <= LARGEST


def test_committed_figures_are_small():
    pictures = [path for path in FIGURES.iterdir() if path.suffix in (".svg", ".png")]
    assert len(pictures) == len(SCRIPTS)
    assert not [path.name for path in pictures if path.stat().st_size > LARGEST]
