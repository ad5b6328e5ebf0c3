"""Every experiment that we ship is valid."""

from pathlib import Path

import pytest

import fluidsurrogate as fs

PATHS = sorted((Path(__file__).parents[1] / "experiments").rglob("*.toml"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_experiment_is_valid(path):
    experiment = fs.Experiment.read(path)
    flow_components = 1 if experiment.spec.grid.dimensions == 2 else 3  # of the vorticity, or in space the velocity
    scalars = experiment.build_flow().scalar is not None
    assert experiment.spec.components == flow_components + scalars
