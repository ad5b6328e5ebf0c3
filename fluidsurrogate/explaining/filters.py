"""The filters of the first layer, and whether a filter's turned copies are among them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor, nn

from fluidsurrogate.evaluation.conservation import component_names
from fluidsurrogate.explaining.sample import LeftOutError
from fluidsurrogate.nn import LiftingConv
from solvers import FieldSpec, Group, act_on_fields

MAX_CHANNELS = 16


def first_filters(
    network: nn.Module | None, fields: Sequence[FieldSpec]
) -> tuple[Float[Tensor, "channel alpha component y x"], Sequence[FieldSpec], list[str]]:
    """Return the filters that a network applies to the fields of the flow.

    Parameters
    ----------
    network : Module or None
        The network: with a `LiftingConv` or, if it has none, a `torch.nn.Conv2d` that takes all fields.
    fields : sequence of FieldSpec
        Fields that the network takes.

    Returns
    -------
    filters : Tensor
        Shape (channel, α, component, y, x); α has one element in a network without a group.
    fields : sequence of FieldSpec
        The fields of the components.
    elements : list of str
        Names of the group elements along α.

    Raises
    ------
    LeftOutError
        If there is no such layer.
    """
    layers = [] if network is None else list(network.modules())
    for layer in layers:
        if isinstance(layer, LiftingConv):
            weight, _ = layer.expand_kernel()
            names = [element.name for element in layer.group]
            return weight.detach().unflatten(0, (-1, len(names))), layer.fields, names
    components = sum(field.components for field in fields)
    for layer in layers:
        if isinstance(layer, nn.Conv2d) and layer.in_channels == components and layer.groups == 1:
            return layer.weight.detach()[:, None], fields, ["identity"]
    raise LeftOutError("the network has no first convolution of all fields")


def orbit_errors(
    filters: Float[Tensor, "channel alpha component y x"], fields: Sequence[FieldSpec], group: Group
) -> dict[str, float]:
    r"""Measure how far the turned and mirrored copies of filters are from the nearest filter of the same layer.

    .. math:: \sqrt{\sum_i \min_j \|g \psi_i - \psi_j\|^2 \Big/ \sum_i \|\psi_i\|^2}

    The error is zero if the filters come in whole orbits, as those of a lifting convolution over a group that holds g
    do. A plain network has no reason to have them, unless it found them in its data.

    Parameters
    ----------
    filters : Tensor
        Shape (channel, α, component, y, x).
    fields : sequence of FieldSpec
        Types of the components, which say how a filter turns.
    group : Group
        The elements g.

    Returns
    -------
    dict
        The error of each element but the identity, by its name.
    """
    stack = filters.flatten(0, 1).double()
    size = stack.square().sum()
    errors = {}
    for element in group.elements[1:]:
        moved = act_on_fields(fields, stack, element)
        if moved.shape != stack.shape:
            continue
        # One by one, because all differences at once may not fit; `torch.cdist` gives no exact zeros.
        nearest = torch.stack([(one - stack).square().flatten(1).sum(1).amin() for one in moved])
        errors[element.name] = float((nearest.sum() / size).sqrt())
    return errors


def measure_filters(network: nn.Module | None, fields: Sequence[FieldSpec], group: Group) -> xr.Dataset:
    """Measure the filters of the first layer and their orbits.

    Parameters
    ----------
    network : Module or None
        The network.
    fields : sequence of FieldSpec
        Fields that the network takes.
    group : Group
        Point group of the grid.

    Returns
    -------
    Dataset
        `filter` (channel, filter_element, filter_component, filter_y, filter_x), of the sixteen largest channels,
        and `orbit_error` (element).
    """
    filters, fields, elements = first_filters(network, fields)
    errors = orbit_errors(filters, fields, group)
    largest = filters.square().flatten(1).sum(1).argsort(descending=True)[:MAX_CHANNELS].sort().values
    offsets = {
        f"filter_{axis}": (f"filter_{axis}", [i - size // 2 for i in range(size)],
                           {"long_name": f"cells along {axis}", "units": "1"})
        for axis, size in zip(("y", "x"), filters.shape[-2:], strict=True)
    }  # fmt: skip
    dims = ("channel", "filter_element", "filter_component", "filter_y", "filter_x")
    formula = "distance of the turned filters from the nearest filter, relative"
    return xr.Dataset(
        {
            "filter": (dims, filters[largest].cpu().numpy(), {"long_name": "filters of the first layer", "units": "1"}),
            "orbit_error": ("element", list(errors.values()), {"long_name": formula, "units": "1"}),
        },
        {
            "channel": ("channel", largest.cpu().numpy(), {"long_name": "channel of the first layer", "units": "1"}),
            "filter_element": ("filter_element", elements, {"long_name": "group element", "units": "1"}),
            "filter_component": ("filter_component", component_names(fields), {"long_name": "component", "units": "1"}),
            "element": ("element", list(errors), {"long_name": "element of the grid's point group", "units": "1"}),
            **offsets,
        },
    )  # fmt: skip
