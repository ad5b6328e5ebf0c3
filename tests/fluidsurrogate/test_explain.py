"""What a model has learned: each measurement against a closed form, or against a model that is known."""

import math

import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib import image
from torch import nn

import fluidsurrogate as fs
from fluidsurrogate.auditing.module_stepper import ModuleStepper
from fluidsurrogate.cli import main
from fluidsurrogate.explaining.feature_layers import find_feature_layers, recorded
from fluidsurrogate.explaining.filters import measure_filters
from fluidsurrogate.explaining.group_axis import ablations, measure_ablation, measure_contributions
from fluidsurrogate.explaining.receptive_field import extent, radius_holding, sensitivity
from fluidsurrogate.explaining.report import explanation_table
from fluidsurrogate.explaining.sample import LeftOutError, Sample, select_pairs
from fluidsurrogate.explaining.vortices import (
    descent_of_pair,
    drift_of_pair,
    gaussian_vortex,
    pair_of_vortices,
    vorticity_states,
)
from fluidsurrogate.nn import GroupConv, LiftingConv
from fluidsurrogate.nn.layers import ReadoutConv
from solvers import D4, VELOCITY, VORTICITY, Grid, NavierStokes2D, StateSpec, act_on_fields, group_named
from solvers.continuous_symmetry import shift
from solvers.diagnostics import vorticity

N = 16
GRID = Grid.square(N)
SPEC = StateSpec(GRID, (VORTICITY,), interval=0.25)


class Step(nn.Module):
    """A small group network with a residual step, and nothing around it."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.group = D4
            self.lift, self.conv = LiftingConv(D4, [VORTICITY], 2), GroupConv(D4, 2, 2)
            self.out = ReadoutConv(D4, 2, [VORTICITY])
        self.double()

    def forward(self, x):
        return x + self.out(torch.tanh(self.conv(torch.tanh(self.lift(x)))))


def smooth(count=3, seed=0, n=N):
    """Band-limited states without a mean."""
    noise = torch.randn(count, 1, n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    k = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
    radius = torch.hypot(k[:, None], k)
    return torch.fft.ifft2(torch.fft.fft2(noise) * ((radius <= n / 4) & (radius > 0))).real * 4


def pairs_of(step, count=3):
    """States and what is called the truth: what another network makes of them."""
    before = smooth(count)
    with torch.no_grad():
        return Sample(before, step(before), None)


def quarter_turn(array):
    """Counter-clockwise, with x along columns and y growing with the rows: (x, y) reads what was at (y, −x)."""
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in array.shape[-2:]), indexing="ij")
    return array[..., array.shape[-1] - 1 - columns, rows]


@pytest.fixture(scope="module")
def explained(trained):
    """The miniature's two models, explained on its data."""
    data, models = trained
    return {name: fs.explain(model, data=data) for name, model in models.items()}


# -- filters and features


def test_filters_of_an_element_are_turned_ones(explained):
    """Against turns and flips of arrays: a pseudoscalar's filter changes its sign under a mirror."""
    of_d4, of_cnn = (explained[name] for name in ("small-d4", "small-cnn"))
    filters = of_d4["filter"].sel(filter_component="vorticity")
    first = torch.tensor(filters.sel(filter_element="identity").values)
    turned = torch.tensor(filters.sel(filter_element="rotation 90").values)
    mirrored = torch.tensor(filters.sel(filter_element="mirror x").values)
    assert torch.equal(turned, quarter_turn(first))
    assert torch.equal(mirrored, -first.flip(-1))
    assert not torch.equal(mirrored, first.flip(-1))
    u, v = (torch.tensor(of_d4["filter"].sel(filter_component=f"velocity {a}").values) for a in "xy")
    assert torch.equal(v[:, 1], quarter_turn(u[:, 0]))  # the x axis is turned to the y axis
    assert of_d4["orbit_error"].max() == 0
    assert of_cnn["orbit_error"].min() > 0.3


