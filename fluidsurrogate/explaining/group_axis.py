"""The group axis α of a network: what each element contributes, and what is lost without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from fluidsurrogate.evaluation.equivariance import apply_stepper
from fluidsurrogate.explaining.feature_layers import FeatureLayer, recorded
from fluidsurrogate.explaining.sample import LeftOutError, Sample
from solvers import Group, Stepper


def measure_contributions(stepper: Stepper, layers: Sequence[FeatureLayer], sample: Sample, group: Group) -> xr.Dataset:
    r"""Measure how large the features of each group element are in the last layer, before the readout.

    .. math:: c_g = |G| \, \langle |F(g)| \rangle \Big/ \sum_h \langle |F(h)| \rangle

    In a network that is equivariant, on data without a preferred direction, all are 1.

    Parameters
    ----------
    stepper : Stepper
        The model.
    layers : sequence of FeatureLayer
        Where its features pass.
    sample : Sample
        The states; the mean is over them, channels and cells.
    group : Group
        Group of the network.

    Returns
    -------
    Dataset
        `contribution` (alpha).

    Raises
    ------
    LeftOutError
        If the network has no group axis.
    """
    _require_alpha(layers, group)
    with recorded(layers[-1:]) as features:
        apply_stepper(stepper, sample.before, sample.inputs)
    size = features[0].abs().mean((0, 1, 3, 4)).double().cpu()
    about = {"long_name": "mean size of the last features, relative to the mean over the group", "units": "1"}
    return xr.Dataset(
        {"contribution": ("alpha", (size / size.mean()).numpy(), about)},
        {"alpha": ("alpha", [g.name for g in group], {"long_name": "group element", "units": "1"})},
    )


def ablations(group: Group) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return what may take the place of a feature, to see what its group axis is worth.

    Parameters
    ----------
    group : Group
        Group of the feature (batch, channel, α, y, x).

    Returns
    -------
    dict of str to callable
        "mean": the mean over α everywhere along α. "mean over rotations", if the group has mirrors: the means over the
        rotations and over the mirrors, which keep the handedness. "shuffled": the maps of α in a fixed order that
        leaves none in its place.
    """
    size, generator = len(group), torch.Generator().manual_seed(0)
    order = torch.arange(size)
    while size > 1 and (order == torch.arange(size)).any():  # no map stays in its place
        order = torch.randperm(size, generator=generator)
    determinants = torch.tensor([g.determinant for g in group])

    def by_handedness(feature: Tensor) -> Tensor:
        out = feature.clone()
        for sign in (1, -1):
            which = (determinants == sign).to(feature.device)
            out[:, :, which] = feature[:, :, which].mean(2, keepdim=True).expand_as(feature[:, :, which])
        return out

    kinds: dict[str, Callable[[Tensor], Tensor]] = {"mean": lambda f: f.mean(2, keepdim=True).expand_as(f).contiguous()}
    if 0 < int((determinants > 0).sum()) < size:
        kinds["mean over rotations"] = by_handedness
    return kinds | {"shuffled": lambda f: f[:, :, order.to(f.device)]}


def measure_ablation(stepper: Stepper, layers: Sequence[FeatureLayer], sample: Sample, group: Group) -> xr.Dataset:
    """Measure how much worse a step becomes if a layer loses what distinguishes the elements of the group.

    Parameters
    ----------
    stepper : Stepper
        The model.
    layers : sequence of FeatureLayer
        Where its features pass; one at a time is ablated.
    sample : Sample
        States and true next states.
    group : Group
        Group of the network.

    Returns
    -------
    Dataset
        `ablation_error` (place, ablation), the relative error of the step over that of the whole network, and
        `persistence_error`, that of a forecast that changes nothing, over it too. Errors are L² over all components,
        each relative to its root mean square.

    Raises
    ------
    LeftOutError
        If the network has no group axis, or there are no true next states.
    """
    _require_alpha(layers, group)
    truth, kinds = sample.require_after(), ablations(group)
    scale = truth.square().mean((0, 2, 3), keepdim=True).sqrt()

    def error() -> float:
        after = apply_stepper(stepper, sample.before, sample.inputs)
        return _relative(after.cpu().double() - truth, scale)

    whole = error()
    errors: list[list[float]] = []
    for layer in layers:
        errors.append([])
        for function in kinds.values():
            with layer.replaced(function):
                errors[-1].append(error() / whole)
    persistence = _relative(sample.before - truth, scale) / whole
    times = {"long_name": "error of one step, over that of the whole network", "units": "1"}
    return xr.Dataset(
        {"ablation_error": (("place", "ablation"), errors, times), "persistence_error": ((), persistence, times)},
        {
            "place": ("place", [layer.name for layer in layers], {"long_name": "where the features are replaced"}),
            "ablation": ("ablation", list(kinds), {"long_name": "what takes their place along α"}),
        },
    )


def _relative(difference: Float[Tensor, "batch component y x"], scale: Tensor) -> float:
    """Return the root mean square of a difference, each component over its scale."""
    return float((difference / scale.where(scale > 0, 1.0)).square().mean().sqrt())


def _require_alpha(layers: Sequence[FeatureLayer], group: Group) -> None:
    """Raise LeftOutError unless the features have an axis of more than one group element."""
    if len(group) == 1 or not layers[-1].has_alpha:
        raise LeftOutError("the network has no axis of group elements")
