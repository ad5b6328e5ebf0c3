"""How far a model sees, against how far the flow carries things in one interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor, nn

from fluidsurrogate.evaluation.conservation import component_names
from fluidsurrogate.explaining.sample import LeftOutError, Sample
from solvers import VELOCITY, FieldSpec, Stepper, velocity

STATES, CELLS = 8, 4  # where the gradient is taken
BLUR = 1.0  # of the lumps that a step is perturbed by, in cells
FRACTION = 0.9
Map = Float[Tensor, "component y x"]


def sensitivity(function: Callable[[Tensor], Tensor], x: Tensor, blur: float = 0.0, cells: int = CELLS) -> Map:
    r"""Compute the mean size of the derivatives of a cell's output with respect to the inputs around it.

    .. math:: S_j(r) = \langle \, |\partial f(c) / \partial x_j(c + r)| \, \rangle

    The mean is over states and some cells c; the sizes of the output's components are added (the effective receptive
    field of Luo et al. 2016, arXiv:1701.04128). With a blur, the derivative is that with respect to a Gaussian lump
    around c + r. A single cell holds waves as short as the grid's, which spread over the whole grid where anything cuts
    them off: they would hide what the flow does at a distance.

    Parameters
    ----------
    function : callable
        The map f, from (batch, component, y, x) to (batch, component out, y, x), differentiable.
    x : Tensor
        States, shape (batch, component, y, x).
    blur : float
        Standard deviation of the lumps, in cells; 0 for single cells.
    cells : int
        Number of cells c, at fixed pseudo-random places.

    Returns
    -------
    Tensor
        Shape (component, y, x), with r = 0 in the middle, at [y // 2, x // 2].
    """
    x = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        out = function(x)
    height, width = x.shape[-2:]
    total = torch.zeros_like(x[0], requires_grad=False)
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(height * width, (cells,), generator=generator).tolist()
    for place, component in product(places, range(out.shape[1])):
        row, column = divmod(place, width)
        with torch.enable_grad():
            wanted = out[:, component, row, column].sum()
        (gradient,) = torch.autograd.grad(wanted, x, retain_graph=True)
        size = (_blurred(gradient, blur) if blur else gradient).abs().mean(0)
        total += size.roll((height // 2 - row, width // 2 - column), (-2, -1))
    return total / cells


def _sensitivity_if_any(function: Callable[[Tensor], Tensor], x: Tensor, blur: float = 0.0) -> Map:
    """Compute the sensitivity, or raise LeftOutError if no gradient passes through the function."""
    try:
        return sensitivity(function, x, blur)
    except (RuntimeError, NotImplementedError) as error:
        raise LeftOutError(f"no gradient passes through the step ({str(error).splitlines()[0]})") from None


def _blurred(values: Tensor, width: float) -> Tensor:
    """Convolve periodic fields with a Gaussian of so many cells, whose sum is 1."""
    rows, columns = values.shape[-2:]
    ky = 2 * math.pi * torch.fft.fftfreq(rows, device=values.device, dtype=values.dtype)
    kx = 2 * math.pi * torch.fft.rfftfreq(columns, device=values.device, dtype=values.dtype)
    kernel = (-(width**2) * (ky[:, None] ** 2 + kx**2) / 2).exp()
    return torch.fft.irfft2(kernel * torch.fft.rfft2(values), s=(rows, columns))


def distances(grid_cells: tuple[int, ...]) -> Float[Tensor, "y x"]:
    """Return the distance of every cell from the middle one, in cells.

    Parameters
    ----------
    grid_cells : tuple of int
        Cells (y, x).

    Returns
    -------
    Tensor
        Shape (y, x), float64.
    """
    y, x = (torch.arange(n, dtype=torch.float64) - n // 2 for n in grid_cells)
    return torch.hypot(y[:, None], x)


def radius_holding(sensitivities: Float[Tensor, "y x"], fraction: float = FRACTION) -> float:
    """Return the radius of the disc that holds a fraction of the squares of a sensitivity.

    Squares add up as the variances do that independent perturbations of the inputs cause. The law of Biot and Savart
    falls off as 1/r, so that the sum of its sizes would grow with the box.

    Parameters
    ----------
    sensitivities : Tensor
        Shape (y, x), not negative, with the middle at [y // 2, x // 2].
    fraction : float
        From 0 to 1.

    Returns
    -------
    float
        In cells; NaN if the sensitivity is zero everywhere.
    """
    distance = distances(tuple(sensitivities.shape)).flatten()
    order = distance.argsort()
    held = sensitivities.double().cpu().square().flatten()[order].cumsum(0)
    if not held[-1] > 0:
        return math.nan
    return float(distance[order][int((held < fraction * held[-1]).sum())])


def extent(sensitivities: Float[Tensor, "y x"]) -> int:
    """Return how far to each side any cell at all is seen.

    Parameters
    ----------
    sensitivities : Tensor
        Shape (y, x), not negative, with the middle at [y // 2, x // 2].

    Returns
    -------
    int
        In cells: the largest |y| or |x| where the sensitivity is more than rounding (1e-6 of its largest value).
    """
    seen = (sensitivities > 1e-6 * sensitivities.max()).nonzero()
    middle = torch.tensor([n // 2 for n in sensitivities.shape], device=seen.device)
    return int((seen - middle).abs().max()) if len(seen) else 0


def measure_receptive_field(
    stepper: Stepper, network: nn.Module | None, fields: tuple[FieldSpec, ...], sample: Sample, solver: Stepper | None
) -> xr.Dataset:
    """Measure how far the network, the whole step, and the classical solver see.

    Parameters
    ----------
    stepper : Stepper
        The model.
    network : Module or None
        Its network, if it has one.
    fields : tuple of FieldSpec
        Fields that the network takes.
    sample : Sample
        The first eight states are taken.
    solver : Stepper or None
        The classical solver of the same flow.

    Returns
    -------
    Dataset
        `network_sensitivity` (network_component, offset_y, offset_x), of the network's output to its normalised inputs;
        `sensitivity` (seen_by, offset_y, offset_x), of the change that a step makes to a Gaussian lump of one cell in
        the first field of the state (model and solver), its components added. `network_radius` and `radius` (seen_by):
        the radius that holds 90 % of the squares, in cells; `network_extent`: the farthest cell that is seen.
        `carried_rms` and `carried_max`: the RMS and the largest speed times the interval, in cells.
    """
    few, spec = sample.first(STATES), stepper.spec
    components = spec.fields[0].components
    maps, seen_by = [], []
    for name, model in (("model", stepper), ("solver", solver)):
        if model is None:
            continue

        def change(x: Tensor, model: Stepper = model) -> Tensor:
            after = model(x, few.inputs)
            if not after.requires_grad:
                raise RuntimeError("it is computed without gradients")
            return (after - x.to(after))[:, :components]

        try:
            found = _sensitivity_if_any(change, few.before, BLUR)
        except LeftOutError:
            if model is stepper:
                raise
            continue
        maps.append(found[:components].sum(0).cpu())
        seen_by.append(name)
    n = spec.grid.n
    offsets = {
        f"offset_{axis}": (f"offset_{axis}", [i - cells // 2 for i in range(cells)],
                           {"long_name": f"cells along {axis}", "units": "1"})
        for axis, cells in zip(("y", "x"), n, strict=True)
    }  # fmt: skip
    of_lump = {"long_name": "change of a cell for a lump at a distance, relative", "units": "1"}
    of_network = {"long_name": "derivative of the network's output", "units": "1"}
    in_cells = {"long_name": f"radius that holds {FRACTION:.0%} of the squared sensitivity, in cells", "units": "1"}
    stack = torch.stack(maps)
    result = xr.Dataset(
        {
            "sensitivity": (("seen_by", "offset_y", "offset_x"), stack.numpy(), of_lump),
            "radius": ("seen_by", [radius_holding(m) for m in maps], in_cells),
        },
        {"seen_by": ("seen_by", seen_by, {"long_name": "whose step"}), **offsets},
    )
    if network is not None:
        own = _sensitivity_if_any(network, network_input(stepper, network, few)).cpu()
        known = component_names(fields) if sum(field.components for field in fields) == len(own) else range(len(own))
        reach = {"long_name": "farthest cell that is seen, in cells", "units": "1"}
        dims = ("network_component", "offset_y", "offset_x")
        result["network_sensitivity"] = (dims, own.numpy(), of_network)
        result["network_radius"] = ((), radius_holding(own.sum(0)), in_cells)
        result["network_extent"] = ((), extent(own.sum(0)), reach)
        result = result.assign_coords(network_component=list(map(str, known)))
    if (speed := speeds(stepper, sample)) is not None:
        cells = spec.interval / min(spec.grid.spacing)
        for name, value in (("rms", speed.square().mean().sqrt()), ("max", speed.max())):
            about = {"long_name": f"{name} speed times the interval, in cells", "units": "1"}
            result[f"carried_{name}"] = ((), float(value) * cells, about)
    return result


def network_input(stepper: Stepper, network: nn.Module, sample: Sample) -> Tensor:
    """Return what the network takes while a stepper advances states.

    Parameters
    ----------
    stepper : Stepper
        The model.
    network : Module
        Its network.
    sample : Sample
        The states.

    Returns
    -------
    Tensor
        Shape (batch, component, y, x), normalised by a surrogate.
    """
    taken: list[Tensor] = []
    handle = network.register_forward_pre_hook(lambda _, args: taken.append(args[0].detach().clone()))
    try:
        with torch.no_grad():
            stepper(sample.before, sample.inputs)
    finally:
        handle.remove()
    return taken[0]


def speeds(stepper: Stepper, sample: Sample) -> Float[Tensor, "batch y x"] | None:
    """Return the speed of the flow in each cell.

    Parameters
    ----------
    stepper : Stepper
        Says what the states are.
    sample : Sample
        The states.

    Returns
    -------
    Tensor or None
        Shape (batch, y, x), in m/s; None if the states hold neither vorticity nor velocity.
    """
    spec, first = stepper.spec, 0
    if (component := spec.vorticity_component) is not None:
        return _norm(velocity(sample.before[:, component, None], spec.grid))
    for field in spec.fields:
        if field.name == VELOCITY.name:
            return _norm(sample.before[:, first : first + field.components])
        first += field.components
    return None


def _norm(u: Tensor) -> Tensor:
    """Return the length of the vectors of a field (batch, component, y, x)."""
    return u.square().sum(1).sqrt()