def test_orbits_of_a_layer_whose_filters_are_known():
    """A ring is its own turned copy; an arrow is as far from it as Pythagoras says."""
    layer = nn.Conv2d(1, 1, 3, bias=False)
    layer.weight.data[:] = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])
    found = measure_filters(layer, [VORTICITY], D4)["orbit_error"]
    assert float(found.sel(element="rotation 90")) == 0
    assert float(found.sel(element="mirror x")) == 2  # −ψ is as far from ψ as 2 |ψ|
    layer.weight.data[:] = torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, 0, 0]])
    found = measure_filters(layer, [VORTICITY], D4)["orbit_error"]
    assert math.isclose(float(found.sel(element="rotation 90")), math.sqrt(2))


def test_feature_maps_turn_with_the_input(explained):
    """Against turned arrays: the map of an element is another's, turned. Not so in a plain network."""
    of_d4, of_cnn = (explained[name] for name in ("small-d4", "small-cnn"))
    maps, source = of_d4["feature_map"], of_d4["map_source"].values
    for layer in ("first", "last"):
        before, after = torch.tensor(maps.sel(layer=layer).values)
        assert torch.allclose(after, quarter_turn(before)[source], atol=1e-4 * float(before.abs().max()))
        assert not torch.allclose(after, quarter_turn(before), atol=0.1 * float(before.abs().max()))
    assert sorted(source) == list(range(8))
    assert (of_d4["feature_turn_error"] < 1e-5).all()
    assert (of_cnn["feature_turn_error"] > 0.3).all()


def test_features_are_found_in_networks_of_all_kinds(trained):
    network = trained[1]["small-d4"].network
    x = torch.randn(1, 3, N, N)
    found = find_feature_layers(network, lambda: network(x))
    assert [layer.name for layer in found] == ["lifting", "blocks.0", "blocks.1"]
    assert {layer.shape for layer in found} == {(1, 2, 8, N, N)}
    plain = nn.Sequential(nn.Conv2d(1, 4, 3, padding="same"), nn.GELU(), nn.Conv2d(4, 1, 3, padding="same"))
    found = find_feature_layers(plain, lambda: plain(x[:, :1]))
    assert [(layer.name, layer.has_alpha) for layer in found] == [("0", False)]
    with pytest.raises(LeftOutError, match="no layer"):
        find_feature_layers(nn.GELU(), lambda: None)
    step = Step()
    found = find_feature_layers(step, lambda: step(x[:, :1].double()))
    assert [layer.name for layer in found] == ["lift", "conv"]


def test_recorded_features_are_those_of_the_formula():
    step, x = Step(), smooth(1)
    layers = find_feature_layers(step, lambda: step(x))
    with recorded(layers) as features:
        step(x)
    assert torch.equal(features[0], step.lift(x))
    assert torch.equal(features[1], step.conv(torch.tanh(step.lift(x))))
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in step.modules())


# -- receptive field


