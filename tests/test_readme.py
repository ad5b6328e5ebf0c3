"""What the README shows runs."""

import re
from pathlib import Path

import torch

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(block, **names):
    exec(compile(block, "README.md", "exec"), names)
    return names


def test_the_solver_alone():
    (block,) = [block for block in BLOCKS if "NavierStokes2D(" in block]
    names = run(block)
    assert names["later"].shape == names["vorticity"].shape
    assert 0.5 < float(names["later"].norm() / names["vorticity"].norm()) < 1.0


def test_generate_load_forecast_compare(trained, tmp_path, monkeypatch):
    """The block as it stands, on the miniature's files in the places that it names."""
    import fluidsurrogate as fs

    (block,) = [block for block in BLOCKS if "fs.compare(" in block]
    data, models = trained
    fs.calibrate(models["small-d4"], starts=20, members=8).save(tmp_path / "runs" / "demo" / "models" / "gcnn-d4")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fs, "generate", lambda path: data, raising=False)
    names = run(block.replace("steps=20", "steps=4"))
    assert torch.tensor(names["scores"]["nrmse"].values).shape == (1, 5)
    assert torch.tensor(names["scores"]["crps"].values).isfinite().all()
