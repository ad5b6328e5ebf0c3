"""The tables `[flow]` and `[models.NAME]`, whose keys are taken from the signatures of flows and architectures.

There is one config class for each registered flow and architecture, told apart by the key `kind`. A new flow or
architecture thus needs no config of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union, get_args

import torch
from pydantic import (
    AfterValidator,
    Field,
    SerializeAsAny,
    TypeAdapter,
    WrapValidator,
    create_model,
    model_validator,
)

from fluidsurrogate.config.base import Config
from fluidsurrogate.config.parameter_sampling import (
    Range,
    VaryingFloat,
    extreme_values,
    is_varying,
    representative_value,
    trajectory_value,
)
from fluidsurrogate.config.solver_configs import CoarseSolverConfig
from fluidsurrogate.core.devices import single_precision_default
from fluidsurrogate.nn import ARCHITECTURES, EXACT_GROUPS, DeepEnsemble, Network, cast_weights
from fluidsurrogate.nn.registry import options_of
from fluidsurrogate.nn.user_code import USER_MODULE
from solvers import FLOWS, VELOCITY, FieldSpec, Flow, Group, StateSpec, field_in, group_named
from solvers.array_types import Vector
from solvers.grid import AXES

INTERVAL = FieldSpec("interval", 0, 1, "1", "stored intervals in a step", uniform=True)


class FlowPartConfig(Config):
    """A table within a flow's, such as `[flow.tracer]`; one subclass for each dataclass that it builds."""

    builds: ClassVar[Callable[..., Any]]


class FlowConfig(Config):
    """The table `[flow]`; one subclass for each registered flow, with the fields of its dataclass as keys.

    Each number may be a list or a range; then it differs from trajectory to trajectory. The flows of two and of three
    dimensions are registered apart, and may share names.

    Parameters
    ----------
    kind : str
        The registered name of the flow.

    Attributes
    ----------
    dimensions : int
        2 or 3.
    """

    kind: str
    dimensions: ClassVar[int] = 2

    def build(self) -> Flow:
        """Build the flow that stands for all trajectories.

        Returns
        -------
        Flow
            The flow with the representative value of each varying parameter. If a term, such as a stratification, is
            zero for some trajectories only, the flow has this term.
        """
        flows = [self._build(lambda parameter, name: representative_value(parameter)), *self.build_extremes()]
        return max(flows, key=lambda flow: len(flow.uniform_vectors))

    def for_trajectory(self, number: int, seed: int) -> Flow:
        """Build the flow of one trajectory.

        Parameters
        ----------
        number : int
            The number of the trajectory in its split.
        seed : int
            The seed of the trajectory.

        Returns
        -------
        Flow
            The flow with the trajectory's own parameters.
        """
        return self._build(lambda parameter, name: trajectory_value(parameter, name, number, seed))

    def build_extremes(self) -> list[Flow]:
        """Build the flows at the extreme values of each varying parameter.

        Returns
        -------
        list of Flow
            One flow for each value of a list and each end of a range; the other parameters have their representative
            values. Empty if no parameter varies.
        """
        return [
            self._build(partial(_value_or_representative, key, value))
            for key, varying in self.varying_parameters().items()
            for value in extreme_values(varying)
        ]

    def varying_parameters(self) -> dict[str, list[float] | Range]:
        """Return the parameters that differ from trajectory to trajectory.

        Returns
        -------
        dict of str to list of float or Range
            The lists and ranges by dotted name, such as "tracer.diffusivity".
        """
        found: dict[str, list[float] | Range] = {}

        def note(parameter: Any, name: str) -> Any:
            if is_varying(parameter):
                found[name] = parameter
            return representative_value(parameter)

        self._build(note)
        return found

    def _build(self, choose: Callable[[Any, str], Any]) -> Flow:
        """Build the flow whose parameters are chosen by a function of the parameter and its dotted name."""
        return FLOWS[self.dimensions][self.kind](**_chosen_arguments(self, choose))

    @model_validator(mode="after")
    def _check(self):
        """Refuse parameters that the flow refuses at any of their extreme values."""
        flow = self.build()
        for other in self.build_extremes():
            if other.spin_up != flow.spin_up:
                raise ValueError("spin_up must be one number, the same for every trajectory")
        return self


