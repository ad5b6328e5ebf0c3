"""An experiment: one TOML file, read into one frozen tree in which every key is known and every value is in range."""

from __future__ import annotations

import inspect
import json
import math
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union, final, get_args, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from fluidsurrogate.errors import UsageError
from fluidsurrogate.explain import explain
from fluidsurrogate.nn import ARCHITECTURES, Network
from fluidsurrogate.reproducible import derive_seed
from fluidsurrogate.variation import Range, Varying, extremes, is_varying, middle, value_for
from solvers import FLOWS, GROUPS, Flow, Grid, Group, NavierStokes2D, StateSpec, point_group

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]


class Section(BaseModel):
    """A part of the tree: frozen, strict in its types, closed to unknown keys, finite in its numbers."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class GridSection(Section):
    """`n` cells and side `length`, one number or [y, x]; `store` cells in what is stored and learnt, if not `n`."""

    n: int | tuple[int, int]
    length: float | tuple[float, float] = 2 * math.pi
    store: int | tuple[int, int] | None = None

    @model_validator(mode="after")
    def _check(self):
        fine, stored = self.build(), self.build_stored()
        if any(a > b for a, b in zip(stored.n, fine.n, strict=True)) or stored.is_square != fine.is_square:
            raise ValueError(f"store must be no finer than n and of its shape (got {self.store})")
        return self

    def build(self) -> Grid:
        """The solver's grid."""
        return Grid.rectangle(self.n, self.length)

    def build_stored(self) -> Grid:
        """The grid of the stored states."""
        return Grid.rectangle(self.store or self.n, self.length)


class SolverSection(Section):
    """How the classical solver steps: `order` 2 or 4, `dt` the inner step (absent: by a CFL bound)."""

    order: Literal[2, 4] = 4
    dt: Positive | None = None


class DataSection(Section):
    """Numbers of trajectories by split, of stored intervals, and the time between them; or a dataset of the user's."""

    train: Count
    valid: Count
    test: Count
    steps: Count
    interval: Positive
    block: Count = 8  # trajectories computed together, padded to this size: part of what fixes the last bits
    threads: Count = 1  # likewise; more than one pays on grids from some 256 x 256 up
    path: str | None = None


class TrainSection(Section):
    """Optimisation: AdamW with warm-up and cosine decay; the last `unroll_fraction` of the steps on `unroll` steps."""

    steps: Count = 1000
    batch: Count = 16
    learning_rate: Positive = 3e-3
    warmup: Annotated[int, Field(ge=0)] = 50
    weight_decay: NonNegative = 1e-2
    clip: Positive = 1.0
    unroll: Count = 3
    unroll_fraction: Annotated[float, Field(ge=0, le=1)] = 0.2
    valid_every: Count = 100
    checkpoint_every: Count = 100
    workers: Count = 2  # models trained at a time
    threads: Count = 1  # threads each


class CompareSection(Section):
    """How forecasts are scored and drawn."""

    correlation_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.8


class PartSection(Section):
    """A table within a flow's, such as `[flow.tracer]`; one subclass a dataclass, which it builds."""

    builds: ClassVar[Callable[..., Any]]


class FlowSection(Section):
    """Keys of a flow beside its `kind`; one subclass a flow, made from its dataclass. Each number may be a list or a
    range: then it differs from trajectory to trajectory."""

    kind: str

    def build(self) -> Flow:
        """The flow that stands for all trajectories, with the middle of what varies; where a term, a stratification
        say, may be zero in some, one that has it."""
        flows = [self._build(lambda parameter, name: middle(parameter)), *self.extremes()]
        return max(flows, key=lambda flow: len(flow.vectors))

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


def _chosen(section: Section, choose: Callable[[Any, str], Any], prefix: str = "") -> dict[str, Any]:
    """Keyword arguments for what a section describes, each chosen from its parameter and its dotted name."""
    chosen = {}
    for key in type(section).model_fields:
        value = getattr(section, key)
        if isinstance(value, PartSection):
            value = type(value).builds(**_chosen(value, choose, f"{prefix}{key}."))
        elif key != "kind":
            value = choose(value, prefix + key)
        chosen[key] = value
    chosen.pop("kind", None)
    return chosen


