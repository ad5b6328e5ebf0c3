"""The parts of an experiment whose keys are another's: a flow's its dataclass's, a model's its builder's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union, get_args

import torch
from pydantic import Field, create_model, model_validator

from fluidsurrogate.config.base import Config
from fluidsurrogate.config.parameter_sampling import Range, Varying, extremes, is_varying, middle, value_for
from fluidsurrogate.config.solver_configs import CoarseSolverConfig
from fluidsurrogate.core.devices import single_precision_default
from fluidsurrogate.nn import ARCHITECTURES, EXACT_GROUPS, DeepEnsemble, Network, cast_weights
from fluidsurrogate.nn.registry import options_of
from fluidsurrogate.nn.user_code import USER_MODULE
from solvers import FLOWS, FieldSpec, Flow, Group, StateSpec, group_named

INTERVAL = FieldSpec("interval", 0, 1, "1", "stored intervals in a step", uniform=True)


class PartConfig(Config):
    """A table within a flow's, such as `[flow.tracer]`; one subclass a dataclass, which it builds."""

    builds: ClassVar[Callable[..., Any]]


class FlowConfig(Config):
    """Keys of a flow beside its `kind`; one subclass a flow, made from its dataclass. Each number may be a list or a
    range: then it differs from trajectory to trajectory."""

    kind: str

    def build(self) -> Flow:
        """The flow that stands for all trajectories, with the middle of what varies; where a term, a stratification
        say, may be zero in some, one that has it."""
        flows = [self._build(lambda parameter, name: middle(parameter)), *self.extremes()]
        return max(flows, key=lambda flow: len(flow.uniform_vectors))

    def for_trajectory(self, number: int, seed: int) -> Flow:
        """The flow of one trajectory: `number` in its split, with its seed."""
        return self._build(lambda parameter, name: value_for(parameter, name, number, seed))

    def extremes(self) -> list[Flow]:
        """A flow for each value of a list and each end of a range, the other parameters in their middle."""
        return [
            self._build(partial(_replaced, key, value))
            for key, varying in self.varying().items()
            for value in extremes(varying)
        ]

    def varying(self) -> dict[str, list[float] | Range]:
        """What differs from trajectory to trajectory, by dotted name."""
        found: dict[str, list[float] | Range] = {}

        def note(parameter: Any, name: str) -> Any:
            if is_varying(parameter):
                found[name] = parameter
            return middle(parameter)

        self._build(note)
        return found

    def _build(self, choose: Callable[[Any, str], Any]) -> Flow:
        return FLOWS[self.kind](**_chosen(self, choose))

    @model_validator(mode="after")
    def _check(self):
        flow = self.build()
        for other in self.extremes():
            if other.spin_up != flow.spin_up:
                raise ValueError("spin_up must be one number, the same for every trajectory")
        return self


def _replaced(key: str, value: float, parameter: Any, name: str) -> Any:
    return value if name == key else middle(parameter)


def _chosen(config: Config, choose: Callable[[Any, str], Any], prefix: str = "") -> dict[str, Any]:
    """Keyword arguments for what a section describes, each chosen from its parameter and its dotted name."""
    chosen = {}
    for key in type(config).model_fields:
        value = getattr(config, key)
        if isinstance(value, PartConfig):
            value = type(value).builds(**_chosen(value, choose, f"{prefix}{key}."))
        elif key != "kind":
            value = choose(value, prefix + key)
        chosen[key] = value
    chosen.pop("kind", None)
    return chosen


