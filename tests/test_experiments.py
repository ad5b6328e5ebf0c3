"""Every experiment that we ship is valid."""

from pathlib import Path

import pytest

import fluidsurrogate as fs

PATHS = sorted((Path(__file__).parents[1] / "experiments").rglob("*.toml"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_experiment_is_valid(path):
    experiment = fs.Experiment.read(path)
    assert experiment.spec.components == (1 if experiment.build_flow().scalar is None else 2)
