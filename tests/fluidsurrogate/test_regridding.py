"""A trained step on another grid: the same step where that means something, refused or flagged elsewhere."""

import numpy as np
import pytest
import torch

import fluidsurrogate as fs
from fluidsurrogate import Experiment, UsageError
from fluidsurrogate.config.flow_and_model_configs import ModelConfig
from fluidsurrogate.data.grids import grid_of
from fluidsurrogate.evaluation.equivariance import equivariance_error
from fluidsurrogate.models.normalisation import Normalisation
from fluidsurrogate.models.regridding import move_normalisation
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.nn import ARCHITECTURES
from solvers import D2, D4, VISCOSITY, VORTICITY, Grid, StateSpec
from solvers.grid import sample_modes

OWN, LARGER, FINER = Grid.square(16), Grid.square(32, 4 * np.pi), Grid.square(24)
SPEC = StateSpec(OWN, (VORTICITY,), 0.25, (VISCOSITY,))
NETWORKS = {
    "gcnn": {"group": "D4", "width": 16, "dilations": (1, 2)},
    "gunet": {"group": "D4", "width": 16, "levels": 1},
    "gfno": {"group": "D4", "width": 16, "modes": 3, "layers": 2},
    "cnn": {"width": 8, "dilations": (1, 2)},
}


def surrogate(kind, **options):
    """Untrained weights, in double precision; the band cuts into what they say."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        build = ARCHITECTURES[kind]
        network = build(SPEC.fields + SPEC.inputs, SPEC.fields, **(NETWORKS[kind] | options)).double().eval()
    normalisation = Normalisation((0.0, 0.0), (1.0, 1.0), (0.3,), (5, 5))
    return Surrogate(network, SPEC, normalisation, ModelConfig(kind=kind), {"name": kind})


def states(grid):
    return torch.randn(2, 1, *grid.n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


GIVEN = {"viscosity": torch.full((2, 1, 1, 1), 0.3, dtype=torch.float64)}


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_same_cells_in_a_larger_box(kind):
    """A tiled state stays the tiled forecast, band and all: the same step, for what is local. `gfno`, the control, is
    not: its modes are those of the box."""
    model = surrogate(kind)
    moved = fs.move_to_grid(model, LARGER)
    tiled = states(OWN).repeat(1, 1, 2, 2)
    with torch.no_grad():
        expected, got = model(states(OWN), GIVEN).repeat(1, 1, 2, 2), moved(tiled, GIVEN)
    error = float((got - expected).norm() / (expected - tiled).norm())
    assert error > 0.1 if kind == "gfno" else error < 1e-12


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("grid", [LARGER, FINER, Grid.box([16, 32], [2 * np.pi, 4 * np.pi])])
def test_equivariant_there_too(kind, grid):
    model = surrogate(kind)
    group = D4 if grid.is_square else D2
    if not grid.is_square and kind != "cnn":
        with pytest.raises(UsageError, match="group D4 is not a symmetry of 16 x 32 cells"):
            fs.move_to_grid(model, grid)
        return
    errors = equivariance_error(fs.move_to_grid(model, grid), states(grid), group, GIVEN)
    assert (max(errors.values()) < 1e-12) == (kind != "cnn")


def test_its_own_grid_is_itself():
    model = surrogate("gcnn")
    assert fs.move_to_grid(model, Grid.square(16)) is model
    assert (
        fs.move_to_grid(model, Grid.square(16, 2 * np.pi * (1 + 1e-6))) is model
    )  # as coordinates in single precision say it


def test_the_cut_off_is_the_same_wavenumber():
    """In proportion to the box; all modes of the coarse grid, no cut there, are one on finer cells."""
    normalisation = Normalisation((0.0,), (1.0,), (1.0,), (5, 5))
    assert move_normalisation(normalisation, OWN, LARGER).band == (10, 10)
    assert move_normalisation(normalisation, OWN, FINER).band == (5, 5)
    assert move_normalisation(normalisation, OWN, Grid.square(16, np.pi)).band == (2, 2)
    assert move_normalisation(normalisation, OWN, Grid.square(8)).band == (4, 4)
    assert move_normalisation(normalisation, OWN, Grid.square(32, float(np.float32(4 * np.pi)) * (1 - 1e-7))).band == (
        10,
        10,
    )
    assert move_normalisation(normalisation, OWN, Grid.box([16, 32], [2 * np.pi, 4 * np.pi])).band == (5, 10)
    everything = Normalisation((0.0,), (1.0,), (1.0,), (8, 8))
    assert move_normalisation(everything, OWN, FINER).band == (8, 8)
    assert move_normalisation(everything, OWN, LARGER).band == (16, 16)


def test_the_change_holds_no_finer_modes():
    model = fs.move_to_grid(surrogate("gcnn"), FINER)
    with torch.no_grad():
        change = model(states(FINER), GIVEN) - states(FINER)
    my, mx = FINER.modes()
    beyond = torch.fft.rfft2(change)[..., (my > 5) | (mx > 5)]
    assert float(beyond.abs().max()) < 1e-11 * float(torch.fft.rfft2(change).abs().max())


def test_waves_keep_their_modes():
    """`gfno`'s global part by itself: the same function of the box, on whichever grid it is sampled."""
    from fluidsurrogate.nn.layers import SpectralGroupConv2d

    torch.manual_seed(0)
    layer = SpectralGroupConv2d(D4, 1, 1, 3).double()
    coefficients = torch.randn(8, 7, 4, dtype=torch.complex128)
    coefficients[:, :3, 0] = coefficients[:, 4:, 0].flip(1).conj()
    coefficients[:, 3, 0] = 0
    coarse, fine = (layer(sample_modes(coefficients, grid)[None, None]) for grid in (OWN, Grid.square(48)))
    torch.testing.assert_close(fine[..., 1::3, 1::3], coarse)  # every third centre of 48 is one of 16