class ModelConfig(Config):
    """Keys of a model beside its `kind`; one subclass an architecture, made from its signature."""

    kind: str
    augment: str | None = None  # a group: each batch is moved by one of its elements, drawn at random
    solver: CoarseSolverConfig | None = None  # a hybrid: this solver steps and the network corrects it
    intervals: tuple[Annotated[int, Field(ge=1)], ...] | None = None  # stored ones in a step, which it is told
    init: str | None = None  # a model's folder, whose weights it starts from
    networks: Annotated[int, Field(ge=1, le=1000)] = 1  # networks of fresh weights, trained and applied as one model

    @model_validator(mode="after")
    def _check_steps(self):
        if self.intervals is not None and (len(set(self.intervals)) < 2 or 1 not in self.intervals):
            raise ValueError("intervals must be two different numbers or more, 1 among them, as in [1, 2]")
        if self.intervals is not None and self.solver is not None:
            raise ValueError("a hybrid steps one stored interval: give solver or intervals, not both")
        if self.networks > 1 and self.is_user_module:
            raise ValueError("networks > 1 is for an architecture of ours; train a module of yours once for each seed")
        return self

    def keywords(self) -> dict[str, Any]:
        """What the architecture's builder takes."""
        return self.model_dump(exclude=set(ModelConfig.model_fields))

    @property
    def multiples(self) -> tuple[int, ...]:
        """Over how many stored intervals it can step."""
        return tuple(sorted(set(self.intervals or (1,))))

    def fields_in(self, spec: StateSpec) -> tuple[FieldSpec, ...]:
        """What the network takes: state, inputs and, where it can choose, the interval."""
        return spec.fields + spec.inputs + ((INTERVAL,) if self.intervals else ())

    @property
    def is_user_module(self) -> bool:
        """True where the network is code of the user's, to be run only where that is allowed."""
        return self.kind == USER_MODULE

    @property
    def code(self) -> str | None:
        """That code, "package.module:Class"; None for our own, and for a module given from Python."""
        return getattr(self, "path", None)

    def build(self, spec: StateSpec, dtype: torch.dtype = torch.float32) -> Network:
        """The network for states of this spec, with fresh weights from torch's generator."""
        fields, build = self.fields_in(spec), ARCHITECTURES[self.kind]
        with single_precision_default():
            made = [build(fields, spec.fields, **self.keywords()) for _ in range(self.networks)]
        return cast_weights(made[0] if self.networks == 1 else DeepEnsemble(made), dtype)

    def groups(self) -> dict[str, Group]:
        """The point groups that the model claims, by key."""
        named = {
            "group": (getattr(self, "group", None), EXACT_GROUPS[self.kind]),
            "augment": (self.augment, group_named),
        }
        return {key: find(name) for key, (name, find) in named.items() if name is not None}


def _configs(registry: Mapping[str, Callable], base: type[Config]) -> Any:
    """One section a registered kind, its keys the builder's keyword-only arguments, told apart by `kind`."""
    made = []
    for kind, build in registry.items():
        name = f"{base.__name__}[{kind}]"
        keys = _keys(build, name, may_vary=base is FlowConfig)
        keys |= {"kind": (Literal[kind], kind)}  # type: ignore[valid-type]
        made.append(_findable(create_model(name, __base__=base, **keys), name))
    return Annotated[Union[tuple(made)], Field(discriminator="kind")]  # noqa: UP007


def _findable(config: type[Config], name: str) -> type[Config]:
    """The section under a name of its own in this module, which is where pickle looks for its class."""
    config.__qualname__, config.__module__ = name, __name__
    globals()[name] = config
    return config


def _keys(build: Callable, owner: str, may_vary: bool) -> dict[str, Any]:
    """The keyword-only arguments of a function or dataclass as the keys of the section `owner`."""
    keys: dict[str, Any] = {}
    for name, p in options_of(build).items():
        annotation = Varying if may_vary and p.annotation is float else p.annotation
        parts = [t for t in get_args(annotation) or [annotation] if isinstance(t, type) and is_dataclass(t)]
        if parts:
            within = f"{owner}[{name}]"
            part = create_model(parts[0].__name__, __base__=PartConfig, **_keys(parts[0], within, may_vary))
            _findable(part, within)
            part.builds, annotation = parts[0], part | None if p.default is None else part
        keys[name] = (annotation, ... if p.default is p.empty else p.default)
    return keys


if TYPE_CHECKING:
    AnyFlowConfig = FlowConfig
    AnyModelConfig = ModelConfig
else:
    AnyFlowConfig = _configs(FLOWS, FlowConfig)
    AnyModelConfig = _configs(ARCHITECTURES, ModelConfig)


def tagged_config(table: str, kind: str) -> type[Config] | None:
    """The section that a `kind` chooses in the table `flow` or `models`."""
    base = FlowConfig if table == "flow" else ModelConfig
    return next((cls for cls in base.__subclasses__() if cls.__name__ == f"{base.__name__}[{kind}]"), None)
