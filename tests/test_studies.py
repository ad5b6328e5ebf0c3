"""The scripts of the studies run, and write what they promise."""

import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@pytest.mark.slow
def test_the_published_benchmark_in_miniature(tmp_path):
    script = EXPERIMENTS / "published_benchmark" / "run.py"
    options = ["--setting", "miniature", "--runs", tmp_path / "runs", "--results", tmp_path]
    subprocess.run([sys.executable, script, *options], check=True, cwd=tmp_path)
    made = {path.stem for path in (tmp_path / "miniature").glob("*.json")}
    assert {"solver", "gunet-0", "gunet-C4-0", "unet-augmented-0", "gcnn-0", "gfno-0", "hybrid-0"} <= made
    assert "| G-FNO-p4 | 2.24 |" in (tmp_path / "results.md").read_text(encoding="utf-8")
