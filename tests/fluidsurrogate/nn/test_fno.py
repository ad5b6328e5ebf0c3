"""The FNO of the neuraloperator package as one of our models; without the package, one line says what to install."""

import sys

import numpy as np
import pytest
import torch

import fluidsurrogate as fs
from fluidsurrogate import Experiment, UsageError
from fluidsurrogate.nn import ARCHITECTURES
from fluidsurrogate.training.train import prepare_training
from fluidsurrogate.training.windows import InMemoryTrajectories
from solvers import FORCING, VORTICITY

FNO = "models.fno={kind = 'fno', modes = 6, width = 8, layers = 2}"


def test_without_the_package_it_says_what_to_install(toml, monkeypatch):
    monkeypatch.setitem(sys.modules, "neuralop.models", None)
    with pytest.raises(UsageError) as caught:
        Experiment.read(toml, [FNO])
    assert 'models.fno: kind = "fno" needs pip install "fluidsurrogate[fno]"' in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture(scope="module")
def theirs():
    return pytest.importorskip(
        "neuralop.models", reason='neuraloperator is not there: pip install "fluidsurrogate[fno]"'
    )


def test_it_is_their_network(theirs):
    torch.manual_seed(0)
    ours = ARCHITECTURES["fno"]((VORTICITY, FORCING), (VORTICITY,), modes=8, width=12, layers=3)
    torch.manual_seed(0)
    options = {"in_channels": 2, "out_channels": 1, "hidden_channels": 12, "n_layers": 3}
    reference = theirs.FNO(n_modes=(8, 8), positional_embedding=None, **options)
    x = torch.randn(3, 2, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), reference(x), rtol=0, atol=0)
        torch.testing.assert_close(ours(x.roll((3, -1), (2, 3))), ours(x).roll((3, -1), (2, 3)), rtol=0, atol=1e-5)


def test_it_learns(theirs, toml):
    overrides = ["data.train=1", "data.steps=2", "train.steps=150", "train.learning_rate=1e-2", "train.unroll=1"]
    experiment = Experiment.read(toml, [FNO, *overrides, "train.valid_every=1"])
    train = InMemoryTrajectories.from_dataset(fs.generate(experiment), "train", experiment)
    trainer, losses = prepare_training(experiment, "fno", train, train, {}), []
    trainer.run(report=lambda step, note: losses.append(trainer.history[-1]["loss"]))
    assert losses[0] / min(losses) > 15


def test_its_complex_weights_survive(theirs, toml, tmp_path, trained):
    data, _ = trained
    model = fs.train(Experiment.read(toml, [FNO]), data, ["fno"])["fno"]
    fs.save(model, tmp_path / "fno")
    loaded = fs.load(tmp_path / "fno")
    forecasts = [fs.forecast(m, data, 4) for m in (model, loaded)]
    assert np.array_equal(forecasts[0]["vorticity"], forecasts[1]["vorticity"])
    spectral = [weight.detach() for weight in loaded.network.parameters() if weight.is_complex()]
    assert [tuple(weight.shape) for weight in spectral] == [(8, 8, 6, 4)] * 2
    assert min(weight.imag.abs().max() for weight in spectral) > 1e-2


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("models.fno.modes=18", "modes must be at most the 16 cells of the grid's shorter side (got 18)"),
        ("models.fno.modes=5", "modes must be even and at least 2: as many positive as negative ones (got 5)"),
        ("models.fno.modes=0", "modes must be even and at least 2"),
        ("models.fno.width=1", "width must be at least 2 and layers 1 to 100 (got 1 and 2)"),
        ("models.fno.layers=0", "width must be at least 2 and layers 1 to 100 (got 8 and 0)"),
        ("dtype=float64", "complex and kept in single precision: take dtype = 'float32'"),
    ],
)
def test_bad_options(theirs, toml, override, said):
    with pytest.raises(UsageError) as caught:
        Experiment.read(toml, [FNO, override])
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