def test_receptive_field_of_a_stack_of_convolutions():
    """Sides 5 and 3 with dilation 2 reach 2 + 2 cells, and not one more."""
    layers = [nn.Conv2d(1, 3, 5, padding=2, padding_mode="circular"),
              nn.Conv2d(3, 1, 3, padding=2, dilation=2, padding_mode="circular")]  # fmt: skip
    stack = nn.Sequential(*layers).double()
    found = sensitivity(stack, smooth())[0]
    assert extent(found) == 4
    inside = (torch.arange(N) - N // 2).abs() <= 4
    assert (found[~inside] == 0).all()
    assert (found[:, ~inside] == 0).all()
    assert extent(sensitivity(layers[0].double(), smooth())[0]) == 2


def test_sensitivity_of_one_convolution_is_its_kernel():
    layer = nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular", dtype=torch.float64)
    found, middle = sensitivity(layer, smooth())[0], N // 2
    assert torch.allclose(found[middle - 1 : middle + 2, middle - 1 : middle + 2], layer.weight[0, 0].abs())
    nn.init.zeros_(layer.weight)
    layer.weight.data[0, 0, 1, 1] = 1  # the identity: its blurred derivative is the Gaussian itself
    blurred = sensitivity(layer, smooth(n=32), blur=1.5)[0]
    assert torch.allclose(
        blurred, gaussian_vortex(Grid.square(32), (16.5, 16.5), 1 / (2 * math.pi * 1.5**2)), atol=1e-4
    )


def test_radius_that_holds_a_fraction():
    field = torch.zeros(32, 32)
    field[16, 16], field[16, 16 + 3], field[16 + 5, 16] = 3.0, 1.0, math.sqrt(0.5)  # squares: 9, 1, 1/2
    assert [radius_holding(field, f) for f in (0.5, 0.9, 0.99)] == [0, 3, 5]
    assert math.isnan(radius_holding(torch.zeros(4, 4)))


# -- vortices


def test_a_vortex_has_the_circulation_of_the_formula():
    found = float(gaussian_vortex(GRID, (3.2, 15.9), 2.0).sum())
    assert math.isclose(found, 2.0 * 2 * math.pi * 1.5**2, rel_tol=1e-6)


def test_drift_of_a_pair_far_apart():
    """U = Γ / 2πd in the plane; the box's images are far away."""
    grid = Grid.square(256, length=256.0)
    circulation = 2 * math.pi * 1.5**2
    found = drift_of_pair(pair_of_vortices(grid, 12.0, 1.0), grid)
    assert math.isclose(found, circulation / (2 * math.pi * 12), rel_tol=0.01)
    assert drift_of_pair(pair_of_vortices(grid, 24.0, 1.0), grid) < 0.52 * found


def test_descent_of_a_pair_is_that_of_a_shift():
    pair = pair_of_vortices(GRID, 6.0, 1.0)
    moved = shift(pair[None, None], (-0.7, 0.0))[0, 0]
    assert math.isclose(descent_of_pair(pair, moved, GRID), 0.7 * GRID.spacing[0], rel_tol=0.02)


def test_states_of_velocity_hold_the_same_vortices():
    spec = StateSpec(GRID, (VELOCITY,), interval=0.25)
    pair = pair_of_vortices(GRID, 6.0, 1.0)[None]
    states = vorticity_states(spec, pair)
    assert torch.allclose(vorticity(states, GRID)[:, 0], pair - pair.mean(), atol=1e-3)  # but for Nyquist


def test_the_solver_is_its_own_reference(trained):
    """A solver explained against itself has no error; another viscosity has."""
    data = trained[0]
    solver, other = (NavierStokes2D(GRID, viscosity=v, interval=0.25, dtype=torch.float64) for v in (2e-2, 2e-1))
    same = fs.explain(solver, data=data, solver=solver)
    assert same["response_error"].max() == 0
    assert same["pair_speed_error"] == 0
    assert np.array_equal(*same["sensitivity"].values)
    assert same["equivariance_error_of_step"].max() < 1e-10
    assert "this stepper is no network" in same.attrs["left_out"]
    assert fs.explain(other, data=data, solver=solver)["response_error"].min() > 0.1
    alone = fs.explain(solver, data=data)
    assert "response_error" not in alone
    assert alone["pair_speed_error"] < 0.15  # the core moves as the law of Biot and Savart says
    assert "the solver of this flow is not known" in alone.attrs["left_out"]


# -- scales


def test_the_error_spectrum_sums_to_the_squared_error(trained, explained):
    """Parseval, against the norms of the fields themselves."""
    data, models = trained
    for name, result in explained.items():
        sample = select_pairs(models[name].spec, data)
        with torch.no_grad():
            after = models[name](sample.before).double()
        expected = float((after - sample.after).norm() / sample.after.norm())
        ratio = result["error_spectrum"].sum() / result["truth_spectrum"].sum()
        assert math.isclose(float(ratio) ** 0.5, expected, rel_tol=1e-6)
        assert math.isclose(float(result["step_error"].max()), expected, rel_tol=1e-6)


def test_the_error_of_the_symmetry_is_that_of_the_audit(trained, explained):
    data, models = trained
    model, result = models["small-cnn"], explained["small-cnn"]
    before = select_pairs(model.spec, data).before
    errors = np.array(list(fs.equivariance_error(model, before, D4).values()))
    found = float(result["equivariance_error_of_step"].max())
    assert math.isclose(found, np.sqrt((errors**2).mean()), rel_tol=1e-3)
    assert found > 100 * float(explained["small-d4"]["equivariance_error_of_step"].max())


# -- the group axis


def test_contributions_are_uniform_on_states_in_every_pose():
    step = Step()
    stepper, one = ModuleStepper(step, SPEC), smooth(1)
    layers = find_feature_layers(step, lambda: step(one))
    orbit = torch.cat([act_on_fields([VORTICITY], one, g) for g in D4])
    found = measure_contributions(stepper, layers, Sample(orbit, orbit[:0], None), D4)["contribution"]
    assert np.allclose(found, 1, atol=1e-12)
    single = measure_contributions(stepper, layers, Sample(one, one[:0], None), D4)["contribution"]
    assert float(single.max() - single.min()) > 1e-3
    assert math.isclose(float(single.mean()), 1)


def test_ablation_of_the_last_layer():
    """A pseudoscalar is Σ det(g) w F(g): the mean over g leaves nothing, those over turns and mirrors leave all."""
    step, sample = Step(0), pairs_of(Step(1))
    layers = find_feature_layers(step, lambda: step(sample.before))
    with torch.no_grad():  # tanh is odd, and all parts of the network are: take the even part in
        step.conv.bias.fill_(0.5)
    step.requires_grad_(False)
    result = measure_ablation(ModuleStepper(step, SPEC), layers, sample, D4)
    last = result["ablation_error"].sel(place="conv")
    plain = sample.before - sample.after
    with torch.no_grad():
        whole = step(sample.before) - sample.after
    assert math.isclose(float(result["persistence_error"]), float(plain.norm() / whole.norm()), rel_tol=1e-9)
    # tanh stands between the last feature and the readout: it does not mind what is equal along α.
    assert math.isclose(float(last.sel(ablation="mean")), float(result["persistence_error"]), rel_tol=1e-9)
    with torch.no_grad():  # a truth that the whole network nearly has: maps in other places lose it
        near = Sample(sample.before, step(sample.before) + 1e-3 * smooth(seed=5), None)
    shuffled = measure_ablation(ModuleStepper(step, SPEC), layers, near, D4)["ablation_error"].sel(place="conv")
    assert float(shuffled.sel(ablation="shuffled")) > 10
    linear = Step(0)
    linear.forward = lambda x: x + linear.out(linear.conv(linear.lift(x))).detach()
    layers = find_feature_layers(linear, lambda: linear(sample.before))
    last = measure_ablation(ModuleStepper(linear, SPEC), layers, sample, D4)["ablation_error"].sel(place="conv")
    assert math.isclose(float(last.sel(ablation="mean over rotations")), 1, rel_tol=1e-9)


# -- the whole


def test_explaining_changes_nothing(trained):
    data, models = trained
    model = models["small-d4"]
    before = fs.forecast(model, data, 2)
    fs.explain(model, data=data)
    xr.testing.assert_identical(fs.forecast(model, data, 2), before)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.network.modules())