def _value_or_representative(key: str, value: float, parameter: Any, name: str) -> Any:
    """Return `value` for the parameter called `key`, and the representative value for any other."""
    return value if name == key else representative_value(parameter)


def _chosen_arguments(config: Config, choose: Callable[[Any, str], Any], prefix: str = "") -> dict[str, Any]:
    """Return the keyword arguments that a table describes, each chosen from the parameter and its dotted name."""
    chosen = {}
    for key in type(config).model_fields:
        value = getattr(config, key)
        if isinstance(value, FlowPartConfig):
            value = type(value).builds(**_chosen_arguments(value, choose, f"{prefix}{key}."))
        elif key != "kind":
            value = choose(value, prefix + key)
        chosen[key] = value
    chosen.pop("kind", None)
    return chosen


class ModelConfig(Config):
    """The table `[models.NAME]`; one subclass for each architecture, with its options as further keys.

    Parameters
    ----------
    kind : str
        The registered name of the architecture.
    augment : str, optional
        A group. Each training batch is moved by one of its elements, drawn at random.
    solver : CoarseSolverConfig, optional
        Makes the model a hybrid: this solver steps, and the network corrects it.
    intervals : tuple of int, optional
        Numbers of stored intervals that one step of the model may span, 1 among them. The network gets the number as
        an input. By default every step spans one interval.
    init : str, optional
        The folder of a trained model whose weights training starts from.
    networks : int
        Number of networks of a deep ensemble: each has weights of its own; they are trained and applied as one model.
    velocity : bool, optional
        Whether the network takes the velocity too, where the state is a vorticity in the plane. The velocity follows
        from the vorticity of the whole box (Biot and Savart's law), which a network of small kernels cannot reach. By
        default true, but for a module of your own.
    """

    kind: str
    augment: str | None = None
    solver: CoarseSolverConfig | None = None
    intervals: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    init: str | None = None
    networks: Annotated[int, Field(ge=1, le=1000)] = 1
    velocity: bool | None = None

    @model_validator(mode="after")
    def _check_steps(self):
        """Refuse keys that exclude each other."""
        if self.intervals is not None and (len(set(self.intervals)) < 2 or 1 not in self.intervals):
            raise ValueError("intervals must be at least two different numbers, 1 among them, as in [1, 2]")
        if self.intervals is not None and self.solver is not None:
            raise ValueError("solver and intervals exclude each other: a hybrid steps over one stored interval")
        if self.networks > 1 and self.is_user_module:
            raise ValueError(
                f"networks must be 1 for kind = {USER_MODULE!r} (got {self.networks}): "
                "train your module once for each seed"
            )
        return self

    def builder_options(self) -> dict[str, Any]:
        """Return the options of the architecture.

        Returns
        -------
        dict
            The keyword-only arguments of the architecture's builder.
        """
        return self.model_dump(exclude=set(ModelConfig.model_fields))

    @property
    def multiples(self) -> tuple[int, ...]:
        """The numbers of stored intervals that one step may span, in ascending order."""
        return tuple(sorted(set(self.intervals or (1,))))

    def fields_in(self, spec: StateSpec) -> tuple[FieldSpec, ...]:
        """Return the fields that the network takes.

        Parameters
        ----------
        spec : StateSpec
            What the states are.

        Returns
        -------
        tuple of FieldSpec
            The fields of the state, the inputs, the number of intervals if a step may span several, and the velocity
            if the network takes it.
        """
        interval = (field_in(INTERVAL, spec.grid.dimensions),) if self.intervals else ()
        velocity = (spec.velocity_of_vorticity,) if self.takes_velocity(spec) else ()
        return spec.fields + spec.inputs + interval + velocity

    def takes_velocity(self, spec: StateSpec) -> bool:
        """Return True if the network takes the velocity beside the vorticity.

        Parameters
        ----------
        spec : StateSpec
            What the states are.

        Returns
        -------
        bool
            Whether the velocity is among `fields_in`.

        Raises
        ------
        ValueError
            If the velocity is asked for, and the state holds no vorticity in the plane, or the velocity already.
        """
        is_missing = spec.vorticity_component is not None and VELOCITY.name not in {field.name for field in spec.fields}
        if self.velocity and not is_missing:
            raise ValueError(
                "velocity = true needs a state of vorticity in two dimensions, without velocity: remove it"
            )
        return is_missing and (not self.is_user_module if self.velocity is None else self.velocity)

    @property
    def is_user_module(self) -> bool:
        """Whether the network is the user's own code, which runs only with the user's permission."""
        return self.kind == USER_MODULE

    @property
    def import_path(self) -> str | None:
        """The class of the user's module, "package.module:Class"; None for an architecture or a module from Python."""
        return getattr(self, "path", None)

    def build(self, spec: StateSpec, dtype: torch.dtype = torch.float32) -> Network:
        """Build the network, with fresh weights from torch's random number generator.

        Parameters
        ----------
        spec : StateSpec
            What the states are.
        dtype : torch.dtype
            The precision of the weights.

        Returns
        -------
        Network
            The network.
        """
        fields, build = self.fields_in(spec), ARCHITECTURES[self.kind]
        with single_precision_default():
            made = [build(fields, spec.fields, **self.builder_options()) for _ in range(self.networks)]
        return cast_weights(made[0] if self.networks == 1 else DeepEnsemble(made), dtype)

    def groups(self, dimensions: int = 2) -> dict[str, Group]:
        """Return the point groups that the model needs as symmetries of the flow.

        Parameters
        ----------
        dimensions : int
            Number of dimensions of the flow, 2 or 3.

        Returns
        -------
        dict of str to Group
            The groups by key: "group" and "augment", if they are given.
        """
        named = {
            "group": (getattr(self, "group", None), EXACT_GROUPS[self.kind]),
            "augment": (self.augment, group_named),
        }
        return {key: find(name, dimensions) for key, (name, find) in named.items() if name is not None}