class ModelSection(Section):
    """Keys of a model beside its `kind`; one subclass an architecture, made from its signature."""

    kind: str
    augment: str | None = None  # a group: each batch is moved by one of its elements, drawn at random

    def options(self) -> dict[str, Any]:
        """What the architecture's builder takes."""
        return self.model_dump(exclude={"kind", "augment"})

    def build(self, spec: StateSpec) -> Network:
        """The network for states of this spec, with fresh weights from torch's generator."""
        return ARCHITECTURES[self.kind](spec.fields + spec.inputs, spec.fields, **self.options())

    def try_out(self, spec: StateSpec) -> None:
        """Build the network and apply it once, without memory or arithmetic; ValueError where it does not fit."""
        with torch.device("meta"):
            components = spec.components + sum(field.components for field in spec.inputs)
            self.build(spec)(torch.empty(1, components, *spec.grid.n))

    def groups(self) -> dict[str, Group]:
        """The groups that the model claims, by key."""
        named = {"group": getattr(self, "group", None), "augment": self.augment}
        for key, name in named.items():
            if name is not None and name not in GROUPS:
                raise ValueError(f"unknown {key} {name!r}; one of {', '.join(GROUPS)}")
        return {key: GROUPS[name] for key, name in named.items() if name is not None}


def _sections(registry: Mapping[str, Callable], base: type[Section]) -> Any:
    """One section a registered kind, its keys the builder's keyword-only arguments, told apart by `kind`."""
    made = []
    for kind, build in registry.items():
        keys = _keys(build, may_vary=base is FlowSection) | {"kind": (Literal[kind], kind)}  # type: ignore[valid-type]
        made.append(create_model(f"{base.__name__}[{kind}]", __base__=base, **keys))
    return Annotated[Union[tuple(made)], Field(discriminator="kind")]  # noqa: UP007


def _keys(build: Callable, may_vary: bool) -> dict[str, Any]:
    """The keyword-only arguments of a function or dataclass as a section's keys."""
    keys: dict[str, Any] = {}
    types = get_type_hints(build, include_extras=True)  # a flow inherits annotations that its own module cannot name
    for p in inspect.signature(build).parameters.values():
        if p.kind is p.KEYWORD_ONLY:
            annotation = Varying if may_vary and types[p.name] is float else types[p.name]
            parts = [t for t in get_args(annotation) or [annotation] if isinstance(t, type) and is_dataclass(t)]
            if parts:
                part = create_model(parts[0].__name__, __base__=PartSection, **_keys(parts[0], may_vary))
                part.builds, annotation = parts[0], part | None if p.default is None else part
            keys[p.name] = (annotation, ... if p.default is p.empty else p.default)
    return keys


if TYPE_CHECKING:
    AnyFlowSection = FlowSection
    AnyModelSection = ModelSection
else:
    AnyFlowSection = _sections(FLOWS, FlowSection)
    AnyModelSection = _sections(ARCHITECTURES, ModelSection)


