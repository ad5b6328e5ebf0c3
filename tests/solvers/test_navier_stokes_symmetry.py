"""The solver commutes with every symmetry of the square, vorticity being a pseudoscalar, and with nothing else."""

import numpy as np
import pytest
import torch

from solvers import C2, D2, D4, FLOWS, FORCING, VORTICITY, Grid, NavierStokes2D, act
from solvers.point_groups import MIRROR_DIAGONAL
from solvers.symmetry import move

GRID = Grid.square(32)
INTERVAL = 0.3
KOLMOGOROV = FLOWS[2]["kolmogorov"](viscosity=1e-2)
OUTSIDE_C2 = [g for g in D4 if g not in C2.elements]
MIRRORS = [g for g in D4 if g.determinant < 0]

every_element = pytest.mark.parametrize("g", D4.elements[1:], ids=lambda g: g.name)


@pytest.fixture(scope="module")
def start():
    return FLOWS[2]["decaying"](viscosity=6e-3).starts(GRID, [7, 8])


@pytest.fixture(scope="module", params=[0.05, None], ids=["fixed dt", "adaptive dt"])
def unforced(request):
    return NavierStokes2D(GRID, viscosity=6e-3, interval=INTERVAL, dt=request.param, dtype=torch.float64)


@pytest.fixture(scope="module")
def forced():
    return KOLMOGOROV.solver(GRID, interval=INTERVAL, dtype=torch.float64)


def relative(error, after, before):
    """An error relative to what the step changes."""
    return float(error.norm() / (after - before).norm())


@every_element
def test_unforced_flow_commutes_with_d4(unforced, start, g):
    after = unforced(start)
    error = unforced(act(VORTICITY, start, g)) - act(VORTICITY, after, g)
    assert relative(error, after, start) < 1e-11


@pytest.mark.parametrize("g", MIRRORS, ids=lambda g: g.name)
def test_with_parity_plus_one_no_mirror_commutes(unforced, start, g):
    after = unforced(start)
    assert relative(unforced(move(start, g)) - move(after, g), after, start) > 1.0


@every_element
def test_in_single_precision_too(start, g):
    flow = NavierStokes2D(GRID, viscosity=6e-3, interval=INTERVAL)
    after = flow(start)
    error = flow(act(VORTICITY, start, g)) - act(VORTICITY, after, g)
    assert relative(error, after, start.float()) < 1e-4


@every_element
def test_state_and_forcing_turned_together_commute_with_d4(forced, start, g):
    forcing = KOLMOGOROV.forcing(GRID).expand(2, 1, 32, 32)
    after = forced(start, {"forcing": forcing})
    moved = forced(act(VORTICITY, start, g), {"forcing": act(FORCING, forcing, g)})
    assert relative(moved - act(VORTICITY, after, g), after, start) < 1e-11
    assert torch.equal(after, forced(start))


@every_element
def test_the_state_alone_commutes_with_the_flow_s_own_group_only(forced, start, g):
    after = forced(start)
    error = relative(forced(act(VORTICITY, start, g)) - act(VORTICITY, after, g), after, start)
    assert error > 0.05 if g in OUTSIDE_C2 else error < 1e-11


@pytest.mark.parametrize("g", MIRRORS, ids=lambda g: g.name)
def test_a_forcing_turned_as_a_scalar_does_not_commute(forced, start, g):
    forcing = KOLMOGOROV.forcing(GRID).expand(2, 1, 32, 32)
    after = forced(start)
    moved = forced(act(VORTICITY, start, g), {"forcing": move(forcing, g)})
    assert relative(moved - act(VORTICITY, after, g), after, start) > 0.05


@pytest.mark.parametrize("g", D2.elements[1:], ids=lambda g: g.name)
def test_a_rectangle_keeps_d2(g):
    grid = Grid((24, 32), (3.0, 4.0))
    flow = NavierStokes2D(grid, viscosity=1e-3, interval=INTERVAL, dtype=torch.float64)
    start = FLOWS[2]["decaying"](viscosity=1e-3).starts(grid, [1])
    after = flow(start)
    assert relative(flow(act(VORTICITY, start, g)) - act(VORTICITY, after, g), after, start) < 1e-11


@pytest.mark.parametrize("forced", [False, True])
def test_swapped_axes_of_a_rectangle_give_the_swapped_flow(forced):
    wide, tall = Grid((16, 32), (3.0, 5.0)), Grid((32, 16), (5.0, 3.0))
    start = FLOWS[2]["decaying"](viscosity=1e-3, wavenumber=3.0).starts(wide, [2])
    force = torch.from_numpy(np.random.default_rng(0).standard_normal((16, 32))) if forced else None
    options = {"viscosity": 1e-3, "drag": 0.1, "interval": INTERVAL, "dt": 0.05, "dtype": torch.float64}
    after = NavierStokes2D(wide, forcing=force, **options)(start)
    swapped = None if force is None else act(FORCING, force[None], MIRROR_DIAGONAL)[0]
    flow = NavierStokes2D(tall, forcing=swapped, **options)
    error = flow(act(VORTICITY, start, MIRROR_DIAGONAL)) - act(VORTICITY, after, MIRROR_DIAGONAL)
    assert relative(error, after, start) < 1e-11
    unsigned = flow(start.transpose(-1, -2)) - after.transpose(-1, -2)
    assert relative(unsigned, after, start) > 0.05


@pytest.mark.parametrize("cells", [(3, 0), (0, -5), (7, 2)])
def test_unforced_flow_commutes_with_whole_cells(unforced, start, cells):
    after = unforced(start)
    error = unforced(start.roll(cells, (-2, -1))) - after.roll(cells, (-2, -1))
    assert relative(error, after, start) < 1e-11


@pytest.mark.parametrize(("cells", "kept"), [((0, 5), True), ((8, 0), True), ((4, 0), False)])
def test_kolmogorov_flow_commutes_with_whole_wavelengths(forced, start, cells, kept):
    after = forced(start)
    error = relative(forced(start.roll(cells, (-2, -1))) - after.roll(cells, (-2, -1)), after, start)
    assert error < 1e-11 if kept else error > 0.05
