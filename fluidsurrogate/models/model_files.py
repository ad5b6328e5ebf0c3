"""What a model's folder may hold, checked before anything is built or allocated after what it says: a config of the
right types, and a safetensors file with the very tensors that this config describes, both in the folder itself.

The folder may be somebody else's. Nothing in it is executed; whatever it holds, `loading.load` takes it or says in
one line why not.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, final

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn.modules.module import register_module_parameter_registration_hook

from fluidsurrogate.config.flow_and_model_configs import AnyModelConfig
from fluidsurrogate.config.solver_configs import CoarseSolverConfig
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.flow_constants import CONSTANTS
from fluidsurrogate.models.energy_budget import MOTIONS
from fluidsurrogate.models.normalisation import Normalisation
from fluidsurrogate.nn import Network
from solvers import Grid, StateSpec, point_group

FORMAT = 4
WEIGHTS, LAST, CONFIG = "weights.safetensors", "last.safetensors", "config.json"
CONFIG_BYTES = 4 * 2**20  # an experiment that lists a parameter for each of a hundred thousand trajectories fits
STEP_BYTES = 2 * 2**30  # of what a step holds beside its weights: a grid of 8192 x 8192 fits
MOST_CELLS = 8192  # along a side of an experiment's grid
FINEST = 16  # cells of a hybrid's solver, over the stored ones, along a side
Number = Annotated[float, Field(allow_inf_nan=False)]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Key = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]  # these, and whole numbers of 64 bits, files take as attributes
Constant = Annotated[str, Field(pattern=f"^({'|'.join(CONSTANTS)})$")]
Shapes = dict[str, tuple[str, tuple[int, ...]]]  # by name of a tensor: dtype and shape
DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.complex64: "C64",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


@final
class ModelMetadata(BaseModel):
    """config.json. Keys that it does not know are left alone: a later version may write more."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False, protected_namespaces=())

    model: AnyModelConfig
    spec: StateSpec
    normalisation: Normalisation
    constants: dict[Constant, Annotated[Number, Field(ge=0)]]
    dtype: Literal["float32", "float64"]
    sha256: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]  # of the files of weights, by name
    about: dict[Key, str | Whole | Number | list[str | Whole | Number]]

    @model_validator(mode="after")
    def _check(self):
        spec, normalisation = self.spec, self.normalisation
        names = [field.name for field in spec.fields + spec.inputs]
        if not spec.fields or len(set(names)) < len(names):
            raise ValueError(f"spec: its fields must be at least one, each with a name of its own (got {names})")
        if not spec.interval > 0:
            raise ValueError(f"spec.interval must be positive (got {spec.interval:g})")
        for key, expected in (("shift", len(names)), ("scale", len(names)), ("change", len(spec.fields))):
            if len(getattr(normalisation, key)) != expected:
                found = len(getattr(normalisation, key))
                raise ValueError(f"normalisation.{key} must have {expected} numbers (got {found})")
        if min(*normalisation.scale, *normalisation.change) <= 0 or min(normalisation.band) < 0:
            raise ValueError("normalisation: scale and change must be positive, band at least 0")
        moving = any(field.name in MOTIONS for field in spec.fields)
        if (budget_coefficients := normalisation.budget_coefficients) is not None and not (
            min(budget_coefficients.viscosity, budget_coefficients.drag) >= 0 and moving
        ):
            raise ValueError(
                f"normalisation.budget_coefficients must be of numbers ≥ 0, "
                f"and the state hold a {' or a '.join(MOTIONS)}"
            )
        largest = point_group(spec.grid, spec.fields)
        for key, group in self.model.groups().items():
            if not largest.contains(group):
                raise ValueError(f"model.{key} {group.name!r} is no symmetry of its grid")
        return self

    @property
    def torch_dtype(self) -> torch.dtype:
        """What the weights are of."""
        return getattr(torch, self.dtype)