@final
class Experiment(Section):
    """The whole experiment. `Experiment.read(path)` reads a TOML file; `build_*` make what the parts describe."""

    name: Name
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    dtype: Literal["float32", "float64"] = "float32"
    device: str = "cpu"
    grid: GridSection
    flow: AnyFlowSection
    solver: SolverSection = SolverSection()
    data: DataSection
    models: dict[Name, AnyModelSection] = {}
    train: TrainSection = TrainSection()
    compare: CompareSection = CompareSection()

    @model_validator(mode="after")
    def _check(self):
        if not _has_device(self.device):
            raise ValueError(f"device {self.device!r} is not to be had here; try cpu, cuda or mps")
        with _blaming("flow on this grid"):
            solver, flow = self.build_solver(device="cpu"), self.build_flow()
            for one in (flow, *self.flow.extremes()):
                one.starts(solver.grid, [0])
                if one.stirring(solver.grid) != flow.stirring(solver.grid):
                    raise ValueError("what stirs the flow must be the same for every trajectory")
            if flow.spin_up:
                self.build_spin_up(device="cpu")
        for name, model in self.models.items():
            with _blaming(f"models.{name}"):
                self._check_groups(model.groups(), self.spec)
                model.try_out(self.spec)
        if self.train.unroll_fraction and self.train.unroll > self.data.steps and not self.data.path:
            raise ValueError(f"train.unroll = {self.train.unroll} is longer than data.steps = {self.data.steps}")
        return self

    def _check_groups(self, groups: Mapping[str, Group], spec: StateSpec) -> None:
        """A model's group must be one of the flow's, or of the grid's alone where what breaks the flow's symmetry is
        an input, which turns with the state."""
        flow, grid = self.build_flow(), self.grid.build()
        for key, group in groups.items():
            if not point_group(grid, spec.fields).contains(group):
                shape = "box with plates" if point_group(grid).contains(group) else "rectangle"
                raise ValueError(f"{key} {group.name!r} is no symmetry of this {shape}; take C1, C2, D1 or D2")
            if not spec.inputs and not flow.group.contains(group):
                raise ValueError(f"{key} {group.name!r} is no symmetry of the flow {flow.kind!r} ({flow.group.name})")

    @classmethod
    def read(cls, path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
        """Read a TOML file and apply `dotted.key=value` overrides; UsageError where anything is wrong with either."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise UsageError(f"{path}: cannot read the experiment: {reason}") from None
        try:
            tree = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"{path}: not valid TOML: {error}") from None
        for override in overrides:
            _override(tree, override)
        return cls.from_tree(tree, str(path))

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any], origin: str = "experiment") -> Experiment:
        """Validate a nested mapping; UsageError says every fault in a line with its dotted key."""
        try:
            # Through JSON: there a list may stand for a tuple while numbers, strings and booleans stay apart.
            return cls.model_validate_json(json.dumps(tree, default=str))
        except ValidationError as error:
            lines = explain(cls, error.errors(), _tagged_section)
            raise UsageError("\n".join(f"{origin}: {line}" for line in lines)) from None

    @classmethod
    def of(cls, experiment: Experiment | str | Path) -> Experiment:
        """An experiment, or the file that holds one."""
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

    def trajectory_seed(self, split: str, number: int) -> int:
        """What fixes everything random about a trajectory."""
        return derive_seed(self.seed, split, number)

    def flows(self, split: str, numbers: Sequence[int]) -> list[Flow]:
        """The flow of each trajectory."""
        return [self.flow.for_trajectory(i, self.trajectory_seed(split, i)) for i in numbers]

    def build_solver(self, interval: float | None = None, device: str | None = None) -> NavierStokes2D:
        """The classical solver; `interval` other than the stored one for the spin-up. What varies is an input."""
        flow = self.build_flow()
        numbers = [other.numbers for other in self.flow.extremes()]
        return flow.solver(
            self.grid.build(),
            interval=interval or self.data.interval,
            dt=self.solver.dt,
            order=self.solver.order,
            varying=[name for name in flow.numbers if any(n[name] != flow.numbers[name] for n in numbers)],
            dtype=self.torch_dtype,
            device=device or self.device,
        )

    def build_spin_up(self, device: str | None = None) -> tuple[NavierStokes2D, int]:
        """The solver of the spin-up and how many of its intervals that takes: none longer than a stored one."""
        spin_up = self.build_flow().spin_up
        count = math.ceil(spin_up / self.data.interval - 1e-9)
        return self.build_solver(spin_up / count, device), count

    @cached_property
    def spec(self) -> StateSpec:
        """What a stored state is."""
        return replace(self.build_solver(device="cpu").spec, grid=self.grid.build_stored())


def _has_device(name: str) -> bool:
    try:
        return torch.device(name).type in ("cpu", "cuda", "mps") and torch.empty(0, device=name).numel() == 0
    except (RuntimeError, AssertionError):
        return False


@contextmanager
def _blaming(part: str) -> Iterator[None]:
    """Turn whatever building a part raises on values that are out of all proportion into a ValueError that names it."""
    try:
        yield
    except (ValueError, RuntimeError, MemoryError, ArithmeticError) as error:
        raise ValueError(f"{part}: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from None


def _override(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {override}: expected dotted.key=value, as in --set train.steps=100")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.strip().split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise UsageError(f"--set {override}: {parent!r} is a value, not a table")
    tree[last] = value


def _tagged_section(table: str, kind: str) -> type[Section] | None:
    base = FlowSection if table == "flow" else ModelSection
    return next((cls for cls in base.__subclasses__() if cls.__name__ == f"{base.__name__}[{kind}]"), None)
