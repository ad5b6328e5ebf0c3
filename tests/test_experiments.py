"""Every experiment that we ship is valid, and the flows are all among them."""

from pathlib import Path

import pytest

import fluidsurrogate as fs
from solvers import FLOWS

PATHS = sorted((Path(__file__).parents[1] / "experiments").rglob("*.toml"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_experiment_is_valid(path):
    experiment = fs.Experiment.read(path)
    assert experiment.spec.components == (1 if experiment.build_flow().scalar is None else 2)


def test_every_flow_has_an_experiment():
    assert {fs.Experiment.read(path).build_flow().kind for path in PATHS} == set(FLOWS)
