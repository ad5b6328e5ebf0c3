"""Export a trained model as an ordinary torch module, for `torch.compile`, `torch.export` and ONNX."""

from __future__ import annotations

import copy
from typing import final

from torch import Tensor, nn

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.models.step import SurrogateStep
from fluidsurrogate.models.surrogate import Surrogate


def as_module(model: Surrogate) -> ExportedStep:
    """Return one step of a model as a torch module of plain convolutions, with the weights as they are now.

    Parameters
    ----------
    model : Surrogate
        The model; it stays as it is.

    Returns
    -------
    ExportedStep
        A module that maps (state, *inputs in the order of the spec) to the next state, for `torch.compile`,
        `torch.export` and ONNX.

    Raises
    ------
    UsageError
        If the model is a hybrid, whose solver is not a network.
    """
    if model.base is not None:
        raise UsageError("a hybrid cannot be exported, because its solver is not a network")
    return ExportedStep(copy.deepcopy(model.step), model.network.to_plain()).eval()


@final
class ExportedStep(nn.Module):
    """Step of a surrogate as a module of plain convolutions, with its kernels expanded for good.

    Parameters
    ----------
    step : SurrogateStep
        Normalisation, projection and energy budget.
    network : torch.nn.Module
        The network as plain convolutions.
    """

    def __init__(self, step: SurrogateStep, network: nn.Module) -> None:
        super().__init__()
        self.step, self.network = step, network

    def forward(self, state: Tensor, *inputs: Tensor) -> Tensor:
        """Advance a state by one step.

        Parameters
        ----------
        state : Tensor
            Shape (batch, component, y, x), in physical units.
        *inputs : Tensor
            The inputs in the order of the spec, each (batch, component, y, x) or, if uniform, (batch, component, 1, 1),
            in physical units.

        Returns
        -------
        Tensor
            The state one step later, shape (batch, component, y, x), in physical units.
        """
        return self.step(self.network, state.to(self.step.scale), self.step.normalise_inputs(inputs, state))