def test_a_foreign_module(trained, tmp_path):
    """A plain convolution from elsewhere: what it cannot have is left out with a reason."""
    layer = nn.Conv2d(1, 1, 5, padding=2, padding_mode="circular", bias=False)
    result = fs.explain(nn.Sequential(layer), SPEC, data=trained[0], out=tmp_path)
    assert result["network_extent"] == 2
    assert result["filter"].shape == (1, 1, 1, 5, 5)
    lines = result.attrs["left_out"].splitlines()
    assert [line.partition(":")[0] for line in lines] == ["contributions", "ablation", "comparison with the solver"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "explain.nc", "filters.png", "feature_maps.png", "receptive_field.png", "vortices.png", "scales.png",
    }  # fmt: skip


def test_first_kernels_of_any_size(trained):
    """Even, oblong and strided ones, and layers of which one has fewer channels than are drawn."""
    for kernel in (4, (3, 5)):
        padded = nn.Sequential(nn.Conv2d(1, 4, kernel, padding="same", padding_mode="circular"), nn.Conv2d(4, 16, 1),
                               nn.Conv2d(16, 1, 1))  # fmt: skip
        result = fs.explain(padded, SPEC, data=trained[0])
        assert result["filter"].shape[-2:] == padded[0].weight.shape[-2:]
        assert result.sizes["map"] == 4


