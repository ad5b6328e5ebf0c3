"""The surrogate: a trained network that advances states in physical units, as every other stepper does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from fluidsurrogate.config.flow_and_model_configs import ModelConfig
from fluidsurrogate.core.devices import device_available, single_precision_convolutions
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.grids import describe_grid
from fluidsurrogate.models.calibration import Calibration
from fluidsurrogate.models.model_file_checks import count_parameters
from fluidsurrogate.models.normalisation import Normalisation
from fluidsurrogate.models.step import SurrogateStep, order_inputs
from fluidsurrogate.nn import Network, cast_weights
from solvers import StateSpec, Stepper
from solvers.array_types import Inputs, State


@dataclass(frozen=True)
class SurrogateCarry:
    """State of a surrogate's rollout between two intervals.

    Parameters
    ----------
    state : Tensor
        Shape (batch, component, y, x), in physical units; for a deep ensemble, the batches of its networks one after
        the other.
    inputs : mapping of str to Tensor, optional
        The inputs as they were given.
    normalised_inputs : Tensor, optional
        The normalised inputs, shape (batch, component, y, x).
    network : callable
        The network with its kernels expanded once for the whole rollout.
    solver : object, optional
        In a hybrid, what its solver carries: perhaps finer than the stored states.
    correction : Tensor, optional
        In a hybrid, what is to be added to the solver's state before its next interval, of the shape of `state`.
    """

    state: State
    inputs: Inputs
    normalised_inputs: Tensor | None
    network: Callable[[Tensor], Tensor]
    solver: Any = None
    correction: State | None = None


@final
class Surrogate(Stepper[SurrogateCarry]):
    """Trained network that advances a state by one stored interval.

    .. math:: x^+ = b + P\\, c\\, N(z)

    The network N predicts the normalised change of b, which is the state itself or, in a hybrid, the state that a
    coarse solver makes of it; c is the size of a change and P a projection. See `SurrogateStep`.

    A hybrid's solver keeps its own state from interval to interval. The network's correction is added to the modes that
    the stored states hold; the finer modes of the solver are left as they are.

    Parameters
    ----------
    network : Network
        The network N; several networks are combined in one `DeepEnsemble`.
    spec : StateSpec
        Grid, fields, inputs and interval of the stored states.
    normalisation : Normalisation
        Shift, scale and size of a change, fitted to the training data.
    config : ModelConfig
        The model's table of the experiment.
    about : mapping of str to object
        What the training recorded: the model's name, experiment, provenance, seed and versions.
    base : Stepper, optional
        The coarse solver that a hybrid corrects.
    multiple : int
        Number of stored intervals in one step: one of `config.multiples`.
    constants : mapping of str to float, optional
        Viscosity, drag and diffusivity of the training flow, as far as they are known and not inputs.

    Attributes
    ----------
    spec : StateSpec
        Grid, fields, inputs and interval of one step of this model.
    stored : StateSpec
        Grid, fields, inputs and interval of the stored states.
    folder : Path or None
        The folder that the model was loaded from.
    calibration : Calibration or None
        Error bounds and perturbation of the forecasts, on this grid and with this interval.
    step : SurrogateStep
        The step around the network: normalisation, projection and energy budget.
    """

    def __init__(
        self,
        network: Network,
        spec: StateSpec,
        normalisation: Normalisation,
        config: ModelConfig,
        about: Mapping[str, Any],
        base: Stepper | None = None,
        multiple: int = 1,
        constants: Mapping[str, float] | None = None,
    ) -> None:
        self.network, self.normalisation, self.config, self.about = network, normalisation, config, about
        self.constants = dict(constants or {})
        self.stored, self.base, self.multiple = spec, base, multiple
        self.spec = replace(spec, interval=multiple * spec.interval)
        self.folder: Path | None = None
        self.calibration: Calibration | None = None
        weight = next(network.parameters())
        self.step = SurrogateStep(spec, normalisation, config.multiples, multiple)
        self.step.to(weight.device, weight.real.dtype)
        # Neither the mean of several networks nor a hybrid's stored state says all that the next step depends on.
        self.is_markov = config.networks == 1 and base is None
        self._mean_of_networks, self._with_budget, self._autocast = True, True, False

    def every(self, multiple: int) -> Surrogate:
        """Return the same model, weights shared, with steps of several stored intervals.

        Parameters
        ----------
        multiple : int
            Number of stored intervals in one step.

        Returns
        -------
        Surrogate
            The model itself if its steps are that long already; otherwise a model without a calibration.

        Raises
        ------
        UsageError
            If the model was not trained for steps of that length (`models.NAME.intervals`).
        """
        if multiple == self.multiple:
            return self
        if multiple not in self.config.multiples:
            raise UsageError(f"this model steps over {self.config.multiples} stored intervals (got {multiple}): "
                             "set models.NAME.intervals and train it again")  # fmt: skip
        return self._copy_with(self.network, multiple)

    def each_network(self) -> Surrogate:
        """Return a view of a deep ensemble whose state holds those of all networks, one batch after the other.

        Returns
        -------
        Surrogate
            A model that shares weights and step with this one.
        """
        view = copy.copy(self)
        view._mean_of_networks = False
        return view

    def for_training(self, precision: str = "full") -> Surrogate:
        """Return a view for the training loss: each network by itself, and without the energy budget.

        The energy budget would hide from the loss what the network dissipates (experiments/stability).

        Parameters
        ----------
        precision : str
            Precision of the network: "full" or "bfloat16". The step around it stays in full precision.

        Returns
        -------
        Surrogate
            A model that shares weights and step with this one.
        """
        view = self.each_network().in_precision(precision)
        view._with_budget = False
        return view

    def in_precision(self, precision: str) -> Surrogate:
        """Return a view of the model whose network computes in another precision.

        In bfloat16 the network runs in torch's autocast; state, change, projection and energy budget stay in single
        precision. A symmetry that is exact holds to the rounding of bfloat16 then, some three digits of a change. A
        view is for computing only: `save` writes the model itself.

        Parameters
        ----------
        precision : {"full", "bfloat16"}
            Precision of the network.

        Returns
        -------
        Surrogate
            A model that shares weights and step with this one.

        Raises
        ------
        UsageError
            If there is no such precision, or bfloat16 is asked for and the model is in double precision or has several
            networks.
        """
        if precision not in ("full", "bfloat16"):
            raise UsageError(f"precision must be 'full' or 'bfloat16' (got {precision!r})")
        if precision == "bfloat16" and self.dtype != torch.float32:
            raise UsageError(f"precision = 'bfloat16' needs a model in float32 (got one in {self.dtype_name})")
        if precision == "bfloat16" and self.config.networks > 1:
            raise UsageError(
                "precision = 'bfloat16' is for models of one network: several compute in full precision only"
            )
        view = copy.copy(self)
        view._autocast = precision == "bfloat16"
        return view

    def __repr__(self) -> str:
        spec, kind = self.spec, self.config.kind
        fields = ", ".join(field.name for field in spec.fields)
        inputs = f" given {', '.join(field.name for field in spec.inputs)}" if spec.inputs else ""
        return (
            f"<Surrogate {self.about.get('name', '')!r}: {kind} over {self.network.group.name}, {self.parameters:,} "
            f"weights; {fields}{inputs} on {describe_grid(spec.grid)}, every {spec.interval:g}; {self.dtype_name} on "
            f"{self.device}>"
        )

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Surrogate:
        """Return a copy of the model on another device or in another precision; this model stays as it is.

        Parameters
        ----------
        device : str or torch.device, optional
            Device such as cpu, cuda, cuda:1 or mps; by default the model's own.
        dtype : torch.dtype, optional
            Precision, torch.float32 or torch.float64; by default the model's own.

        Returns
        -------
        Surrogate
            The copy; in another precision it is no longer calibrated.

        Raises
        ------
        UsageError
            If the device is not available, the precision is not one of the two, the model has complex weights and
            double precision is asked for, or the model is a hybrid, whose solver is built when it is loaded.
        """
        device, dtype = str(device or self.device), dtype or self.dtype
        if not device_available(device):
            raise UsageError(f"device {device!r} is not available here; try cpu, cuda or mps")
        if dtype not in (torch.float32, torch.float64):
            raise UsageError(f"dtype must be torch.float32 or torch.float64 (got {dtype})")
        if self.base is not None and (torch.device(device), dtype) != (self.device, self.dtype):
            raise UsageError(
                "a hybrid cannot be moved, because its solver is built when it is loaded: save it, then call "
                "fs.load(folder, device)"
            )
        try:
            network = cast_weights(copy.deepcopy(self.network), dtype).to(device)
        except ValueError as error:
            raise UsageError(f"the model cannot be {dtype}: {error}") from None
        moved = self._copy_with(network, self.multiple)
        moved.calibration = self.calibration if dtype == self.dtype else None
        moved._autocast = self._autocast and dtype == torch.float32
        return moved

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the states."""
        return self.step.scale.dtype

    @property
    def device(self) -> torch.device:
        """Device that the model computes on."""
        return self.step.scale.device

    @property
    def dtype_name(self) -> str:
        """Precision of the states as a word: float32 or float64."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def precision(self) -> str:
        """Precision of the network: "full", that of the states, or "bfloat16"."""
        return "bfloat16" if self._autocast else "full"

    @property
    def parameters(self) -> int:
        """Number of trained weights; a complex one counts as two."""
        return count_parameters(self.network)

    def start(self, state: State, inputs: Inputs = None, seeds: Sequence[int] | None = None) -> SurrogateCarry:
        """Begin a rollout: normalise the inputs and expand the kernels, once.

        Parameters
        ----------
        state : Tensor
            Shape (batch, component, y, x), in physical units.
        inputs : mapping of str to Tensor, optional
            The inputs of `spec` by name, each (batch, component, y, x).
        seeds : sequence of int, optional
            Not used: a surrogate is deterministic.

        Returns
        -------
        SurrogateCarry
            The carry that `advance` takes.

        Raises
        ------
        UsageError
            If `state` holds no trajectory, or a hybrid's solver cannot run from it.
        """
        if not len(state):
            raise UsageError("state holds no trajectory: give at least one")
        self.spec.check(state, inputs)
        if (networks := self.config.networks) > 1:
            state = _repeat(state, networks)
            inputs = {name: _repeat(value, networks) for name, value in (inputs or {}).items()}
        normalised_inputs = self.step.normalise_inputs(order_inputs(self.spec, inputs), state)
        solver = None
        if self.base is not None:
            with explaining_solver_errors():
                solver = self.base.start(state, inputs)
        with self._autocast_context():
            return SurrogateCarry(state.to(self.step.scale), inputs, normalised_inputs, self.network.fold(), solver)

    def advance(self, carry: SurrogateCarry) -> SurrogateCarry:
        """Advance by one interval.

        Parameters
        ----------
        carry : SurrogateCarry
            A carry of `start` or `advance`.

        Returns
        -------
        SurrogateCarry
            The carry one interval later.

        Raises
        ------
        UsageError
            If a hybrid's solver cannot run from this state.
        """
        solver = base = None
        if self.base is not None:
            with explaining_solver_errors():
                solver = carry.solver
                if carry.correction is not None:
                    solver = self.base.correct(solver, carry.correction)
                solver = self.base.advance(solver)
                base = self.base.state(solver).to(carry.state)

        def network(z: Tensor) -> Tensor:
            with self._autocast_context(), single_precision_convolutions(self.device):
                return carry.network(z).to(z.dtype)

        state = self.step(network, carry.state, carry.normalised_inputs, base, self._with_budget)
        return replace(carry, state=state, solver=solver, correction=None if base is None else state - base)

    def correct(self, carry: SurrogateCarry, correction: State) -> SurrogateCarry:
        """Add a correction to the state of a carry; a hybrid's solver gets it before its next interval.

        Parameters
        ----------
        carry : SurrogateCarry
            A carry of `start` or `advance`.
        correction : Tensor
            What to add to the state, of the shape of `carry.state`.

        Returns
        -------
        SurrogateCarry
            The carry with the corrected state.
        """
        pending = correction if carry.correction is None else carry.correction + correction
        return replace(carry, state=carry.state + correction, correction=None if carry.solver is None else pending)

    def state(self, carry: SurrogateCarry) -> State:
        """Return the state of a carry in physical units; for a deep ensemble, the ensemble mean.

        Parameters
        ----------
        carry : SurrogateCarry
            A carry of `start` or `advance`.

        Returns
        -------
        Tensor
            Shape (batch, component, y, x).
        """
        networks = self.config.networks
        if networks == 1 or not self._mean_of_networks:
            return carry.state
        return carry.state.unflatten(0, (networks, -1)).mean(0)

    def _copy_with(self, network: Network, multiple: int) -> Surrogate:
        """Return the same view of the model, uncalibrated, with another network or interval."""
        other = Surrogate(
            network, self.stored, self.normalisation, self.config, self.about, self.base, multiple, self.constants
        )
        other.folder, other._mean_of_networks = self.folder, self._mean_of_networks
        other._with_budget, other._autocast = self._with_budget, self._autocast
        return other

    def _autocast_context(self) -> torch.autocast:
        """Return the context in which the network is applied."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocast)


@contextmanager
def explaining_solver_errors() -> Iterator[None]:
    """Turn the error of a hybrid's solver, for numbers with which it cannot run, into a `UsageError`.

    Yields
    ------
    None
        The block runs once.

    Raises
    ------
    UsageError
        If the block raises ValueError.
    """
    try:
        yield
    except ValueError as error:
        raise UsageError(f"the hybrid's solver: {error}") from None


def _repeat(values: Tensor, times: int) -> Tensor:
    """Repeat a batch, whatever its other axes are."""
    return values.repeat(times, *(1 for _ in values.shape[1:]))
