"""What differs from trajectory to trajectory, and gradients with respect to it over many intervals."""

import math

import numpy as np
import pytest
import torch

from solvers import FLOWS, Grid, NavierStokes2D, Tracer, TransportedScalar

GRID, INTERVAL = Grid.square(16), 0.3
NUMBERS = {"viscosity": (1e-2, 3e-2, 0.0), "drag": (0.0, 0.2, 0.5), "diffusivity": (2e-2, 0.0, 1e-2)}
VECTORS = {
    "gravity": ((0.0, -1.0), (2.0, 0.5), (0.0, 0.0)),
    "mean_gradient": ((0.0, 1.0), (-1.0, 0.3), (0.5, 0.0)),
    "mean_velocity": ((0.3, 0.0), (0.0, 0.0), (-1.0, 2.0)),
}
EVERYTHING = {**NUMBERS, **VECTORS, "forcing": (1.0, 3.0, 0.0)}


def pattern(strength):
    y, x = GRID.coordinates()
    return strength * (torch.cos(2 * y)[:, None] + torch.sin(x[None, :] + y[:, None]))


def distance(a, b):
    return float((a - b).norm() / b.norm())


def solver(*which, varying=(), **options):
    """With the values of trajectory `which` of each term, those of the first where it is not said."""
    at = dict(which)
    value = {name: values[at.get(name, 0)] for name, values in EVERYTHING.items()}
    scalar = TransportedScalar(
        diffusivity=value["diffusivity"], gravity=value["gravity"], mean_gradient=value["mean_gradient"]
    )  # fmt: skip
    return NavierStokes2D(
        GRID, viscosity=value["viscosity"], drag=value["drag"], forcing=pattern(value["forcing"]), scalar=scalar,
        mean_velocity=value["mean_velocity"], varying=varying,
        **{"interval": INTERVAL, "dtype": torch.float64, **options},
    )  # fmt: skip


def column(name):
    """The values of all trajectories as an input."""
    if name == "forcing":
        return torch.stack([pattern(s) for s in EVERYTHING[name]])[:, None]
    return torch.tensor(EVERYTHING[name], dtype=torch.float64).reshape(3, -1, 1, 1)


@pytest.fixture(scope="module")
def starts():
    """Three flows with a tracer, of different speeds."""
    flow = FLOWS[2]["decaying"](viscosity=1e-2, wavenumber=3.0, tracer=Tracer(diffusivity=1e-2))
    return flow.starts(GRID, [1, 2, 3]) * torch.tensor([1.0, 0.3, 2.0], dtype=torch.float64)[:, None, None, None]


def advanced(flow, start, inputs=None, count=2):
    carry = flow.start(start, inputs)
    for _ in range(count):
        carry = flow.advance(carry)
    return flow.state(carry), carry


@pytest.mark.parametrize("dt", [0.02, None], ids=["fixed dt", "adaptive dt"])
@pytest.mark.parametrize("names", [[name] for name in EVERYTHING] + [list(EVERYTHING)], ids=[*EVERYTHING, "all"])
def test_a_batch_of_inputs_is_one_solver_each(starts, names, dt):
    varying = [name for name in names if name in NUMBERS]
    together, carry = advanced(solver(varying=varying, dt=dt), starts, {name: column(name) for name in names})
    for i in range(3):
        alone, single = advanced(solver(*((name, i) for name in names), dt=dt), starts[i : i + 1])
        assert distance(together[i : i + 1], alone) < 1e-12
        assert carry.steps_taken[i : i + 1] == single.steps_taken
    first, _ = advanced(solver(dt=dt), starts)
    assert distance(first[:1], together[:1]) < 1e-12
    assert min(distance(first[i], together[i]) for i in (1, 2)) > 1e-4  # the default is another flow


