"""Checks of an experiment across its tables: whether its flow, grid, solvers and networks fit together."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from fluidsurrogate.config.flow_and_model_configs import ModelConfig
from fluidsurrogate.core.errors import describe_exception
from fluidsurrogate.core.memory import check_free_memory
from fluidsurrogate.data.grids import describe_grid
from fluidsurrogate.evaluation.comparison import PERSISTENCE, TRUTH
from fluidsurrogate.nn import ARCHITECTURES, DIMENSIONS, Network, code_is_allowed
from solvers import FORCING, Group, StateSpec, point_group, subgroups

if TYPE_CHECKING:
    from fluidsurrogate.config.experiment import Experiment


MIN_STATES = 8  # that a solver and an initial state take, in double precision: a lower bound
DOUBLE_BYTES = 8
_fitting_networks: set[Hashable] = set()  # that were checked: an experiment is read several times in a process


def check_experiment(experiment: Experiment, with_networks: bool) -> None:
    """Check that the tables of an experiment fit together.

    Parameters
    ----------
    experiment : Experiment
        An experiment whose tables are valid by themselves.
    with_networks : bool
        Whether each network is built on the meta device and applied to a state. This takes no memory and no arithmetic,
        but needs most of torch.

    Raises
    ------
    ValueError
        If they do not fit together; the message names the table.
    """
    if experiment.data.state == "vorticity" and experiment.grid.build().dimensions == 3:
        raise ValueError("data.state = 'vorticity' needs a grid in 2 dimensions; take 'velocity'")
    _check_memory(experiment)
    _check_flow(experiment)
    train = experiment.train
    if train.precision != "full" and experiment.torch_dtype is torch.float64:
        raise ValueError(f"train.precision = {train.precision!r} needs dtype = 'float32' (got {experiment.dtype!r})")
    with prefix_errors("compare.solvers"):
        reserved = {TRUTH, PERSISTENCE, *experiment.build_baseline_solvers(device="cpu", applies=True)}
    for name, model in experiment.models.items():
        if name in reserved:
            raise ValueError(
                f"models.{name}: every comparison has a source of this name already; choose another name for the model"
            )
        with prefix_errors(f"models.{name}"):
            _check_model(experiment, model, with_networks)
        span = train.longest_span * max(model.multiples)
        if span > experiment.data.steps and not experiment.data.path:
            raise ValueError(
                f"train.unroll, train.push_forward and models.{name}.intervals need training trajectories of at least "
                f"{span} intervals; data.steps = {experiment.data.steps}"
            )


def _check_memory(experiment: Experiment) -> None:
    """Check that the memory has room for a few states on the solver's grid, before any is allocated."""
    grid = experiment.grid.build()
    components = 1 if grid.dimensions == 2 else grid.dimensions
    needed = MIN_STATES * components * DOUBLE_BYTES * math.prod(grid.n)
    with prefix_errors("grid.n"):
        check_free_memory(needed, f"a flow on {describe_grid(grid)}", "lower grid.n")


def _check_flow(experiment: Experiment) -> None:
    """Check that the flow can be computed on the solver's grid, at the extreme values of its parameters too."""
    with prefix_errors("flow on this grid"):
        solver, flow = experiment.build_solver(device="cpu"), experiment.build_flow()
        for one in (flow, *experiment.flow.build_extremes()):
            one.starts(solver.grid, [0])
            if one.stochastic_forcing(solver.grid) != flow.stochastic_forcing(solver.grid):
                raise ValueError("the parameters of the stochastic forcing must be the same for every trajectory")
        if flow.spin_up:
            experiment.build_spin_up(device="cpu")


def _check_model(experiment: Experiment, model: ModelConfig, with_networks: bool) -> None:
    """Check the groups of a model, its network and, for a hybrid, its solver."""
    dimensions = experiment.spec.grid.dimensions
    _check_kind(model, dimensions)
    model.takes_velocity(experiment.spec)
    check_groups(experiment, model.groups(dimensions), experiment.spec)
    # Reading a file must not run code that the file names, unless the user has allowed it.
    may_build = not model.is_user_module or (model.import_path and code_is_allowed())
    if with_networks and may_build:
        tables = (model.model_dump_json(), experiment.flow.model_dump_json(), experiment.spec, experiment.torch_dtype)
        key = (ARCHITECTURES[model.kind], *tables)
        if key not in _fitting_networks:
            with torch.random.fork_rng(devices=[]), torch.device("meta"):
                check_network(experiment, model.build(experiment.spec, experiment.torch_dtype), model)
            if not model.is_user_module:  # the file that it names may change
                _fitting_networks.add(key)
    if model.networks > 1 and experiment.train.precision != "full":
        raise ValueError(
            f"networks > 1 needs train.precision = 'full' (got {experiment.train.precision!r}): "
            "several networks train in full precision only"
        )
    if model.solver:
        experiment.build_hybrid_solver(model, device="cpu")


