"""What the README shows runs."""

import re
import shutil
from pathlib import Path

import numpy as np

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(block, **names):
    exec(compile(block, "README.md", "exec"), names)
    return names


def test_it_is_short():
    assert len(README.split()) <= 1200


def test_the_solver_alone():
    (block,) = [block for block in BLOCKS if "NavierStokes2D(" in block]
    names = run(block)
    assert names["later"].shape == names["vorticity"].shape
    assert 0.5 < float(names["later"].norm() / names["vorticity"].norm()) < 1.0


def test_a_first_forecast():
    names = run(next(block for block in BLOCKS if "fs.pretrained(" in block))
    bound = names["forecast"]["error_bound"].values
    assert (np.diff(bound) > 0).all()
    assert 0 < float(names["forecast"]["horizon"][0]) <= 5


def test_train_resume_forecast_compare(tmp_path, monkeypatch):
    """The block as it stands, on the miniature in the place of the demo; run twice, nothing is made a second time."""
    block = next(block for block in BLOCKS if "fs.compare(" in block)
    for old, new in (
        ("steps=20", "steps=4"), ("slice(0, 21)", "slice(0, 5)"), ("gcnn-d4", "small-d4"),
        ('models["small-d4"])', 'models["small-d4"], starts=20)'),
    ):  # fmt: skip
        assert old in block
        block = block.replace(old, new)
    (tmp_path / "experiments").mkdir()
    shutil.copy(Path(__file__).with_name("miniature.toml"), tmp_path / "experiments" / "demo.toml")
    monkeypatch.chdir(tmp_path)
    names = run(block)
    assert names["scores"]["nrmse"].shape == (1, 5)
    assert np.isfinite(names["scores"]["crps"].values).all()
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs" / "demo" / "models").rglob("*.*")}
    run(block)
    assert written == {p: p.stat().st_mtime_ns for p in (tmp_path / "runs" / "demo" / "models").rglob("*.*")}
