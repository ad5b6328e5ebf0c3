"""Response to a single vortex and to pairs of vortices: does the step know the law of Biot and Savart?"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from fluidsurrogate.evaluation.equivariance import apply_stepper
from fluidsurrogate.explaining.sample import LeftOutError, Sample
from solvers import MEAN_VELOCITY, VELOCITY, VORTICITY, Grid, Group, StateSpec, Stepper, act_on_fields, velocity
from solvers.symmetry import act_on_inputs

WIDTH = 1.5  # standard deviation of a vortex, in cells
SEPARATIONS = (4.0, 6.0, 8.0, 10.0, 12.0)  # of a pair, in cells
SHOWN = 6.0  # the separation that is drawn and scored
PEAK = 3.0  # vorticity in the middle of a vortex, over the RMS vorticity of the data
CORE = 0.3  # of its peak: what counts as the core of a vortex
FLOWS = {VORTICITY.name, VELOCITY.name}
Plane = Float[Tensor, "y x"]


def gaussian_vortex(grid: Grid, place: Sequence[float], peak: float, width: float = WIDTH) -> Plane:
    r"""Return a vortex with a Gaussian core on a periodic grid.

    .. math:: \omega = \omega_0 \, e^{-r^2 / 2 \sigma^2}, \qquad \Gamma = 2 \pi \sigma^2 \omega_0

    Parameters
    ----------
    grid : Grid
        The grid, in the plane.
    place : sequence of float
        Its middle (y, x), in cells: 0 is the edge of the box, 1/2 the centre of the first cell.
    peak : float
        Vorticity ω₀ in the middle, in 1/s.
    width : float
        Standard deviation σ, in cells.

    Returns
    -------
    Tensor
        Shape (y, x), in 1/s, float64. Its mean is not zero.
    """
    squares = []
    for n, middle in zip(grid.n, place, strict=True):
        away = (torch.arange(n, dtype=torch.float64) + 0.5 - middle + n / 2) % n - n / 2
        squares.append(away.square())
    return peak * (-(squares[0][:, None] + squares[1]) / (2 * width**2)).exp()


def pair_of_vortices(grid: Grid, separation: float, peak: float) -> Plane:
    """Return a vortex and its opposite beside it, which carry each other down, along −y.

    Parameters
    ----------
    grid : Grid
        The grid, in the plane.
    separation : float
        Distance of the two along x, in cells; the positive one is on the right.
    peak : float
        Vorticity in the middle of the positive one, in 1/s.

    Returns
    -------
    Tensor
        Shape (y, x), in 1/s.
    """
    y, x = (n / 2 for n in grid.n)
    right, left = (gaussian_vortex(grid, (y, x + side * separation / 2), peak) for side in (1, -1))
    return right - left


def drift_of_pair(vorticity: Plane, grid: Grid) -> float:
    r"""Compute the speed at which the cores of a pair begin to move, by the law of Biot and Savart in the periodic box.

    .. math:: U = - \int w v \, dA \Big/ \int w \, dA, \qquad w = \max(\omega - 0.3 \, \omega_0, 0)

    Far apart in an infinite plane it is :math:`\Gamma / 2 \pi d`.

    Parameters
    ----------
    vorticity : Tensor
        The pair, shape (y, x), in 1/s.
    grid : Grid
        The grid.

    Returns
    -------
    float
        In m/s, along −y.
    """
    v = velocity(vorticity[None, None], grid)[0, 1]
    core = _core(vorticity)
    return -float((core * v).sum() / core.sum())


def descent_of_pair(before: Plane, after: Plane, grid: Grid) -> float:
    """Measure how far a pair moved down between two states, from the cores of its two vortices.

    Parameters
    ----------
    before, after : Tensor
        Vorticity, shape (y, x), in 1/s.
    grid : Grid
        The grid.

    Returns
    -------
    float
        Along −y, in m; the mean of the two vortices. NaN if a core is lost.
    """
    moved = [_core_height(sign * before) - _core_height(sign * after) for sign in (1, -1)]
    return sum(moved) / 2 * grid.spacing[0]


def _core(vorticity: Plane) -> Plane:
    """Return by how much the vorticity exceeds 0.3 of its largest value."""
    return (vorticity.double() - CORE * float(vorticity.max())).clamp(min=0)


def _core_height(vorticity: Plane) -> float:
    """Return the y, in cells, of the middle of the core of the positive vortex."""
    weight = _core(vorticity)
    y = torch.arange(len(weight), dtype=torch.float64) + 0.5
    return float((weight.sum(1).cpu() * y).sum() / weight.sum()) if float(weight.sum()) > 0 else math.nan


def vorticity_states(spec: StateSpec, vorticity: Float[Tensor, "batch y x"]) -> Float[Tensor, "batch component y x"]:
    """Return the states whose flow has a given vorticity; every other field is zero.

    Parameters
    ----------
    spec : StateSpec
        Fields of the states, with the vorticity or the velocity among them.
    vorticity : Tensor
        Shape (batch, y, x), in 1/s; its mean is taken off.

    Returns
    -------
    Tensor
        Shape (batch, component, y, x).
    """
    flow = (vorticity - vorticity.mean((-2, -1), keepdim=True))[:, None]
    parts = {VORTICITY.name: flow, VELOCITY.name: velocity(flow, spec.grid)}
    rest = torch.zeros_like(flow)
    return torch.cat([parts.get(f.name, rest.expand(-1, f.components, -1, -1)) for f in spec.fields], dim=1)


def vorticity_of_states(spec: StateSpec, states: Float[Tensor, "batch component y x"]) -> Float[Tensor, "batch y x"]:
    """Return the vorticity of states in the plane.

    Parameters
    ----------
    spec : StateSpec
        Fields of the states.
    states : Tensor
        Shape (batch, component, y, x).

    Returns
    -------
    Tensor
        Shape (batch, y, x), in 1/s, float64.

    Raises
    ------
    LeftOutError
        If the states hold no flow, or one between plates.
    """
    from solvers.diagnostics import vorticity as curl

    first = 0
    for field in spec.fields:
        if field.name in FLOWS and not field.wall:
            part = states[:, first : first + field.components].double()
            return part[:, 0] if field.name == VORTICITY.name else curl(part, spec.grid)[:, 0]
        first += field.components
    raise LeftOutError("the state holds no flow in a box that is periodic in both directions")


def measure_vortices(stepper: Stepper, sample: Sample, solver: Stepper | None, group: Group) -> xr.Dataset:
    """Measure what a step makes of a vortex and of a pair, and how fast it moves pairs.

    Parameters
    ----------
    stepper : Stepper
        The model.
    sample : Sample
        Gives the strength of the vortices, three times the RMS vorticity, and the inputs.
    solver : Stepper or None
        The classical solver of the same flow.
    group : Group
        Point group of the grid: pairs are given in all its rotations.

    Returns
    -------
    Dataset
        `vortex_state`, `vortex_change` and `vortex_change_solver` (vortices, y, x) in 1/s; `response_error` (vortices):
        the distance of the model's change from the solver's, relative to it; `pair_speed` (separation, turn),
        `pair_speed_solver` and `pair_speed_theory` (separation) in m/s; `pair_speed_error`: the mean over separations
        and turns of |model / solver − 1|, or against the theory without a solver.

    Raises
    ------
    LeftOutError
        If the state holds no flow, or one between plates.
    """
    spec, grid = stepper.spec, stepper.spec.grid
    peak = PEAK * float(vorticity_of_states(spec, sample.before).square().mean().sqrt())
    separations = [d for d in SEPARATIONS if d <= 0.375 * grid.n[1] and d <= 0.375 * grid.n[0]]
    if not separations:
        raise LeftOutError("the grid is too small for a pair of vortices")
    shown = SHOWN if SHOWN in separations else separations[-1]
    single = gaussian_vortex(grid, [n / 2 for n in grid.n], peak)
    pairs = torch.stack([pair_of_vortices(grid, d, peak) for d in separations])
    turns = [g for g in group if g.determinant > 0]
    states = vorticity_states(spec, torch.cat([single[None], pairs])).to(sample.before)
    inputs = _inputs_of(sample, len(states))

    def respond(model: Stepper, turn_by: int = 0) -> Tensor:
        """Return the vorticity one interval later, seen from a box that was turned before and is turned back."""
        g = turns[turn_by]
        back = next(h for h in turns if group.product(g, h) == group.elements[0])
        with torch.no_grad():
            after = apply_stepper(model, act_on_fields(spec.fields, states, g), act_on_inputs(spec, inputs, g))
        return vorticity_of_states(spec, act_on_fields(spec.fields, after, back)).cpu()

    before = vorticity_of_states(spec, states).cpu()
    after = [respond(stepper, i) for i in range(len(turns))]
    speed = [[descent_of_pair(before[1 + i], pose[1 + i], grid) / spec.interval for pose in after]
             for i in range(len(separations))]  # fmt: skip
    both = [0, 1 + separations.index(shown)]
    change = (after[0] - before)[both]
    theory = [drift_of_pair(pair, grid) for pair in pairs]
    result = {
        "vortex_state": (("vortices", "y", "x"), before[both].numpy(), _about("vorticity", "s-1")),
        "vortex_change": (("vortices", "y", "x"), change.numpy(), _about("what the model adds in one step", "s-1")),
        "pair_speed": (("separation", "turn"), speed, _about("speed at which the model moves a pair", "m s-1")),
        "pair_speed_theory": ("separation", theory, _about("by the law of Biot and Savart, at the start", "m s-1")),
    }
    reference = torch.tensor(theory)
    if solver is not None:
        moved = respond(solver)
        right = (moved - before)[both]
        reference = torch.tensor([descent_of_pair(before[1 + i], moved[1 + i], grid) / spec.interval
                                  for i in range(len(separations))])  # fmt: skip
        errors = (change - right).flatten(1).norm(dim=1) / right.flatten(1).norm(dim=1)
        result |= {
            "vortex_change_solver": (("vortices", "y", "x"), right.numpy(), _about("what the solver adds", "s-1")),
            "response_error": ("vortices", errors.tolist(), _about("|model - solver| / |solver|, of the change", "1")),
            "pair_speed_solver": ("separation", reference.tolist(), _about("speed of the solver's pair", "m s-1")),
        }
    relative = (torch.tensor(speed) / reference[:, None] - 1).abs().mean()
    against = "solver" if solver is not None else "theory"
    result["pair_speed_error"] = ((), float(relative), _about(f"mean |model / {against} - 1|", "1"))
    y, x = (axis.numpy() for axis in grid.coordinates())
    return xr.Dataset(
        result,
        {
            "vortices": ("vortices", ["vortex", "pair"], {"long_name": "what the step starts from"}),
            "separation": ("separation", separations, _about("distance of the pair, in cells", "1")),
            "turn": ("turn", [g.name for g in turns], {"long_name": "how the pair was turned"}),
            "y": ("y", y, _about("y", "m")),
            "x": ("x", x, _about("x", "m")),
        },
        {"vortex_width": WIDTH, "vortex_peak": peak, "pair_separation": shown},
    )


def _inputs_of(sample: Sample, count: int) -> dict[str, Tensor] | None:
    """Return the inputs of the first state for each vortex, without a mean velocity, which would carry them along."""
    if sample.inputs is None:
        return None
    repeated = {name: value[:1].repeat_interleave(count, 0) for name, value in sample.inputs.items()}
    return {name: torch.zeros_like(v) if name == MEAN_VELOCITY.name else v for name, v in repeated.items()}


def _about(long_name: str, units: str) -> dict[str, str]:
    """Return the attributes of a variable."""
    return {"long_name": long_name, "units": units}