def test_the_defaults_of_inputs_are_the_solver_s_own_values(starts):
    own, _ = advanced(solver(dt=0.02), starts)
    asked, _ = advanced(solver(dt=0.02, varying=list(NUMBERS)), starts)
    assert distance(asked, own) < 1e-13
    flow = solver(varying=["drag"])
    assert [field.name for field in flow.spec.inputs] == [
        "forcing", "gravity", "mean_gradient", "mean_velocity", "drag",
    ]  # fmt: skip


@pytest.mark.parametrize("name", EVERYTHING)
def test_misshapen_inputs_are_refused(starts, name):
    flow, good = solver(varying=list(NUMBERS)), column(name)
    flow.start(starts, {name: good})
    for bad in (good[:2], good[:, :1, 0], good.repeat(1, 1, 2, 1), torch.cat([good, good], dim=1)):
        with pytest.raises(ValueError, match=f"input '{name}' must be"):
            flow.start(starts, {name: bad})


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_below_zero_and_not_finite_are_refused(starts, name):
    flow = solver(varying=list(NUMBERS))
    for bad in (-1e-9, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"input '{name}' must be"):
            flow.start(starts, {name: torch.tensor([0.1, bad, 0.1], dtype=torch.float64)[:, None, None, None]})


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_that_are_not_finite_are_refused(starts, name):
    bad = column(name).clone()
    bad[1, 0] = math.nan
    with pytest.raises(ValueError, match=f"input '{name}' must be finite"):
        solver().start(starts, {name: bad})
    own = {"mean_velocity": (0.0, 0.0), name: (0.0, math.inf)}
    velocity = own.pop("mean_velocity")
    with pytest.raises(ValueError, match=f"^{name} must be finite"):
        NavierStokes2D(GRID, viscosity=1e-2, interval=INTERVAL, scalar=TransportedScalar(**own), mean_velocity=velocity)


def test_inputs_that_a_solver_does_not_take_are_refused(starts):
    with pytest.raises(ValueError, match="unknown input 'viscosity'"):
        solver(varying=["drag"]).start(starts, {"viscosity": column("viscosity")})
    with pytest.raises(ValueError, match="unknown input 'gravity'"):
        NavierStokes2D(GRID, viscosity=1e-2, interval=INTERVAL).start(starts[:, :1], {"gravity": column("gravity")})
    with pytest.raises(ValueError, match="varying: unknown coefficient 'gravity'; one of viscosity, drag, diffusivity"):
        solver(varying=["gravity"])
    with pytest.raises(ValueError, match=r"varying: unknown coefficient 'diffusivity'; one of viscosity, drag$"):
        NavierStokes2D(GRID, viscosity=1e-2, interval=INTERVAL, varying=["diffusivity"])
    with pytest.raises(ValueError, match="checkpoint_every must be at least 1"):
        solver(checkpoint_every=0)


# -- gradients


def loss_of(flow, given, count=20):
    weight = torch.from_numpy(np.random.default_rng(1).standard_normal(given["state"].shape))
    inputs = {name: value for name, value in given.items() if name != "state"}
    return (weight * advanced(flow, given["state"], inputs, count)[0]).mean()


def given_all(starts):
    return {"state": starts.clone()} | {name: column(name) + 0.01 * (name in NUMBERS) for name in EVERYTHING}


@pytest.mark.parametrize("wanted", ["state", "viscosity", "diffusivity", "drag", "forcing", "gravity", "mean_velocity"])
def test_gradients_over_twenty_intervals_match_finite_differences(starts, wanted):
    flow = solver(varying=list(NUMBERS), interval=0.05, dt=0.025)
    given = given_all(starts)
    x = given[wanted].requires_grad_()
    direction = torch.from_numpy(np.random.default_rng(0).standard_normal(x.shape))
    direction = direction * (0.1 if wanted in NUMBERS else 1.0)
    slope = float((torch.autograd.grad(loss_of(flow, given), x)[0] * direction).sum())
    with torch.no_grad():
        near = [float(loss_of(flow, {**given, wanted: x + h * direction})) for h in (-2e-3, -1e-3, 1e-3, 2e-3)]
    assert abs((8 * (near[2] - near[1]) - (near[3] - near[0])) / 12e-3 / slope - 1) < 1e-6