def test_a_step_without_gradients(trained):
    """Neither the change of the state nor the network may pass for what the step sees."""

    class NumPy(nn.Module):
        def forward(self, x):
            return torch.from_numpy(np.roll(x.detach().numpy(), 5, -1))

    class NoGrad(nn.Conv2d):
        @torch.no_grad()
        def forward(self, x):
            return super().forward(x)

    for module in (NumPy(), NoGrad(1, 1, 3, padding=1, padding_mode="circular")):
        result = fs.explain(module, SPEC, data=trained[0])
        assert "receptive field: no gradient passes through the step" in result.attrs["left_out"]
        assert "radius" not in result


@pytest.mark.parametrize("name", ["C2", "C4", "D4"])
def test_shuffling_leaves_no_map_in_its_place(name):
    group = group_named(name)
    feature = torch.arange(float(len(group))).view(1, 1, -1, 1, 1)
    shuffled = ablations(group)["shuffled"](feature)
    assert (shuffled != feature).all()
    assert torch.equal(shuffled.sort(dim=2).values, feature)


def test_states_of_velocity(experiment):
    """Spectra and the receptive field are of both components: here only v is carried, by three cells."""

    class Carried(nn.Module):
        def forward(self, x):
            return x + torch.cat([0 * x[:, :1], x[:, 1:].roll(3, -1)], dim=1)

    tree = experiment.tree()
    tree["data"]["state"] = "velocity"
    tree["models"] = {"small": tree["models"]["small-d4"]}
    tree["train"] |= {"steps": 2}
    own = fs.Experiment.from_tree(tree)
    data = fs.generate(own)
    model = fs.train(own, data)["small"]
    result = fs.explain(model, data=data)
    assert float(result["equivariance_error_of_step"].max()) < 1e-4
    assert not result.attrs["left_out"]
    carried = fs.explain(Carried(), model.spec, data=data)
    assert 3 <= float(carried["radius"].sel(seen_by="model")) < 6


def test_several_networks_and_no_pairs_of_states(experiment, trained):
    tree = experiment.tree()
    tree["models"] = {"several": tree["models"]["small-d4"] | {"networks": 2}}
    tree["train"] |= {"steps": 2}
    model = fs.train(fs.Experiment.from_tree(tree), trained[0])["several"]
    result = fs.explain(model, data=trained[0].isel(time=[0]))
    assert "explain one of them" in result.attrs["left_out"]
    assert "no two states one interval apart" in result.attrs["left_out"]
    assert result["equivariance_error_of_step"].max() < 1e-4


def test_the_command(trained, tmp_path, capsys):
    model = trained[1]["small-d4"]
    fs.save(model, tmp_path / "model")
    assert main(["explain", str(tmp_path / "model")]) == 0
    printed = capsys.readouterr().out
    assert "turned filters, to the nearest filter" in printed
    folder = tmp_path / "model" / "explain"
    pictures = sorted(path.name for path in folder.glob("*.png"))
    assert pictures == ["feature_maps.png", "filters.png", "group_axis.png", "receptive_field.png", "scales.png",
                        "vortices.png"]  # fmt: skip
    for name in pictures:
        pixels = image.imread(folder / name)
        assert pixels[..., :3].std() > 0.05, name
        assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 20, name
        assert str(folder / name) in printed
    stored = fs.open_data(folder / "explain.nc")
    assert stored.attrs["model_name"] == "small-d4"
    assert explanation_table(stored).splitlines()[0] in printed
    assert main(["info", str(folder / "explain.nc")]) == 0
    assert "explain.nc: explanation" in capsys.readouterr().out
    assert fs.load(tmp_path / "model").parameters == model.parameters


def test_bad_input_in_one_line(trained):
    with pytest.raises(fs.UsageError, match="data are required"):
        fs.explain(NavierStokes2D(GRID, viscosity=1e-2, interval=0.25))
    with pytest.raises(fs.UsageError, match="spec is required"):
        fs.explain(nn.Conv2d(1, 1, 3), data=trained[0])
    space = StateSpec(Grid.cube(8), (), interval=0.25)
    with pytest.raises(fs.UsageError, match="three dimensions") as error:
        fs.explain(nn.Identity(), space, data=trained[0])
    assert "\n" not in str(error.value)
