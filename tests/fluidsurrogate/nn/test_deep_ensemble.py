"""An ensemble as one model: its members are what they would be one by one, its forecast is their mean."""

import pytest
import torch

import fluidsurrogate as fs
from fluidsurrogate import Experiment, UsageError
from fluidsurrogate.evaluation.equivariance import equivariance_error
from fluidsurrogate.nn import ARCHITECTURES, DeepEnsemble
from fluidsurrogate.simulation.rollout import rollout
from fluidsurrogate.training.train import prepare_training
from fluidsurrogate.training.windows import InMemoryTrajectories
from solvers import D4, TRACER, VELOCITY, VORTICITY


@pytest.mark.parametrize("max_cells", [0, 4096])
@pytest.mark.parametrize("kind", ["gcnn", "gunet", "gfno", "cnn"])
@pytest.mark.parametrize("fields", [(VORTICITY,), (VELOCITY, TRACER)])
def test_one_by_one(kind, fields, max_cells, monkeypatch):
    monkeypatch.setattr("fluidsurrogate.nn.deep_ensemble.MAX_CELLS_TOGETHER", max_cells)
    torch.manual_seed(0)
    networks = [ARCHITECTURES[kind](fields, fields, width=8) for _ in range(3)]
    x = torch.randn(3, 2, sum(f.components for f in fields), 16, 16)
    together = DeepEnsemble(networks)
    expected = torch.cat([network(part) for network, part in zip(networks, x, strict=True)])
    got = together(x.flatten(0, 1))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    got.square().sum().backward()
    expected.square().sum().backward()
    for name, weight in networks[1].named_parameters():
        rounding = 1e-5 * max(1.0, float(weight.grad.abs().max()))
        own = together.get_parameter(name.replace(".", "/")).grad[1]
        torch.testing.assert_close(own, weight.grad, rtol=1e-3, atol=max(1e-4, rounding))


OPTIONS = ["train.noise=0.1", "train.clip=0.05", "models.small-d4.augment=D4"]


def trainer_of(toml, *overrides, network=None):
    experiment = Experiment.read(toml, [*OPTIONS, *overrides])
    data = fs.generate(experiment)
    train, valid = (InMemoryTrajectories.from_dataset(data, split, experiment) for split in ("train", "valid"))
    return prepare_training(experiment, "small-d4", train, valid, {}, network)


def test_trained_together_as_trained_one_by_one(toml):
    """Noise, augmentation and a clipped gradient included: each member's weights are those of its own training."""
    together = trainer_of(toml, "models.small-d4.networks=2")
    fresh = {key: value.clone() for key, value in together.network.state_dict().items()}
    for together.step in (0, 1, 2):
        together._train_step(together.batches[together.step])
    for member in range(2):
        alone = trainer_of(toml)
        alone.network.load_state_dict({key.replace("/", "."): value[member] for key, value in fresh.items()})
        for alone.step in (0, 1, 2):
            alone._train_step(alone.batches[alone.step])
        for key, value in alone.network.state_dict().items():
            torch.testing.assert_close(
                together.network.state_dict()[key.replace(".", "/")][member], value, rtol=0, atol=2e-5
            )
    first, second = together.network.state_dict()["lift/weight"]
    assert float((first - second).abs().max()) > 0.01


def test_forecast_is_the_mean_of_members_that_go_their_own_ways(toml, tmp_path):
    trainer = trainer_of(toml, "models.small-d4.networks=3")
    model = trainer.run()
    state = trainer.valid.states[:, 0]
    with torch.no_grad():
        mean = rollout(model, state, 3)
        members = rollout(model.each_network(), state, 3, first_from_stepper=True)[:, 3].unflatten(0, (3, -1))
        again = model(model(model(state)))
    torch.testing.assert_close(mean[:, 3], members.mean(0))
    assert float((again - mean[:, 3]).abs().max()) > 1e-6  # the control: to average at every step is something else
    assert max(equivariance_error(model, state, D4).values()) < 1e-4
    fs.save(model, tmp_path)
    with torch.no_grad():
        assert torch.equal(rollout(fs.load(tmp_path), state, 3), mean)


def test_what_has_no_members(toml):
    with pytest.raises(UsageError, match="networks must be 1 for kind = 'module'"):
        Experiment.read(toml, ["models.small-d4={kind = 'module', path = 'a:B', networks = 2}"])
    with pytest.raises(UsageError, match=r"models.small-d4.networks: input should be greater than or equal to 1"):
        Experiment.read(toml, ["models.small-d4.networks=0"])


def test_forecast_with_the_networks_as_members(toml):
    experiment = Experiment.read(toml, ["models.small-d4.networks=3"])
    data = fs.generate(experiment)
    model = fs.train(experiment, data, ["small-d4"])["small-d4"]
    test = data.isel(trajectory=slice(4, 6))
    forecast, mean = fs.forecast(model, test, 3, members=3), fs.forecast(model, test, 3)
    fields = forecast["vorticity"].transpose("member", "trajectory", "time", "y", "x").values
    assert (fields[0] == mean["vorticity"].values).all()
    assert abs(fields[1:].mean(0) - fields[0]).max() < 1e-5
    assert (fields[1:, :, 0] == test["vorticity"].values[:, 0]).all()
    scores = fs.compare({"ensemble": forecast}, test.isel(time=slice(0, 4)))
    assert float(scores["crps"][0, 3]) > 0
    for members, said in ((2, r"members must be 1 or 3 \(got 2\)"), (4, r"members must be 1 or 3 \(got 4\)")):
        with pytest.raises(UsageError, match=said):
            fs.forecast(model, test, 3, members=members)