def _flow_union(dimensions: int) -> Any:
    """Return the union of one config class for each registered flow, whose keys are the fields of its dataclass."""
    made = []
    for kind, build in FLOWS[dimensions].items():
        name = _class_name("flow", kind, dimensions)
        keys = _config_keys(build, name, dimensions) | {"kind": (Literal[kind], kind)}  # type: ignore[valid-type]
        config = _make_picklable(create_model(name, __base__=FlowConfig, **keys), name)
        config.dimensions = dimensions  # type: ignore[attr-defined]
        made.append(config)
    return _union_by_kind(made)


def _model_union() -> Any:
    """Return the union of one config class for each registered architecture, whose keys are the builder's arguments."""
    made = []
    for kind, build in ARCHITECTURES.items():
        name = _class_name("models", kind)
        keys = _config_keys(build, name) | {"kind": (Literal[kind], kind)}  # type: ignore[valid-type]
        made.append(_make_picklable(create_model(name, __base__=ModelConfig, **keys), name))
    return _union_by_kind(made)


def _union_by_kind(configs: list[type[Config]]) -> Any:
    """Return the union of config classes that the key `kind` tells apart."""
    return Annotated[Union[tuple(configs)], Field(discriminator="kind")] if len(configs) > 1 else configs[0]  # noqa: UP007