def test_what_an_architecture_cannot():
    deep, wide = surrogate("gunet", levels=2), surrogate("gfno", modes=7)
    with pytest.raises(UsageError, match=r"cannot be applied to 18 x 18 cells .*multiples of 4"):
        fs.move_to_grid(deep, Grid.square(18))
    with pytest.raises(UsageError, match=r"cannot be applied to 12 x 12 cells .*a grid of more than 14 cells"):
        fs.move_to_grid(wide, Grid.square(12))


def test_forecasts_say_so(trained, toml, tmp_path, caplog):
    """Refused unless asked for; then flagged in the log and in the attributes, through saving and loading."""
    data, models = trained
    finer = fs.generate(Experiment.read(toml, ["grid.n=24", "models={}"]))
    model = models["small-d4"]
    for forecast in (
        lambda d, n: fs.forecast(model, d, n),
        lambda d, n: fs.forecast_to_zarr(model, d, n, tmp_path / "x.zarr"),
    ):
        with pytest.raises(UsageError, match=r"expected 16 x 16.*fs.move_to_grid\(model, grid\), or --other-grid"):
            forecast(finer, 2)
    moved = fs.move_to_grid(model, grid_of(finer))
    assert "trained on 16 x 16 cells on 6.28319 x 6.28319, applied to 24 x 24 cells" in caplog.text
    fs.save(moved, tmp_path / "moved")
    for one in (
        fs.forecast(moved, finer, 2),
        fs.forecast_to_zarr(fs.load(tmp_path / "moved"), finer, 2, tmp_path / "x.zarr"),
    ):
        assert one.attrs["trained_on_grid"] == "16 x 16 cells on 6.28319 x 6.28319"
        assert one.attrs["applied_to_grid"] == "24 x 24 cells on 6.28319 x 6.28319"
        assert one["vorticity"].sizes == {"trajectory": 6, "time": 3, "y": 24, "x": 24}
    assert fs.info(tmp_path / "x.zarr")["says"]["applied_to_grid"] == "24 x 24 cells on 6.28319 x 6.28319"
    assert "trained_on_grid" not in fs.forecast(model, data, 1).attrs
    assert np.isfinite(one["vorticity"]).all()
