"""Checks of a model's folder against hostile files: sizes before anything is built, weights before they are used."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn.modules.module import register_module_parameter_registration_hook

from fluidsurrogate.config.solver_configs import CoarseSolverConfig
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.models.model_files import CONFIG_FILE, WEIGHTS_FILE, ModelMetadata, file_sha256, shorten
from fluidsurrogate.nn import Network
from solvers import Grid

MAX_STEP_BYTES = 2 * 2**30  # of what a step holds beside its weights: a grid of 8192 x 8192 fits
MAX_SIDE_CELLS = 8192  # along a side of an experiment's grid
MAX_BOX_CELLS = 512  # along a side of an experiment's grid in three dimensions
MAX_SOLVER_REFINEMENT = 16  # cells of a hybrid's solver, over the stored ones, along a side
TensorShapes = dict[str, tuple[str, tuple[int, ...]]]  # by name of a tensor: dtype and shape
DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.complex64: "C64",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def read_tensor_shapes(path: Path) -> TensorShapes:
    """Read dtype and shape of every tensor in a safetensors file, from its header alone.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    dict of str to tuple
        The dtype, as safetensors spells it, and the shape of each tensor by name.

    Raises
    ------
    UsageError
        If it is not a safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            return {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{path}: not the weights of this model: {reason}") from None


def check_weights(path: Path, found: TensorShapes, network: Network) -> None:
    """Check that the tensors in a file are those of a network, by name, shape and dtype.

    Parameters
    ----------
    path : Path
        The file of weights, for the message.
    found : dict of str to tuple
        Dtype and shape of each tensor in the file.
    network : Network
        The network that the config describes; it may be on the meta device.

    Raises
    ------
    UsageError
        If a tensor is missing, unknown, or of another shape or dtype.
    """
    expected = {name: (DTYPES.get(v.dtype, str(v.dtype)), tuple(v.shape))
                for name, v in network.state_dict().items() if isinstance(v, Tensor)}  # fmt: skip
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    wrong = [name for name in expected if name in found and found[name] != expected[name]]
    if missing:
        fault = f"no tensor {missing[0]!r}"
    elif extra:
        fault = f"a tensor {shorten(extra[0])} that the config does not describe"
    elif wrong:
        (dtype, shape), (dtype_here, shape_here) = expected[wrong[0]], found[wrong[0]]
        what = "size mismatch" if shape != shape_here else "wrong dtype"
        fault = f"{what} for {wrong[0]!r}: {dtype_here} {shape_here}, the config describes {dtype} {shape}"
    else:
        return
    raise UsageError(f"{path}: not the weights of this model: {fault}")


def check_finite(path: Path, network: Network) -> None:
    """Check that all weights of a network are finite: with one that is not, no forecast would be a number.

    Parameters
    ----------
    path : Path
        The file of weights, for the message.
    network : Network
        The network with the weights of the file.

    Raises
    ------
    UsageError
        If a weight is NaN or infinite.
    """
    for name, parameter in network.named_parameters():
        if not parameter.isfinite().all():
            raise UsageError(f"{path}: the weights {name!r} hold NaN or infinite values")


def check_hash(path: Path, metadata: ModelMetadata) -> None:
    """Check that a file of weights is the one that the config was written with.

    Parameters
    ----------
    path : Path
        The file of weights.
    metadata : ModelMetadata
        The config with the hash.

    Raises
    ------
    UsageError
        If the config records no hash of the file, or another one.
    """
    if path.name not in metadata.sha256:
        raise UsageError(f"{path.parent / CONFIG_FILE} records no hash of {path.name}: the file was added later")
    if file_sha256(path) != metadata.sha256[path.name]:
        raise UsageError(
            f"{path} is damaged, or of another model: its SHA-256 is not that in {CONFIG_FILE}; copy it again"
        )


def build_on_meta_device(metadata: ModelMetadata, found: TensorShapes) -> Network:
    """Build the network that a config describes on the meta device: names and shapes without memory or arithmetic.

    Parameters
    ----------
    metadata : ModelMetadata
        The config.
    found : dict of str to tuple
        Dtype and shape of each tensor in the file of weights.

    Returns
    -------
    Network
        The network, which can be applied to states of the config.

    Raises
    ------
    ValueError
        If the network cannot be applied to the config's states, the step would hold far more beside the weights than
        any grid needs, or the network has more layers, or another number of networks, than there are tensors in
        `found`.
    """
    spec, networks = metadata.spec, metadata.model.networks
    if networks > 1 and any(shape[:1] != (networks,) for _, shape in found.values()):
        raise ValueError(f"model.networks = {networks}, but {WEIGHTS_FILE} holds another number of networks")
    components = sum(field.components for field in metadata.model.fields_in(spec))
    n, grid = spec.grid.n, spec.grid
    # The matrices and wavevectors of `step.ChangeProjection`.
    matrices = spec.components * n[-2] ** 2 + sum(m**2 for axis, m in zip(grid.axes, n, strict=True) if axis != "y")
    per_mode = grid.dimensions + (4 if metadata.model.takes_velocity(spec) else 0)  # directions, `VelocityOfVorticity`
    held = 8 * (matrices + per_mode * math.prod(grid.half_shape()))
    if held > MAX_STEP_BYTES:
        cells = " x ".join(map(str, n))
        raise ValueError(f"spec.grid of {cells} cells would take {held / 2**30:.0f} GiB, at most 2 are allowed")
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        with _limiting_parameters(networks * (2 * len(found) + 8)):  # a layer may make a weight twice
            network = metadata.model.build(spec, metadata.torch_dtype)
        with torch.no_grad():
            network.eval()(torch.zeros(networks, components, *n, dtype=metadata.torch_dtype))
        return network


@contextmanager
def _limiting_parameters(most: int) -> Iterator[None]:
    """Raise ValueError as soon as modules made in this thread have more weights than `most`."""
    here, seen = threading.get_ident(), Counter[int]()

    def count(module: Any, name: str, parameter: Any) -> None:
        thread = threading.get_ident()
        seen[thread] += 1
        if thread == here and seen[here] > most:
            raise ValueError(f"model: it describes more layers than there are tensors in {WEIGHTS_FILE}")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def check_experiment_size(tree: Any) -> None:
    """Check that the grid of an experiment in somebody else's file is not absurdly large.

    To check an experiment, or to build its solver, takes memory in proportion to its cells.

    Parameters
    ----------
    tree : object
        The experiment as it was read from JSON.

    Raises
    ------
    UsageError
        If a side of the grid has more than `MAX_SIDE_CELLS` cells, in three dimensions more than `MAX_BOX_CELLS`.
    """
    grid = tree.get("grid") if isinstance(tree, dict) else None
    if not isinstance(grid, dict):
        return
    given = [grid.get("n"), grid.get("store")]
    in_space = grid.get("dimensions") == 3 or any(
        isinstance(value, list) and len(value) == 3 for value in (*given, grid.get("length"))
    )
    most = MAX_BOX_CELLS if in_space else MAX_SIDE_CELLS
    for sides in given:
        for n in sides if isinstance(sides, list) else [sides]:
            if isinstance(n, int | float) and n > most:
                raise UsageError(f"its experiment has a grid of {n:.6g} cells a side: at most {most} are read")


def check_solver_size(solver: CoarseSolverConfig, stored: Grid) -> None:
    """Check that the coarse solver of a hybrid is not on far more cells than the stored states.

    Parameters
    ----------
    solver : CoarseSolverConfig
        The hybrid's solver.
    stored : Grid
        Grid of the stored states.

    Raises
    ------
    UsageError
        If a side has more than `MAX_SOLVER_REFINEMENT` times the stored cells, or in three dimensions more than
        `MAX_BOX_CELLS`.
    """
    sides = solver.n if isinstance(solver.n, tuple) else (solver.n or 0,)
    if max(sides) > MAX_SOLVER_REFINEMENT * max(stored.n):
        raise UsageError(f"model.solver.n = {max(sides)} is more than {MAX_SOLVER_REFINEMENT} times the "
                         f"{max(stored.n)} stored cells")  # fmt: skip
    if stored.dimensions > 2 and max(sides) > MAX_BOX_CELLS:
        raise UsageError(f"model.solver.n = {max(sides)} is more than {MAX_BOX_CELLS} cells a side")


def count_parameters(network: Network) -> int:
    """Return the number of trained weights of a network; a complex one counts as two.

    Parameters
    ----------
    network : Network
        The network; it may be on the meta device.

    Returns
    -------
    int
        The number of real numbers.
    """
    return sum(math.prod(p.shape) * (1 + p.is_complex()) for p in network.parameters())