def _class_name(table: str, kind: str, dimensions: int = 2) -> str:
    """Return the name of the config class of a flow or an architecture."""
    base = "ModelConfig" if table == "models" else "FlowConfig" if dimensions == 2 else "FlowConfig3D"
    return f"{base}[{kind}]"


def _make_picklable(config: type[Config], name: str) -> type[Config]:
    """Make a config class a global of this module, which is where pickle looks for it."""
    config.__qualname__, config.__module__ = name, __name__
    globals()[name] = config
    return config


def _config_keys(build: Callable, owner: str, dimensions: int | None = None) -> dict[str, Any]:
    """Return the keyword-only arguments of a function or dataclass as the keys of the config class `owner`.

    The numbers of a flow, whose `dimensions` are given, may vary; its vectors have as many components as dimensions.
    """
    keys: dict[str, Any] = {}
    for name, p in options_of(build).items():
        annotation = p.annotation
        if dimensions and annotation is float:
            annotation = VaryingFloat
        elif dimensions and annotation == Vector:
            annotation = Annotated[annotation, AfterValidator(partial(_check_vector, dimensions))]
            is_zero = p.default is not p.empty and not any(p.default)
            p = p.replace(default=(0.0,) * dimensions if is_zero else p.default)
        parts = [t for t in get_args(annotation) or [annotation] if isinstance(t, type) and is_dataclass(t)]
        if parts:
            within = f"{owner}[{name}]"
            part = create_model(
                parts[0].__name__, __base__=FlowPartConfig, **_config_keys(parts[0], within, dimensions)
            )
            _make_picklable(part, within)
            part.builds, annotation = parts[0], part | None if p.default is None else part
        keys[name] = (annotation, ... if p.default is p.empty else p.default)
    return keys


def _check_vector(dimensions: int, vector: Vector) -> Vector:
    """Raise an error unless a vector has as many components as there are dimensions."""
    if len(vector) != dimensions:
        raise ValueError(f"must be [{', '.join(reversed(AXES[-dimensions:]))}] (got {list(vector)})")
    return vector


def _read_flow(table: Any, handler: Any, info: Any) -> FlowConfig:
    """Read the table `[flow]` as a flow of as many dimensions as the grid has."""
    if isinstance(table, FlowConfig):
        return table
    kind = table.get("kind") if isinstance(table, dict) else None
    dimensions = info.data["grid"].build().dimensions if "grid" in info.data else 2 if kind in FLOWS[2] else 3
    other = 5 - dimensions
    if isinstance(kind, str) and kind not in FLOWS[dimensions] and kind in FLOWS[other]:
        raise ValueError(f"kind = {kind!r} is a flow in {other} dimensions, and the grid is of {dimensions}; "
                         f"take one of {', '.join(sorted(FLOWS[dimensions]))}")  # fmt: skip
    return _FLOW_ADAPTERS[dimensions].validate_json(json.dumps(table, default=str))  # JSON: a list stands for a tuple


_FLOW_ADAPTERS = {dimensions: TypeAdapter(_flow_union(dimensions)) for dimensions in FLOWS}

if TYPE_CHECKING:
    AnyFlowConfig = FlowConfig
    AnyModelConfig = ModelConfig
else:
    AnyFlowConfig = Annotated[SerializeAsAny[FlowConfig], WrapValidator(_read_flow)]
    AnyModelConfig = _model_union()


def config_of_kind(table: str, kind: str, dimensions: int = 2) -> type[Config] | None:
    """Return the config class that a `kind` chooses in a table.

    Parameters
    ----------
    table : {"flow", "models"}
        The name of the table.
    kind : str
        The registered name of a flow or an architecture.
    dimensions : int
        Number of dimensions of the flow, 2 or 3.

    Returns
    -------
    type of Config or None
        The class; None if no such kind is registered.
    """
    base, name = FlowConfig if table == "flow" else ModelConfig, _class_name(table, kind, dimensions)
    return next((cls for cls in base.__subclasses__() if cls.__name__ == name), None)
