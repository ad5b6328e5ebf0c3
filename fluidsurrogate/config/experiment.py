"""An experiment: one TOML file, read into one frozen tree in which every key is known and every value is in range."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Literal, final

import torch
import xarray as xr
from pydantic import Field, ValidationError, model_validator

from fluidsurrogate.config.base import Config
from fluidsurrogate.config.data_facts import with_data_facts
from fluidsurrogate.config.dimension_defaults import dimensions_in, with_dimension_defaults
from fluidsurrogate.config.experiment_checks import check_experiment
from fluidsurrogate.config.experiment_file import read_tree
from fluidsurrogate.config.flow_and_model_configs import AnyFlowConfig, AnyModelConfig, ModelConfig, config_of_kind
from fluidsurrogate.config.solver_configs import BaselineSolverConfig, SolverConfig
from fluidsurrogate.config.stage_configs import CompareConfig, DataConfig, GridConfig, TrainConfig, have_same_symmetry
from fluidsurrogate.config.validation_messages import describe_errors
from fluidsurrogate.core.devices import device_available
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.seeding import derive_seed
from fluidsurrogate.data.flow_constants import check_constants
from solvers import Flow, Grid, NavierStokes, NavierStokes2D, Resampled, StateSpec, Stepper, VelocityForm

SKIP_NETWORKS = "skip networks"  # the validation context in which no network is built
MAX_REPORTED_ERRORS = 5
MAX_SPIN_UP_INTERVALS = 1_000_000
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


@final
class Experiment(Config):
    """One experiment: a flow, the data to generate, the models to train and how they are compared.

    An experiment is frozen, and all its values are checked. `Experiment.read` reads it from a TOML file,
    `Experiment.from_tree` from nested dicts. The methods `build_...` make the objects that it describes.

    Parameters
    ----------
    name : str
        The name of the experiment, of letters, digits, "-" and "_".
    seed : int
        The seed from which all random numbers derive.
    dtype : {"float32", "float64"}
        The working precision.
    device : str
        The device, such as "cpu", "cuda", "cuda:1" or "mps".
    grid : GridConfig
        The table `[grid]`.
    flow : FlowConfig
        The table `[flow]`, whose keys depend on its `kind`.
    solver : SolverConfig
        The table `[solver]`.
    data : DataConfig
        The table `[data]`.
    models : dict of str to ModelConfig
        The tables `[models.NAME]`, whose keys depend on their `kind`.
    train : TrainConfig
        The table `[train]`.
    compare : CompareConfig
        The table `[compare]`.

    Examples
    --------
    >>> import fluidsurrogate as fs
    >>> experiment = fs.Experiment.from_tree({
    ...     "name": "tiny",
    ...     "grid": {"n": 16},
    ...     "flow": {"kind": "decaying", "viscosity": 0.01, "wavenumber": 2},
    ...     "data": {"train": 2, "valid": 1, "test": 1, "steps": 4, "interval": 0.25},
    ... })
    >>> experiment.data.steps, experiment.train.batch
    (4, 16)
    >>> [field.name for field in experiment.spec.fields], experiment.spec.grid.n
    (['vorticity'], (16, 16))
    >>> solver = experiment.build_solver()
    >>> solver.spec.interval
    0.25
    """

    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    dtype: Literal["float32", "float64"] = "float32"
    device: str = "cpu"
    grid: GridConfig
    flow: AnyFlowConfig
    solver: SolverConfig = SolverConfig()
    data: DataConfig
    models: dict[Name, AnyModelConfig] = Field(default_factory=dict)
    train: TrainConfig = TrainConfig()
    compare: CompareConfig = CompareConfig()

    @model_validator(mode="after")
    def _check(self, info: Any):
        """Check the device, and that the tables fit together; `info` holds pydantic's validation context."""
        if not device_available(self.device):
            raise ValueError(f"device {self.device!r} is not available here; choose cpu, cuda or mps")
        check_experiment(self, with_networks=info.context != SKIP_NETWORKS)
        return self

    @classmethod
    def read(cls, path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
        """Read an experiment from a TOML file.

        Parameters
        ----------
        path : str or Path
            The TOML file. Paths in it are relative to its folder.
        overrides : sequence of str
            Values to replace, as "dotted.key=value". Paths in them are relative to the current folder.

        Returns
        -------
        Experiment
            The checked experiment.

        Raises
        ------
        UsageError
            If the file cannot be read, or a key or a value is wrong.
        """
        return cls.from_tree(read_tree(path, overrides), str(path))

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any], origin: str = "experiment", check_networks: bool = True) -> Experiment:
        """Make an experiment from nested dicts, such as a parsed TOML file.

        Parameters
        ----------
        tree : mapping
            The tables as nested plain data.
        origin : str
            What error messages call the experiment, such as the name of its file.
        check_networks : bool
            Whether each model's network is tried on a state, which needs most of torch.

        Returns
        -------
        Experiment
            The checked experiment.

        Raises
        ------
        UsageError
            If a key or a value is wrong. The message has one line for each error, with its dotted key; of many errors,
            the first five.
        """
        try:
            tree = with_dimension_defaults(with_data_facts(tree))
            # Through JSON: there a list may stand for a tuple while numbers, strings and booleans stay apart.
            context = None if check_networks else SKIP_NETWORKS
            return cls.model_validate_json(json.dumps(tree, default=str), context=context)
        except ValidationError as error:
            of_kind = partial(config_of_kind, dimensions=dimensions_in(tree))
            lines = describe_errors(cls, error.errors(), of_kind)
            hidden = len(lines) - MAX_REPORTED_ERRORS
            more = [f"and {hidden} more errors"] if hidden > 0 else []
            raise UsageError("\n".join(f"{origin}: {line}" for line in lines[:MAX_REPORTED_ERRORS] + more)) from None

    def tree(self) -> dict[str, Any]:
        """Return the full experiment as plain data, defaults included.

        Returns
        -------
        dict
            Nested dicts, which `from_tree` takes.
        """
        return self.model_dump(mode="json", exclude_none=True)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The working precision."""
        return getattr(torch, self.dtype)

    def build_flow(self) -> Flow:
        """Build the flow.

        Returns
        -------
        Flow
            The flow; if its parameters vary from trajectory to trajectory, the one that stands for all.
        """
        return self.flow.build()

    @property
    def constants(self) -> dict[str, float]:
        """The flow's viscosity, drag and diffusivity, as far as they are the same for every trajectory."""
        inputs = {field.name for field in self.spec.inputs}
        return {name: value for name, value in self.build_flow().coefficients.items() if name not in inputs}

    def check_constants(self, dataset: xr.Dataset) -> None:
        """Check that a dataset does not contradict the constants of the experiment's flow.

        Parameters
        ----------
        dataset : xr.Dataset
            A dataset, which may state viscosity, drag and diffusivity in its attributes.

        Raises
        ------
        UsageError
            If it states another value than the experiment's flow has.
        """
        check_constants(dataset, self.constants, "the experiment's flow", "make {} the same in both")

    def trajectory_seed(self, split: str, number: int) -> int:
        """Derive the seed of a trajectory, which fixes everything random about it.

        Parameters
        ----------
        split : {"train", "valid", "test"}
            The split.
        number : int
            The number of the trajectory in its split.

        Returns
        -------
        int
            The seed.
        """
        return derive_seed(self.seed, split, number)

    def flows(self, split: str, numbers: Sequence[int]) -> list[Flow]:
        """Build the flows of some trajectories.

        Parameters
        ----------
        split : {"train", "valid", "test"}
            The split.
        numbers : sequence of int
            The numbers of the trajectories in the split.

        Returns
        -------
        list of Flow
            One flow for each trajectory, with its own parameters.
        """
        return [self.flow.for_trajectory(i, self.trajectory_seed(split, i)) for i in numbers]

    def build_solver(self, interval: float | None = None, device: str | None = None) -> NavierStokes:
        """Build the classical solver on its own grid: in two dimensions in vorticity form, in three in velocity form.

        Parameters
        ----------
        interval : float, optional
            The interval of one advance, in s. By default the stored interval.
        device : str, optional
            The device. By default the experiment's.

        Returns
        -------
        NavierStokes2D or NavierStokes3D
            The solver. Coefficients of the flow that vary from trajectory to trajectory are inputs of it.
        """
        flow = self.build_flow()
        extremes = [other.coefficients for other in self.flow.build_extremes()]
        return flow.solver(
            self.grid.build(),
            interval=interval or self.data.interval,
            dt=self.solver.dt,
            order=self.solver.order,
            # A solver that is built on a CPU only to look at it, before a run on another device, need not be fast.
            backend=self.solver.kernel if (device or self.device) == self.device else "torch",
            varying=[name for name in flow.coefficients if any(n[name] != flow.coefficients[name] for n in extremes)],
            dtype=self.torch_dtype,
            device=device or self.device,
        )

    def build_stepper(self, device: str | None = None) -> Stepper:
        """Build the classical solver on its own grid, as a stepper of the field that is stored.

        Parameters
        ----------
        device : str, optional
            The device. By default the experiment's.

        Returns
        -------
        Stepper
            A stepper of the vorticity or the velocity.
        """
        solver = self.build_solver(device=device)
        return VelocityForm(solver) if isinstance(solver, NavierStokes2D) and self.data.state == "velocity" else solver

    def build_hybrid_solver(self, config: ModelConfig, device: str | None = None) -> Stepper | None:
        """Build the coarse solver of a hybrid.

        Parameters
        ----------
        config : ModelConfig
            The table of the model.
        device : str, optional
            The device. By default the experiment's.

        Returns
        -------
        Stepper or None
            The solver, which takes and returns states on the stored grid; None if the model is not a hybrid.

        Raises
        ------
        ValueError
            If the flow has stochastic forcing, or the solver cannot compute it on these cells.
        """
        if config.solver is None:
            return None
        if self.build_flow().stochastic_forcing(self.grid.build()) is not None:
            raise ValueError(
                "solver: a hybrid cannot know the stochastic forcing of this flow; choose a flow without one"
            )
        cells = config.solver.n or cells_for_all_modes(self.grid.build_stored().n)
        return self._build_resampled(config.solver, cells, device)

    def build_checking_solvers(self) -> tuple[Stepper, ...]:
        """Build the solvers one of which should step the stored states of the user's own data (`data.path`).

        Returns
        -------
        tuple of Stepper
            Solvers that take and return states on the stored grid: the experiment's own, and one on more cells, which
            retains all modes of the stored grid. States that were made by a solver on the same cells are stepped by
            the first, and states of a finer one by the second.
        """
        stored, own = self.grid.build_stored(), self.grid.build().n
        finer = tuple(map(max, own, cells_for_all_modes(stored.n)))
        return tuple(self._build_resampled(self.solver, cells, None) for cells in dict.fromkeys((own, finer)))

    def build_baseline_solvers(self, device: str | None = None, applies: bool | None = None) -> dict[str, Stepper]:
        """Build the classical solvers that a comparison scores beside the models.

        They take the stored states, as the models do. One is on the stored grid, if the flow can be computed there; the
        others are those of `compare.solvers`.

        Parameters
        ----------
        device : str, optional
            The device. By default the experiment's.
        applies : bool, optional
            Whether the experiment's flow is that of the data; if not, there are no solvers. By default it is, unless
            the data are the user's own (`data.path`).

        Returns
        -------
        dict of str to Stepper
            The solvers by name, such as "solver-32".

        Raises
        ------
        ValueError
            If two of them have the same name, or one cannot compute the flow.
        """
        if not (applies if applies is not None else not self.data.path):
            return {}
        stored, built = self.grid.build_stored(), {}
        default = BaselineSolverConfig()
        with suppress(ValueError):  # a forcing of waves that this grid does not hold
            built[default.name(stored)] = self._build_resampled(default, stored.n, device)
        for config in self.compare.solvers:
            name = config.name(stored)
            if name in built:
                raise ValueError(f"{name} is compared already: leave it out, or choose another n, order or dt")
            built[name] = self._build_resampled(config, config.n or stored.n, device)
        return built

    def _build_resampled(self, config: SolverConfig, cells: int | tuple[int, ...], device: str | None) -> Stepper:
        """Build a solver on other cells that takes and returns states on the stored grid."""
        stored = self.grid.build_stored()
        grid = Grid.box(cells, stored.length)
        if not have_same_symmetry(grid, stored):
            what = "square" if grid.dimensions == 2 else "equal on two axes"
            raise ValueError(f"solver.n must be {what} if and only if the stored grid is {what} (got {cells})")
        own = {"solver": config, "grid": GridConfig(n=grid.n, length=grid.length)}
        return Resampled(self.model_copy(update=own).build_stepper(device), stored)

    def build_spin_up(self, device: str | None = None) -> tuple[NavierStokes, int]:
        """Build the solver of the spin-up.

        Parameters
        ----------
        device : str, optional
            The device. By default the experiment's.

        Returns
        -------
        solver : NavierStokes2D or NavierStokes3D
            A solver whose interval is at most the stored one.
        count : int
            The number of its intervals that the spin-up takes.

        Raises
        ------
        ValueError
            If the spin-up takes too many intervals.
        """
        spin_up = self.build_flow().spin_up
        if not spin_up / self.data.interval <= MAX_SPIN_UP_INTERVALS:
            raise ValueError(f"spin_up must be at most {MAX_SPIN_UP_INTERVALS} times data.interval (got {spin_up:g})")
        count = max(1, math.ceil(spin_up / self.data.interval - 1e-9))
        return self.build_solver(spin_up / count, device), count

    @cached_property
    def spec(self) -> StateSpec:
        """What a stored state is: grid, fields, interval and inputs of a step."""
        return replace(self.build_stepper(device="cpu").spec, grid=self.grid.build_stored())


def as_experiment(experiment: Experiment | str | Path) -> Experiment:
    """Return an experiment as it is, or read it from its file.

    Parameters
    ----------
    experiment : Experiment, str or Path
        An experiment, or the path of its TOML file.

    Returns
    -------
    Experiment
        The experiment.

    Raises
    ------
    UsageError
        If it is neither, or the file cannot be read or is not valid.
    """
    if not isinstance(experiment, Experiment | str | Path):
        raise UsageError(f"give an Experiment or the path of its TOML file (got {type(experiment).__name__}); "
                         "Experiment.from_tree takes a dict")  # fmt: skip
    return experiment if isinstance(experiment, Experiment) else Experiment.read(experiment)


def cells_for_all_modes(n: tuple[int, ...]) -> tuple[int, ...]:
    """Return on how many cells the two-thirds rule retains every mode of a grid of n cells.

    Parameters
    ----------
    n : tuple of int
        Number of cells (y, x) or (z, y, x).

    Returns
    -------
    tuple of int
        The smallest even numbers of cells on each axis, about 3/2 n, on which every mode below the Nyquist mode of n
        cells is retained.
    """
    return tuple(m + m // 2 + (m + m // 2) % 2 for m in n)