def _check_kind(model: ModelConfig, dimensions: int) -> None:
    """Raise an error if the architecture of a model is not for this number of dimensions."""
    if dimensions not in DIMENSIONS[model.kind]:
        others = ", ".join(kind for kind in sorted(ARCHITECTURES) if dimensions in DIMENSIONS[kind])
        raise ValueError(f"kind = {model.kind!r} is not for {dimensions} dimensions; take one of {others}")


def check_network(experiment: Experiment, network: Network, config: ModelConfig | None = None) -> None:
    """Check that a network can be trained and applied to the states of an experiment.

    The network is applied once. If it is on the meta device, this takes no memory and no arithmetic.

    Parameters
    ----------
    experiment : Experiment
        Says what the states are, and which symmetries its flow has.
    network : Network
        The network.
    config : ModelConfig, optional
        The table of the model. By default the network takes the state and all inputs.

    Raises
    ------
    ValueError
        If it has no trainable weights, fails on a state, or has a group that is not a symmetry of the flow.
    """
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ValueError("all its weights are frozen: call requires_grad_(True) on those that are to be trained")
    spec = experiment.spec
    fields = spec.fields + spec.inputs if config is None else config.fields_in(spec)
    like = torch.zeros(
        2 if config is None else 2 * config.networks,
        sum(field.components for field in fields),
        *spec.grid.n,
        dtype=experiment.torch_dtype,
        device=next(network.parameters()).device,
    )
    try:
        with torch.no_grad():
            network.eval()(like)
    except (ValueError, RuntimeError):
        raise
    except Exception as error:
        raise ValueError(
            f"the network fails on a tensor of shape {tuple(like.shape)}: {describe_exception(error)}"
        ) from error
    check_groups(experiment, {"group": network.group}, spec)


def check_groups(experiment: Experiment, groups: Mapping[str, Group], spec: StateSpec) -> None:
    """Check that the groups of a model are symmetries of the grid and of the flow.

    A term that breaks the symmetry of the flow does not count if it is an input of the network, because an input is
    rotated together with the state.

    Parameters
    ----------
    experiment : Experiment
        Says which symmetries the flow has.
    groups : mapping of str to Group
        Point groups by the key that names them.
    spec : StateSpec
        The fields and the inputs of the model.

    Raises
    ------
    ValueError
        If a group is not a symmetry; the message names those that are.
    """
    flow, grid = experiment.build_flow(), experiment.grid.build()
    for key, group in groups.items():
        largest = point_group(grid, spec.fields)
        if not largest.contains(group):
            shape = "rectangle" if grid.dimensions == 2 else "box"
            shape = "box with plates" if point_group(grid).contains(group) else shape
            raise ValueError(f"{key} {group.name!r} is not a symmetry of this {shape}; choose one of {_names(largest)}")
        # The flow's vectors are always inputs; a forcing is an input if the flow has one.
        kept = largest if any(field.name == FORCING.name for field in spec.inputs) else flow.group_without_vectors
        if not kept.contains(group):
            raise ValueError(
                f"{key} {group.name!r} is not a symmetry of the flow {flow.kind!r}; choose one of {_names(kept)}"
            )


def _names(group: Group) -> str:
    """Return the names of all subgroups of a group."""
    return ", ".join(subgroup.name for subgroup in subgroups(group))


@contextmanager
def prefix_errors(part: str, error_type: type[ValueError] = ValueError) -> Iterator[None]:
    """Put the name of a part of the experiment in front of the errors that building it raises.

    Parameters
    ----------
    part : str
        The part, such as "models.gcnn".
    error_type : type of ValueError
        The type of error to raise in place of any other.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    ValueError
        Of the type `error_type`, with the first line of the original message.
    """
    try:
        yield
    except (ValueError, RuntimeError, MemoryError, ArithmeticError, TypeError) as error:  # torch's, of 10¹² channels
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise error_type(f"{part}: {reason[:300]}") from None
