"""A few random experiment files and damaged results; `python tests/fuzz.py` runs as many as you like."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("count", [10, pytest.param(50, marks=pytest.mark.slow)])
def test_whatever_is_read_is_taken_or_refused_in_a_few_lines(tmp_path, count):
    command = [sys.executable, "fuzz.py", "--experiments", str(count), "--results", str(count), "--seed", "3"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        command, cwd=Path(__file__).parent, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout
    said = done.stdout.splitlines()[-1]
    assert sum(int(part.split()[-1]) for part in said.split(", ")) == 2 * count
    assert "fault" not in said
    assert "experiments read" in said
    assert "results refused" in said
