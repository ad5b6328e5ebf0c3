"""An experiment: one TOML file, read into one frozen tree in which every key is known and every value is in range."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, final

import torch
import xarray as xr
from pydantic import Field, TypeAdapter, ValidationError, model_validator
from torch import nn

from fluidsurrogate.config.base import Config
from fluidsurrogate.config.experiment_file import read_tree
from fluidsurrogate.config.flow_and_model_configs import AnyFlowConfig, AnyModelConfig, ModelConfig, tagged_config
from fluidsurrogate.config.solver_configs import ComparedSolverConfig, SolverConfig
from fluidsurrogate.config.stage_configs import CompareConfig, DataConfig, GridConfig, TrainConfig
from fluidsurrogate.config.validation_messages import explain
from fluidsurrogate.core.devices import device_available
from fluidsurrogate.core.errors import UsageError, describe_exception
from fluidsurrogate.core.seeding import derive_seed
from fluidsurrogate.data.flow_constants import check_constants
from fluidsurrogate.evaluation.comparison import PERSISTENCE, TRUTH
from fluidsurrogate.nn import Network, UserModule, cast_weights, code_is_allowed, require_code_permission
from fluidsurrogate.nn.user_code import USER_MODULE
from solvers import (
    FORCING,
    Flow,
    Grid,
    Group,
    NavierStokes2D,
    Resampled,
    StateSpec,
    Stepper,
    VelocityForm,
    point_group,
)

WITHOUT_NETWORKS = "without networks"
MOST_FAULTS = 5  # that are said of one experiment
MOST_SPIN_UP = 1_000_000  # intervals
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


@final
class Experiment(Config):
    """The whole experiment. `Experiment.read(path)` reads a TOML file; `build_*` make what the parts describe."""

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
    def _check(self, info: Any):  # of pydantic: with the context that it was called in
        if not device_available(self.device):
            raise ValueError(f"device {self.device!r} is not to be had here; try cpu, cuda or mps")
        with _blaming("flow on this grid"):
            solver, flow = self.build_solver(device="cpu"), self.build_flow()
            for one in (flow, *self.flow.extremes()):
                one.starts(solver.grid, [0])
                if one.stochastic_forcing(solver.grid) != flow.stochastic_forcing(solver.grid):
                    raise ValueError("what stirs the flow must be the same for every trajectory")
            if flow.spin_up:
                self.build_spin_up(device="cpu")
        if self.train.precision != "full" and self.torch_dtype is torch.float64:
            raise ValueError("train.precision = 'bfloat16' has no effect in double precision: take dtype = 'float32'")
        with _blaming("compare.solvers"):
            rows = {TRUTH, PERSISTENCE, *self.build_compared_solvers(device="cpu")}
        for name, model in self.models.items():
            if name in rows:
                raise ValueError(
                    f"models.{name}: every comparison has a row of this name: call the model something else"
                )
            with _blaming(f"models.{name}"):
                self._check_groups(model.groups(), self.spec)
                # Reading a file runs no code of its own.
                if info.context != WITHOUT_NETWORKS and (
                    not model.is_user_module or (model.code and code_is_allowed())
                ):
                    with torch.random.fork_rng(devices=[]), torch.device("meta"):
                        self.check_network(model.build(self.spec, self.torch_dtype), model)
                if model.networks > 1 and self.train.precision != "full":
                    raise ValueError("several networks train in full precision: leave out train.precision, or networks")
                if model.solver:
                    self.build_base(model, device="cpu")
            reach = self.train.reach * max(model.multiples)
            if reach > self.data.steps and not self.data.path:
                raise ValueError(
                    f"train.unroll, train.push_forward and models.{name}.intervals reach over {reach} intervals; "
                    f"data.steps = {self.data.steps}"
                )
        return self

    def refuse_code(self, names: Iterable[str] | None = None) -> None:
        """UsageError where a model (of these) is code of the user's that is not named, or not allowed to run."""
        for name in self.models if names is None else names:
            if self.models[name].is_user_module:
                with _blaming(f"models.{name}", UsageError):
                    require_code_permission(self.models[name].code)

    def with_modules(self, modules: Mapping[str, nn.Module]) -> tuple[Experiment, dict[str, Network]]:
        """The experiment with copies of these modules for its models, and those as networks; UsageError where one does
        not fit its states. Their sections have no `path`: they are made again from no file, only from the module."""
        networks: dict[str, Network] = {}
        for name, module in modules.items():
            with _blaming(f"models.{name}", UsageError):
                networks[name] = cast_weights(UserModule(copy.deepcopy(module), self.spec.fields), self.torch_dtype)
                self.check_network(networks[name])
        configs = {name: TypeAdapter(AnyModelConfig).validate_python({"kind": USER_MODULE}) for name in modules}
        return self.model_copy(update={"models": configs}), networks

    def check_network(self, network: Network, config: ModelConfig | None = None) -> None:
        """ValueError where a network cannot be applied to this experiment's states, or its group is no symmetry.

        It is applied once, on the meta device without memory or arithmetic if it was built there.
        """
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise ValueError("all its weights are frozen: give some of them requires_grad_(True)")
        device = next(network.parameters()).device
        fields = self.spec.fields + self.spec.inputs if config is None else config.fields_in(self.spec)
        components = sum(field.components for field in fields)
        like = torch.zeros(
            2 if config is None else 2 * config.networks,
            components,
            *self.spec.grid.n,
            dtype=self.torch_dtype,
            device=device,
        )
        try:
            with torch.no_grad():
                network.eval()(like)
        except (ValueError, RuntimeError):
            raise
        except Exception as error:
            raise ValueError(f"applying it to {tuple(like.shape)} raised {describe_exception(error)}") from error
        self._check_groups({"group": network.group}, self.spec)

    def _check_groups(self, groups: Mapping[str, Group], spec: StateSpec) -> None:
        """A model's group must be one of the flow's, or of the grid's alone where what breaks the flow's symmetry is
        an input, which turns with the state."""
        flow, grid = self.build_flow(), self.grid.build()
        for key, group in groups.items():
            largest = point_group(grid, spec.fields)
            if not largest.contains(group):
                shape = "box with plates" if point_group(grid).contains(group) else "rectangle"
                allowed = ", ".join(subgroup.name for subgroup in largest.subgroups)
                raise ValueError(f"{key} {group.name!r} is no symmetry of this {shape}; take one of {allowed}")
            # Vectors are always inputs; a forcing is, where there is one.
            kept = largest if any(field.name == FORCING.name for field in spec.inputs) else flow.group_without_vectors
            if not kept.contains(group):
                raise ValueError(f"{key} {group.name!r} is no symmetry of the flow {flow.kind!r} ({kept.name})")

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
    def from_tree(cls, tree: Mapping[str, Any], origin: str = "experiment", networks: bool = True) -> Experiment:
        """Validate a nested mapping; UsageError says each fault (of many the first few) with its dotted key.

        With `networks` false it is not tried whether the models' networks take the states, which needs most of torch.
        """
        try:
            # Through JSON: there a list may stand for a tuple while numbers, strings and booleans stay apart.
            context = None if networks else WITHOUT_NETWORKS
            return cls.model_validate_json(json.dumps(tree, default=str), context=context)
        except ValidationError as error:
            lines = explain(cls, error.errors(), tagged_config)
            more = [f"and {len(lines) - MOST_FAULTS} more faults"] if len(lines) > MOST_FAULTS else []
            raise UsageError("\n".join(f"{origin}: {line}" for line in lines[:MOST_FAULTS] + more)) from None

    @classmethod
    def of(cls, experiment: Experiment | str | Path) -> Experiment:
        """An experiment, or the file that holds one."""
        if not isinstance(experiment, Experiment | str | Path):
            raise UsageError(f"give an Experiment or the path of its TOML file (got {type(experiment).__name__}); "
                             "Experiment.from_tree takes a dict")  # fmt: skip
        return experiment if isinstance(experiment, Experiment) else cls.read(experiment)

    def tree(self) -> dict[str, Any]:
        """The full experiment, defaults included, as plain data."""
        return self.model_dump(mode="json", exclude_none=True)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The working precision."""
        return getattr(torch, self.dtype)

    def build_flow(self) -> Flow:
        """The flow; where its parameters vary, the one that stands for all."""
        return self.flow.build()

    @property
    def constants(self) -> dict[str, float]:
        """Viscosity, drag and, where there is a scalar, diffusivity of the flow: those that are the same for every
        trajectory, and so no inputs of a step."""
        inputs = {field.name for field in self.spec.inputs}
        return {name: value for name, value in self.build_flow().coefficients.items() if name not in inputs}

    def check_constants(self, dataset: xr.Dataset) -> None:
        """UsageError where a dataset states another viscosity, drag or diffusivity than the experiment's flow has."""
        check_constants(dataset, self.constants, "the experiment's flow", "make {} the same in both")

    def trajectory_seed(self, split: str, number: int) -> int:
        """What fixes everything random about a trajectory."""
        return derive_seed(self.seed, split, number)

    def flows(self, split: str, numbers: Sequence[int]) -> list[Flow]:
        """The flow of each trajectory."""
        return [self.flow.for_trajectory(i, self.trajectory_seed(split, i)) for i in numbers]

    def build_solver(self, interval: float | None = None, device: str | None = None) -> NavierStokes2D:
        """The classical solver; `interval` other than the stored one for the spin-up. What varies is an input."""
        flow = self.build_flow()
        numbers = [other.coefficients for other in self.flow.extremes()]
        return flow.solver(
            self.grid.build(),
            interval=interval or self.data.interval,
            dt=self.solver.dt,
            order=self.solver.order,
            # What is looked at on a CPU before a run on another device need not be fast there.
            backend=self.solver.kernel if (device or self.device) == self.device else "torch",
            varying=[name for name in flow.coefficients if any(n[name] != flow.coefficients[name] for n in numbers)],
            dtype=self.torch_dtype,
            device=device or self.device,
        )

    def build_stepper(self, device: str | None = None) -> Stepper:
        """The classical solver as a stepper of what is stored, on its own grid."""
        solver = self.build_solver(device=device)
        return VelocityForm(solver) if self.data.state == "velocity" else solver

    def build_base(self, config: ModelConfig, device: str | None = None) -> Stepper | None:
        """The coarse solver that a hybrid corrects, between stored states; None for a pure surrogate."""
        if config.solver is None:
            return None
        if self.build_flow().stochastic_forcing(self.grid.build()) is not None:
            raise ValueError(
                "solver: what stirs the flow at random is unknown to a hybrid; take a flow that is not stirred"
            )
        cells = config.solver.n or three_halves(self.grid.build_stored().n)
        return self._solver_between_stored(config.solver, cells, device)

    def build_compared_solvers(self, device: str | None = None) -> dict[str, Stepper]:
        """The classical solvers that a comparison judges beside the networks, by the name of their rows.

        They begin at the stored states, as the networks do: on the stored grid, where the flow can be computed there,
        and as `compare.solvers` asks. Of data that are the user's nobody knows yet whether the flow is theirs: none.
        """
        if self.data.path:
            return {}
        stored, built = self.grid.build_stored(), {}
        own = ComparedSolverConfig()
        with suppress(ValueError):  # a forcing of waves that this grid does not hold
            built[own.name(stored)] = self._solver_between_stored(own, stored.n, device)
        for config in self.compare.solvers:
            name = config.name(stored)
            if name in built:
                raise ValueError(f"{name} is there already: leave it out, or give another n, order or dt")
            built[name] = self._solver_between_stored(config, config.n or stored.n, device)
        return built

    def _solver_between_stored(self, config: SolverConfig, cells: int | tuple[int, int], device: str | None) -> Stepper:
        """The solver on other cells, between states of the stored grid."""
        stored = self.grid.build_stored()
        grid = Grid.rectangle(cells, stored.length)
        if grid.is_square != stored.is_square:
            raise ValueError(f"solver.n must be of the stored grid's shape (got {cells})")
        own = {"solver": config, "grid": GridConfig(n=grid.n, length=grid.length)}
        return Resampled(self.model_copy(update=own).build_stepper(device), stored)

    def build_spin_up(self, device: str | None = None) -> tuple[NavierStokes2D, int]:
        """The solver of the spin-up and how many of its intervals that takes: none longer than a stored one."""
        spin_up = self.build_flow().spin_up
        if not spin_up / self.data.interval <= MOST_SPIN_UP:
            raise ValueError(f"spin_up must be at most {MOST_SPIN_UP} times data.interval (got {spin_up:g})")
        count = max(1, math.ceil(spin_up / self.data.interval - 1e-9))
        return self.build_solver(spin_up / count, device), count

    @cached_property
    def spec(self) -> StateSpec:
        """What a stored state is."""
        return replace(self.build_stepper(device="cpu").spec, grid=self.grid.build_stored())


def three_halves(n: tuple[int, int]) -> tuple[int, int]:
    """The fewest cells, an even number, whose two-thirds rule retains every mode below the Nyquist one of n cells."""
    ny, nx = (m + m // 2 + (m + m // 2) % 2 for m in n)
    return ny, nx


@contextmanager
def _blaming(part: str, raised: type[ValueError] = ValueError) -> Iterator[None]:
    """Turn whatever building a part raises on values that are out of all proportion into an error that names it."""
    try:
        yield
    except (ValueError, RuntimeError, MemoryError, ArithmeticError, TypeError) as error:  # torch's, of 10¹² channels
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise raised(f"{part}: {reason[:300]}") from None
