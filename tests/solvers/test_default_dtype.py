"""What torch's default dtype is changes no bit of a start, a forcing, a solution or a diagnostic."""

import inspect
import math

import pytest
import torch
from examples import EXAMPLES

from solvers import (
    FLOWS,
    VELOCITY,
    VORTICITY,
    Grid,
    Resampled,
    VelocityForm,
    act,
    continuous_symmetry,
    diagnostics,
    resample,
    spectra,
    turbulence,
)
from solvers.backends.cpp_library import why_not_compiled
from solvers.flows.initial_conditions import CLOSED_FORMS
from solvers.point_groups import ROTATION_90

GRID = Grid.square(16)


@pytest.fixture(params=[torch.float64, torch.float16], ids=str)
def default(request):
    """Set torch's default dtype, and set it back."""

    def under(make):
        before = torch.get_default_dtype()
        plain = make()
        torch.set_default_dtype(request.param)
        try:
            return plain, make()
        finally:
            torch.set_default_dtype(before)

    return under


def same(plain, other):
    assert len(plain) == len(other)
    for a, b in zip(plain, other, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_flows_and_solver(default, name, backend, dtype):
    if backend == "auto" and why_not_compiled() is not None:
        pytest.skip("no compiler")
    example, grid = EXAMPLES[name], EXAMPLES[name].grid(32)

    def run():
        flow = example.flow
        solver = flow.solver(grid, interval=0.02 * grid.length[0], backend=backend, dtype=dtype)
        start = example.anything(grid, 1)
        carry = solver.start(start.to(dtype), seeds=[5])
        carry = solver.advance(solver.advance(carry))
        inputs = list(flow.inputs(grid).values())
        return [start, *inputs, carry.spectrum, solver.state(carry), carry.injected, carry.terms.linear]

    same(*default(run))


@pytest.mark.parametrize("shape", CLOSED_FORMS)
def test_closed_forms(default, shape):
    flow = FLOWS[2]["decaying"](viscosity=1e-2, start=shape)
    same(*default(lambda: [flow.starts(GRID, [0, 1])]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_diagnostics_and_transfers(default, dtype):
    w = torch.randn(2, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(dtype)
    w, where = w - w.mean((-2, -1), keepdim=True), continuous_symmetry.disc_mask(GRID, 0.4)

    def run():
        seen = [
            diagnostics.stream_function(w, GRID),
            diagnostics.velocity(w, GRID),
            diagnostics.velocity_gradient(w, GRID),
            diagnostics.q_criterion(w, GRID),
            diagnostics.strain_rate(w, GRID),
            diagnostics.pressure(w, GRID),
        ]
        seen += [f(w, GRID.length) for name, f in inspect.getmembers(spectra, inspect.isfunction)
                 if name.startswith(("energy", "enstrophy_", "kinetic", "palin", "advection"))]  # fmt: skip
        seen += [f(w, GRID.length) for f in (turbulence.rms_velocity, turbulence.integral_scale,
                                             turbulence.taylor_microscale, turbulence.turnover_time)]  # fmt: skip
        seen += [
            turbulence.reynolds_number(w, GRID.length, 0.1),
            turbulence.dissipation_wavenumber(w, GRID.length, 0.1),
        ]
        seen += [*turbulence.mean_energy_budget(w, GRID.length, 0.1, 0.1, w[0, 0])]
        seen += [*turbulence.mean_enstrophy_budget(w, GRID.length, 0.1, 0.1)]
        seen += [resample(w, GRID, Grid.square(24)), continuous_symmetry.shift(w, (0.5, 0.2))]
        seen += [
            continuous_symmetry.rotate([VORTICITY], w, GRID, 30.0, where),
            continuous_symmetry.localise([VORTICITY], w, GRID),
        ]
        seen += [act(VELOCITY, seen[1], ROTATION_90), spectra.shell_wavenumbers(GRID.n, GRID.length)]
        solver = FLOWS[2]["decaying"](viscosity=1e-2).solver(
            Grid.square(24), interval=0.1, dtype=dtype, backend="torch"
        )
        return [*seen, VelocityForm(Resampled(solver, GRID))(seen[1])]

    same(*default(run))


def test_a_turn_is_as_exact_as_its_angle():
    """The matrix was one of float32: a hundred turns by 3.6° would have been off by 1e-7."""
    grid = Grid.square(64)
    y, x = (c - grid.length[0] / 2 for c in grid.coordinates())
    bump = torch.exp(-((x[None, :] - 0.5) ** 2 + y[:, None] ** 2) / 0.4**2)[None, None]
    turned = continuous_symmetry.rotate([VORTICITY], bump, grid, 60.0, continuous_symmetry.disc_mask(grid, 0.5))
    centre = 0.5 * math.cos(math.pi / 3), 0.5 * math.sin(math.pi / 3)
    expected = torch.exp(-((x[None, :] - centre[0]) ** 2 + (y[:, None] - centre[1]) ** 2) / 0.4**2)
    inside = continuous_symmetry.disc_mask(grid, 0.5)
    assert float((turned[0, 0] - expected)[inside].abs().max()) < 1e-11


def test_what_the_kicks_feed_is_known_in_double_precision():
    """Energy and enstrophy of one mode, ω = cos 2x: ¼ and 1/16, on cells whose number is no power of two."""
    solver = FLOWS[2]["stirred"](viscosity=1e-2).solver(
        Grid((30, 34)), interval=0.1, dtype=torch.float64, backend="torch"
    )
    x = solver.grid.coordinates()[1]
    spectrum = solver.start(torch.cos(2 * x).expand(1, 1, 30, 34).contiguous()).spectrum
    energy, enstrophy = solver._equation.energy_and_enstrophy(spectrum, spectrum)[0].tolist()
    assert abs(enstrophy - 1 / 4) < 1e-15
    assert abs(energy - 1 / 16) < 1e-15
