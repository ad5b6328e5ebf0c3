"""What every flow in three dimensions promises: starts that are functions of space and seed, and its symmetries."""

import dataclasses
import math
from dataclasses import replace

import pytest
import torch

from solvers import FLOWS, GROUPS, VELOCITY, Grid, act, act_on_fields, field_in, resample
from solvers.symmetry import act_on_inputs

OH = GROUPS[3]["Oh"]
FLOW_EXAMPLES = {
    f"{kind} {example.label}".strip(): (cls(**example.parameters), example)
    for kind, cls in FLOWS[3].items()
    for example in cls.examples
}
every_flow = pytest.mark.parametrize(("flow", "example"), FLOW_EXAMPLES.values(), ids=FLOW_EXAMPLES)
INTERVAL = 0.1
FLOW_VELOCITY = field_in(VELOCITY, 3)


def distance(a, b):
    return float((a - b).norm() / b.norm())


def relative(error, after, before):
    """An error of each trajectory relative to what the step changes."""
    return error.flatten(1).norm(dim=1) / (after - before).flatten(1).norm(dim=1)


def anything(flow, grid, seed=0):
    """A smooth state without any symmetry: noise on the coarsest grid, without its mean."""
    spec = flow.solver(grid, interval=1.0, backend="torch").spec
    coarse = Grid.cube(8, grid.length[0])
    noise = torch.randn(spec.components, *coarse.n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return resample(noise, coarse, grid)[None]


def plain_solver(flow, grid):
    """The flow's solver without kicks, which keep nothing but their statistics."""
    terms = flow.solver_terms(grid) | {"stochastic_forcing": None}
    return flow.solver_class(grid, viscosity=flow.viscosity, drag=flow.drag, interval=INTERVAL, dt=INTERVAL / 2,
                             dtype=torch.float64, backend="torch", **terms)  # fmt: skip


@pytest.mark.parametrize("cls", FLOWS[3].values(), ids=FLOWS[3])
def test_numbers_that_are_not_finite_are_refused_by_name(cls):
    numbers = [field.name for field in dataclasses.fields(cls) if field.init and field.type == "float"]
    assert numbers
    for name in numbers:
        for value in (math.nan, math.inf, -math.inf):
            with pytest.raises(ValueError, match=f"^{name} must be"):
                cls(**{**cls.examples[0].parameters, name: value})


@every_flow
def test_starts_are_the_same_function_on_every_grid(flow, example):
    """The control: striding takes the samples of another grid for those of this one."""
    grid, fine = (Grid.cube(n, example.side) for n in (example.n, 2 * example.n))
    coarse, refined = flow.starts(grid, [0, 1]), flow.starts(fine, [0, 1])
    assert coarse.dtype == torch.float64
    assert distance(resample(refined, fine, grid), coarse) < 1e-12
    assert distance(resample(coarse, grid, fine), refined) < 1e-12
    assert distance(refined[..., ::2, ::2, ::2], coarse) > 1e-2


@every_flow
def test_starts_depend_on_their_seed_only(flow, example):
    grid = Grid.cube(example.n, example.side)
    batch = flow.starts(grid, [5, 6, 2**63 - 1])
    assert torch.equal(batch, flow.starts(grid, [5, 6, 2**63 - 1]))
    for i, seed in enumerate((5, 6, 2**63 - 1)):
        assert distance(flow.starts(grid, [seed])[0], batch[i]) < 1e-14
        assert distance(batch[i], batch[i - 1]) > 0.3


@every_flow
def test_starts_are_free_of_divergence_and_mean_and_resolved(flow, example):
    grid = Grid.cube(example.n, example.side)
    state = flow.starts(grid, range(4))
    spectrum = torch.fft.rfftn(state, dim=grid.dims)
    kz, ky, kx = grid.wavenumbers()
    divergence = kx * spectrum[:, 0] + ky * spectrum[:, 1] + kz * spectrum[:, 2]
    assert divergence.abs().max() <= 1e-11 * spectrum.abs().max()
    assert spectrum[..., 0, 0, 0].abs().max() <= 1e-11 * spectrum.abs().max()
    assert (spectrum * ~grid.retained()).abs().max() <= 1e-12 * spectrum.abs().max()
    assert spectrum.abs().max() > 1.0


@every_flow
def test_the_solver_keeps_the_declared_group_and_no_more(flow, example):
    """All 48 elements as one batch, inputs held fixed; of a stirred flow, without its kicks."""
    grid = Grid.cube(12, example.side)
    solver, state = plain_solver(flow, grid), anything(flow, grid)
    after = solver(state)
    turned, expected = (torch.cat([act_on_fields(solver.spec.fields, s, g) for g in OH]) for s in (state, after))
    errors = relative(solver(turned) - expected, after, state)
    for g, error in zip(OH, errors.tolist(), strict=True):
        assert error < 1e-10 if g in flow.group.elements else error > 1e-3, g.name


@every_flow
def test_with_its_inputs_turned_along_every_flow_keeps_the_cube(flow, example):
    grid = Grid.cube(12, example.side)
    solver, state = plain_solver(flow, grid), anything(flow, grid)
    inputs = {name: value for name, value in flow.inputs(grid).items() if name in {f.name for f in solver.spec.inputs}}
    after = solver(state, inputs)
    for g in OH.elements[1::6]:
        moved = solver(act_on_fields(solver.spec.fields, state, g), act_on_inputs(solver.spec, inputs, g))
        assert relative(moved - act_on_fields(solver.spec.fields, after, g), after, state) < 1e-10, g.name


@every_flow
def test_the_solver_keeps_the_declared_translations_and_no_more(flow, example):
    """Every shift by whole cells along each axis."""
    grid = Grid.cube(8, example.side)
    solver, state = plain_solver(flow, grid), anything(flow, grid)
    shifts = [shift for axis in range(3) for i in range(8) for shift in [[i * (axis == own) for own in range(3)]]]
    after = solver(state)
    moved, expected = (torch.cat([s.roll(shift, grid.dims) for shift in shifts]) for s in (state, after))
    errors = relative(solver(moved) - expected, after, state)
    declared = flow.translations(grid)
    for shift, error in zip(shifts, errors.tolist(), strict=True):
        assert error < 1e-10 if declared[tuple(shift)] else error > 1e-3, shift


@every_flow
@pytest.mark.parametrize("axis", [0, 1, 2], ids=["x", "y", "z"])
def test_a_uniform_velocity_carries_the_flow_along_where_it_is_galilean(flow, example, axis):
    grid, cells = Grid.cube(8, example.side), 2
    speed = cells * grid.spacing[2 - axis] / INTERVAL
    mean = tuple(u + speed * (own == axis) for own, u in enumerate(flow.mean_velocity))
    options = {"viscosity": flow.viscosity, "drag": flow.drag, "interval": INTERVAL, "dt": INTERVAL / 80,
               "dtype": torch.float64, "backend": "torch"}  # fmt: skip
    terms = flow.solver_terms(grid) | {"stochastic_forcing": None}
    state = anything(flow, grid)
    after = flow.solver_class(grid, **options, **terms)(state)
    carried = flow.solver_class(grid, **options, **terms | {"mean_velocity": mean})(state)
    error = relative(carried - after.roll(cells, -1 - axis), after, state)
    assert error < 1e-5 if flow.galilean_invariance(grid)[axis] else error > 1e-3


def test_taylor_green_s_start_has_the_group_d2h_about_its_centre():
    flow = FLOWS[3]["taylor_green"](viscosity=1e-2, noise=0.0, is_moved=False)
    start = flow.initial_flow(Grid.cube(16), [0])
    kept = {g.name for g in OH if torch.allclose(act(FLOW_VELOCITY, start, g), start, atol=1e-12)}
    assert kept == {g.name for g in GROUPS[3]["D2h"]}


def test_the_helical_start_has_its_helicity():
    """⟨u·ω⟩ over √(⟨u²⟩⟨ω²⟩) at one wavenumber, in the mean over seeds; the control has none."""
    grid = Grid.cube(24)
    kz, ky, kx = (1j * k for k in grid.odd_wavenumbers())

    def relative_helicity(helicity):
        flow = FLOWS[3]["decaying"](viscosity=1.0, wavenumber=3.0, bandwidth=0.25, helicity=helicity)
        u = torch.fft.rfftn(flow.initial_flow(grid, range(6)), dim=grid.dims)
        w = torch.stack([ky * u[:, 2] - kz * u[:, 1], kz * u[:, 0] - kx * u[:, 2], kx * u[:, 1] - ky * u[:, 0]], dim=1)
        u, w = (torch.fft.irfftn(a, s=grid.n, dim=grid.dims) for a in (u, w))
        return float((u * w).mean() / (u.square().mean() * w.square().mean()).sqrt())

    assert relative_helicity(0.8) == pytest.approx(0.8, abs=0.08)
    assert relative_helicity(-1.0) == pytest.approx(-1.0, abs=0.02)
    assert abs(relative_helicity(0.0)) < 0.1


def test_the_layered_start_varies_along_its_axis():
    grid = Grid.cube(24)
    flow = FLOWS[3]["decaying"](viscosity=1.0, wavenumber=3.0, layering=6.0)
    power = torch.fft.rfftn(flow.initial_flow(grid, range(4)), dim=grid.dims).abs().square().sum((0, 1))
    kz, _, _ = grid.wavenumbers()
    k2 = sum(k**2 for k in grid.wavenumbers())
    share = float((power * kz**2 / k2.where(k2 > 0, 1.0)).sum() / power.sum())
    assert share > 0.8
    turned = replace(flow, axis=(0.0, 0.0, -2.0)).initial_flow(grid, range(4))
    assert torch.allclose(turned, flow.initial_flow(grid, range(4)))
    isotropic = replace(flow, layering=0.0).initial_flow(grid, range(4))
    assert distance(isotropic, flow.initial_flow(grid, range(4))) > 0.3


def test_the_beltrami_flow_stands_still_under_its_force():
    flow = FLOWS[3]["abc"](viscosity=0.1, drag=0.05, noise=1e-9)
    grid = Grid.cube(8)
    solver = flow.solver(grid, interval=1.0, dtype=torch.float64, backend="torch")
    start = flow.beltrami_flow(grid)[None]
    assert distance(solver(start), start) < 1e-10


@pytest.mark.parametrize(
    ("kind", "bad", "message"),
    [
        ("decaying", {"helicity": 1.5}, "helicity must be from -1 to 1"),
        ("decaying", {"axis": (0.0, 0.0, 0.0)}, "axis must have a direction"),
        ("decaying", {"layering": -1.0}, "layering must be"),
        ("taylor_green", {"waves": 0}, "waves must be"),
        ("kolmogorov", {"amplitude": 0.0}, "amplitude must be"),
        ("forced_isotropic", {"power": -1.0}, "power must be"),
        ("convection", {"gravity": (0.0, 0.0, 0.0), "diffusivity": 1e-2}, "gravity must not be zero"),
    ],
)
def test_bad_parameters_are_refused(kind, bad, message):
    with pytest.raises(ValueError, match=message):
        FLOWS[3][kind](**{"viscosity": 1e-2} | bad)


def test_a_box_that_is_no_cube_is_refused_by_the_beltrami_flow():
    flow = FLOWS[3]["abc"](viscosity=0.1)
    with pytest.raises(ValueError, match="needs a cube"):
        flow.forcing(Grid((8, 8, 8), (1.0, 1.0, 2.0)))
    with pytest.raises(ValueError, match="too coarse"):
        replace(flow, waves=5).forcing(Grid.cube(8))