def read_metadata(folder: Path) -> ModelMetadata:
    """The config of a model's folder; UsageError in one line where there is none or anything about it is wrong."""
    if folder.is_file():
        raise UsageError(
            f"{folder} is no model: a model is a folder with {CONFIG} and {WEIGHTS} (pickles are not read)"
        )
    path = file_of(folder, CONFIG)
    if (size := path.stat().st_size) > CONFIG_BYTES:
        raise UsageError(f"{path} describes no model: it has {size} bytes, at most {CONFIG_BYTES} are read")
    try:
        text = path.read_text(encoding="utf-8")
        tree = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"{path} is not valid JSON") from None
    with describing(folder):
        if not isinstance(tree, dict):
            raise ValueError("it is no table")
        if "format" not in tree:
            raise ValueError("format is missing")
        if tree["format"] is True or tree["format"] != FORMAT:
            raise UsageError(f"model format {_brief(tree['format'])} is not {FORMAT}; made by another version")
        return ModelMetadata.model_validate_json(text)  # as JSON a list may stand for a tuple, all else stays apart


@contextmanager
def describing(folder: Path) -> Iterator[None]:
    """Turn whatever a config out of all proportion makes raise into a UsageError of one line that names the folder."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{folder}: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        at = ".".join(str(part) for part in fault["loc"])
        reason = fault["msg"].removeprefix("Value error, ")
        said = " ".join((f"{at}: {reason}" if at else reason).split())
        said = "".join(c if c.isprintable() else "?" for c in said)  # a key may hold anything
        raise UsageError(f"{folder / CONFIG} describes no model: {said[:300]}") from None
    except (KeyError, TypeError, ValueError, RuntimeError, ArithmeticError, MemoryError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UsageError(f"{folder / CONFIG} describes no model: {reason}") from None


def file_of(folder: Path, name: str) -> Path:
    """The file `name` of a model's folder; UsageError where it is not there, or leads out of the folder.

    In the Hub's cache, models--USER--NAME/snapshots/COMMIT/FILE links to the same repository's blobs/HASH: a link may
    lead anywhere within the cached repository.
    """
    path = folder / name
    try:
        home, real = folder.resolve(), path.resolve(strict=True)
    except (OSError, RuntimeError):  # nothing there, or links in a circle
        raise UsageError(f"{folder} is no model: it has no {name}") from None
    if home.parent.name == "snapshots" and home.parents[1].name.startswith("models--"):
        home = home.parents[1]
    if not real.is_relative_to(home):
        raise UsageError(f"{path} is a link that leaves the folder, to {real}: not followed")
    if not real.is_file():
        raise UsageError(f"{folder} is no model: its {name} is no file")
    return path


def tensors_in(path: Path) -> Shapes:
    """Dtype and shape of every tensor in a safetensors file, from its header alone; UsageError where it is none."""
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{path}: not the weights of this model: {reason}") from None


def check_weights(path: Path, found: Shapes, network: Network) -> None:
    """UsageError where the tensors in a file are not a network's, by name, shape and dtype."""
    expected = {name: (DTYPES.get(v.dtype, str(v.dtype)), tuple(v.shape))
                for name, v in network.state_dict().items() if isinstance(v, Tensor)}  # fmt: skip
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    wrong = [name for name in expected if name in found and found[name] != expected[name]]
    if missing:
        fault = f"no tensor {missing[0]!r}"
    elif extra:
        fault = f"a tensor {_brief(extra[0])} that the config knows nothing of"
    elif wrong:
        (dtype, shape), (dtype_here, shape_here) = expected[wrong[0]], found[wrong[0]]
        what = "size mismatch" if shape != shape_here else "wrong dtype"
        fault = f"{what} for {wrong[0]!r}: {dtype_here} {shape_here}, the config describes {dtype} {shape}"
    else:
        return
    raise UsageError(f"{path}: not the weights of this model: {fault}")


