"""Feature maps of an input and of the same input turned: whether they turn with it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import xarray as xr
from torch import Tensor

from fluidsurrogate.evaluation.equivariance import apply_stepper
from fluidsurrogate.explaining.feature_layers import FeatureLayer, recorded
from fluidsurrogate.explaining.sample import LeftOutError, Sample
from fluidsurrogate.nn.layers.group_action import act_on_regular
from solvers import Element, Group, Stepper, act_on_fields
from solvers.symmetry import act_on_inputs, move

MAX_MAPS = 8


def measure_feature_maps(
    stepper: Stepper, layers: Sequence[FeatureLayer], sample: Sample, group: Group, of_grid: Group
) -> xr.Dataset:
    r"""Record the first and the last feature of a network for a state and for the same state turned.

    A feature over a group turns, and its maps change places: those of the turned state are, with F the feature of the
    state,

    .. math:: F_{g x}(h) = g \, F_x(g^{-1} h)

    A network without a group should turn its maps where they are, as a network of isotropic filters would.

    Parameters
    ----------
    stepper : Stepper
        The model.
    layers : sequence of FeatureLayer
        Where its features pass.
    sample : Sample
        The last state is taken.
    group : Group
        Group of the network.
    of_grid : Group
        Point group of the grid, from which the turn is taken if the network has no group.

    Returns
    -------
    Dataset
        `feature_map` (layer, pose, map, y, x): of the channel with the largest feature all group elements; without a
        group the largest channels, at most eight. `map_source` (map): the map of the input that a map of the turned
        input must be. `feature_input` (pose, y, x): the first component of the state. `feature_turn_error` (layer): the
        distance of the features of the turned state from the turned features, relative.

    Raises
    ------
    LeftOutError
        If no layer has features on the grid of the states.
    """
    spec = stepper.spec
    on_grid = [layer for layer in layers if layer.shape[-2:] == spec.grid.n]
    if not on_grid:
        raise LeftOutError("no layer has features on the grid of the states")
    ends = [on_grid[0], on_grid[-1]]
    last = len(sample.before) - 1
    state, inputs = sample.before[last:], None
    if sample.inputs is not None:
        inputs = {name: value[last:] for name, value in sample.inputs.items()}
    has_alpha = ends[0].has_alpha and len(group) > 1
    element = _turn(group if has_alpha else of_grid)
    turned = act_on_fields(spec.fields, state, element), act_on_inputs(spec, inputs, element)
    poses = []
    for x, given in ((state, inputs), turned):
        with recorded(ends) as features:
            apply_stepper(stepper, x, given)
        poses.append([feature[:1] for feature in features])
    count = min(MAX_MAPS, *(feature[0].flatten(0, 1).shape[0] for feature in poses[0]))
    maps, errors = [], []
    for before, after in zip(*poses, strict=True):
        expected = act_on_regular(group, before, element) if has_alpha else move(before, element)
        errors.append(float((after - expected).norm() / before.norm()))
        maps.append(torch.stack([_largest_maps(pose[0], before[0], has_alpha, count) for pose in (before, after)]))
    names, source = [str(i) for i in range(maps[0].shape[1])], list(range(maps[0].shape[1]))
    if has_alpha:
        names = [h.name for h in group]
        source = [group.index(group.product(group.inverse(element), h)) for h in group]
    shown = torch.cat([state[:, 0], turned[0][:, 0]])
    height, width = (axis.numpy() for axis in spec.grid.coordinates())
    same = "distance from the turned features, relative"
    return xr.Dataset(
        {
            "feature_map": (("layer", "pose", "map", "y", "x"), torch.stack(maps).float().cpu().numpy(),
                            {"long_name": "features", "units": "1"}),
            "map_source": ("map", source, {"long_name": "map of the input that is this one turned", "units": "1"}),
            "feature_input": (("pose", "y", "x"), shown.float().cpu().numpy(),
                              {"long_name": spec.fields[0].name, "units": spec.fields[0].units}),
            "feature_turn_error": ("layer", errors, {"long_name": same, "units": "1"}),
        },
        {
            "layer": ("layer", ["first", "last"], {"long_name": "layer with features on the grid"}),
            "pose": ("pose", ["input", element.name], {"long_name": "the state, and how it was moved"}),
            "map": ("map", names, {"long_name": "group element" if has_alpha else "channel"}),
            "y": ("y", height, {"long_name": "y", "units": "m"}),
            "x": ("x", width, {"long_name": "x", "units": "m"}),
        },
    )  # fmt: skip


def _turn(group: Group) -> Element:
    """Return the quarter turn of a group or, if it has none, another of its elements."""
    return next((g for g in group if g.name == "rotation 90"), group.elements[-1])


def _largest_maps(feature: Tensor, reference: Tensor, has_alpha: bool, count: int) -> Tensor:
    """Return the maps to draw of a feature (channel, α, y, x): those that are largest in the reference."""
    size = reference.square().flatten(1).sum(1)
    if has_alpha:
        return feature[int(size.argmax())]
    return feature[size.argsort(descending=True)[:count].sort().values].flatten(0, 1)[:count]
