"""Every architecture learns the demo's flow within a minute of one core: half the error of persistence over a step.

The FNO of neuraloperator does not get there from eight trajectories, with 700,000 weights, whatever its learning rate:
it is held to beating persistence.
"""

import time
from pathlib import Path

import pytest

import fluidsurrogate as fs
from fluidsurrogate.data.conversion import to_dataset, to_states
from fluidsurrogate.simulation.rollout import Persistence

DEMO = Path(__file__).parents[2] / "experiments" / "five_networks.toml"
STEPS = {"gcnn": 250, "cnn": 250, "gunet": 250, "unet": 250, "gfno": 250, "fno": 250}


@pytest.fixture(scope="module")
def demo():
    tree = fs.Experiment.read(
        DEMO, ["data.valid=4", "data.test=8", "data.test_steps=20", "train.unroll_fraction=0.0"]
    ).tree()
    return tree, fs.generate(fs.Experiment.from_tree(tree))


@pytest.mark.slow
@pytest.mark.parametrize("kind", STEPS)
def test_half_the_error_of_persistence_within_a_minute(demo, kind):
    if kind == "fno":
        pytest.importorskip("neuralop", reason='pip install "fluidsurrogate[fno]"')
    tree, data = demo
    train = tree["train"] | {"steps": STEPS[kind], "valid_every": 50}
    experiment = fs.Experiment.from_tree(tree | {"models": {"one": {"kind": kind}}, "train": train})
    began = time.process_time()
    model = fs.train(experiment, data)["one"]
    took = time.process_time() - began
    test = data.isel(trajectory=data["split"].values == "test")
    states = fs.rollout(Persistence(model.spec), to_states(test, model.spec)[:, 0], 1)
    still = to_dataset(model.spec, states)
    still = still.assign_coords(time=test["time"][:2].values, trajectory=test["trajectory"].values)
    forecasts = {"one": fs.forecast(model, test, 1), "persistence": still}
    scores = fs.compare(forecasts, test.isel(time=slice(2)))["nrmse_first_step"]
    bound = 0.85 if kind == "fno" else 0.5
    assert float(scores.sel(source="one")) <= bound * float(scores.sel(source="persistence"))
    assert took < 60