def check_finite(path: Path, network: Network) -> None:
    """UsageError where a weight is NaN or infinite: no forecast of it would be a number."""
    for name, parameter in network.named_parameters():
        if not parameter.isfinite().all():
            raise UsageError(f"{path}: {name!r} holds NaN or infinite values")


def check_hash(path: Path, metadata: ModelMetadata) -> None:
    """UsageError where a file of weights is not the one that the config was written with."""
    if path.name not in metadata.sha256:
        raise UsageError(f"{path.parent / CONFIG} records no hash of {path.name}: it was put there later")
    if sha256_of(path) != metadata.sha256[path.name]:
        raise UsageError(f"{path} is damaged, or of another model: its SHA-256 is not that in {CONFIG}; copy it again")


def sha256_of(path: Path) -> str:
    """The SHA-256 hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def on_meta(metadata: ModelMetadata, found: Shapes) -> Network:
    """The network that a config describes, on the meta device: names and shapes without memory or arithmetic.

    ValueError where it cannot be applied to the config's states; or where what the step holds beside the weights, or
    the number of layers or members, is out of all proportion to any grid and to the tensors that were `found`.
    """
    spec, networks = metadata.spec, metadata.model.networks
    if networks > 1 and any(shape[:1] != (networks,) for _, shape in found.values()):
        raise ValueError(f"model.networks = {networks}, which are not those in {WEIGHTS}")
    components = sum(field.components for field in metadata.model.fields_in(spec))
    ny, nx = spec.grid.n
    if (
        held := 8 * (spec.components * ny**2 + nx**2 + ny * (nx + 2))
    ) > STEP_BYTES:  # the matrices of `step.Projection`
        raise ValueError(f"spec.grid of {ny} x {nx} cells would take {held / 2**30:.0f} GiB, at most 2 are taken")
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        with _counting(networks * (2 * len(found) + 8)):  # a layer may make a weight twice
            network = metadata.model.build(spec, metadata.torch_dtype)
        with torch.no_grad():
            network.eval()(torch.zeros(networks, components, ny, nx, dtype=metadata.torch_dtype))
        return network


@contextmanager
def _counting(most: int) -> Iterator[None]:
    """ValueError as soon as modules made in this thread have more weights than `most`."""
    here, seen = threading.get_ident(), Counter[int]()

    def note(module: Any, name: str, parameter: Any) -> None:
        thread = threading.get_ident()
        seen[thread] += 1
        if thread == here and seen[here] > most:
            raise ValueError(f"model: it describes more layers than there are tensors in {WEIGHTS}")

    handle = register_module_parameter_registration_hook(note)
    try:
        yield
    finally:
        handle.remove()


def check_proportions(tree: Any) -> None:
    """UsageError where an experiment that somebody else's file records has a grid out of all proportion: to check an
    experiment, or to build its solver, takes memory in proportion to its cells."""
    grid = tree.get("grid") if isinstance(tree, dict) else None
    for sides in [grid.get("n"), grid.get("store")] if isinstance(grid, dict) else []:
        for n in sides if isinstance(sides, list) else [sides]:
            if isinstance(n, int | float) and n > MOST_CELLS:
                raise UsageError(f"its experiment has a grid of {n:.6g} cells a side: more than {MOST_CELLS}")


def check_solver(solver: CoarseSolverConfig, stored: Grid) -> None:
    """UsageError where a hybrid's coarse solver is on far more cells than it has states of."""
    sides = solver.n if isinstance(solver.n, tuple) else (solver.n or 0,)
    if max(sides) > FINEST * max(stored.n):
        raise UsageError(f"model.solver.n = {max(sides)} is more than {FINEST} times the {max(stored.n)} stored cells")


def weights_in(network: Network) -> int:
    """Number of trained weights, a complex one counted as two."""
    return sum(math.prod(p.shape) * (1 + p.is_complex()) for p in network.parameters())


def _brief(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