def kept_bytes(flow, given):
    """Of what the forward pass keeps for the backward pass, each storage once."""
    storages = {}

    def note(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = loss_of(flow, given, 2)
    return sum(storages.values()), torch.autograd.grad(
        loss, [given[name] for name in ("state", "viscosity", "forcing")]
    )


def test_checkpoints_keep_less_and_change_no_gradient(starts):
    options = {"varying": list(NUMBERS), "interval": 0.4, "dt": 0.02, "backend": "torch"}
    given = {name: value.requires_grad_() for name, value in given_all(starts).items()}
    kept, gradients = kept_bytes(solver(**options), given)
    for every, share in ((1, 0.2), (5, 0.1), (20, 1.01)):
        less, same = kept_bytes(solver(**options, checkpoint_every=every), given)
        assert less < share * kept
        for a, b in zip(same, gradients, strict=True):
            assert distance(a, b) < 1e-12


def test_checkpoints_with_own_steps_of_each_trajectory(starts):
    """Which differ in number, and are done again where a trajectory outgrows its own."""
    given, found = given_all(starts), []
    given["forcing"] = column("forcing") * 10
    given["state"].requires_grad_()
    for every in (None, 3):
        flow = solver(varying=list(NUMBERS), interval=0.5, checkpoint_every=every)
        found.append(torch.autograd.grad(loss_of(flow, given, 1), given["state"])[0])
    assert distance(found[1], found[0]) < 1e-12


@pytest.mark.parametrize("dt", [None, 0.1])
def test_a_forcing_that_is_not_finite_is_refused_as_that(dt):
    """Not as a flow that outgrows its inner steps, nor by a solution of NaN."""
    forcing, state = torch.zeros(GRID.n), torch.zeros(2, 1, *GRID.n)
    whole = NavierStokes2D(GRID, viscosity=1e-2, interval=0.1, dt=dt, forcing=forcing)
    forcing[3, 4] = torch.nan
    with pytest.raises(ValueError, match=r"^forcing must be finite \(got nan\)$"):
        NavierStokes2D(GRID, viscosity=1e-2, interval=0.1, dt=dt, forcing=forcing)
    with pytest.raises(ValueError, match=r"^input 'forcing' must be finite for every trajectory$"):
        whole.start(state, {"forcing": torch.stack([forcing, torch.zeros(GRID.n)])[:, None]})


def test_what_the_caller_does_to_its_tensors_later_changes_nothing():
    """In double precision too, where nothing needs converting."""
    y, _ = GRID.coordinates()
    forcing = torch.cos(2 * y)[:, None].expand(GRID.n).contiguous()
    solver = NavierStokes2D(GRID, viscosity=1e-2, interval=0.1, forcing=forcing, mean_velocity=(1.0, 0.0),
                            varying=["viscosity"], dtype=torch.float64)  # fmt: skip
    state = torch.randn(1, 1, *GRID.n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    given = {
        "viscosity": torch.full((1, 1, 1, 1), 1e-2, dtype=torch.float64),
        "mean_velocity": torch.ones(1, 2, 1, 1, dtype=torch.float64),
        "forcing": forcing[None, None].clone(),
    }
    carry, own = solver.start(state, given), solver.start(state)
    expected, of_its_own = solver.state(solver.advance(carry)), solver.state(solver.advance(own))
    for tensor in (forcing, state, *given.values()):
        tensor.zero_()
    assert torch.equal(solver.state(solver.advance(carry)), expected)
    assert torch.equal(solver.state(solver.advance(own)), of_its_own)
    assert float(solver.forcing.abs().max()) > 0.9
