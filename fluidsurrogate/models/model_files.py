"""The files in the folder of a model, and the metadata in its config.json.

The folder may come from somebody else. Nothing in it is executed, and everything that it says is checked before a
network is built or memory allocated: here the config, in `model_file_checks` the sizes and the weights. A folder is
either loaded, or refused with a message of one line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, final

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fluidsurrogate.config.flow_and_model_configs import AnyModelConfig
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.data.flow_constants import CONSTANTS
from fluidsurrogate.models.energy_budget import FLOW_FIELDS
from fluidsurrogate.models.normalisation import Normalisation
from solvers import StateSpec, point_group

MODEL_FORMAT = 5
WEIGHTS_FILE, LAST_WEIGHTS_FILE, CONFIG_FILE = "weights.safetensors", "last.safetensors", "config.json"
MAX_CONFIG_BYTES = 4 * 2**20  # an experiment that lists a parameter for each of a hundred thousand trajectories fits
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]
# Attributes of files may have these names, and hold whole numbers of 64 bits.
Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
AttributeName = Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
ConstantName = Annotated[str, Field(pattern=f"^({'|'.join(CONSTANTS)})$")]


@final
class ModelMetadata(BaseModel):
    """Content of config.json: everything about a model but its weights.

    Unknown keys are ignored, because a later version may write more.

    Parameters
    ----------
    model : ModelConfig
        The model's table of the experiment.
    spec : StateSpec
        Grid, fields, inputs and interval of the stored states.
    normalisation : Normalisation
        Shift, scale and size of a change.
    constants : dict of str to float
        Viscosity, drag and diffusivity of the training flow, as far as they are known and not inputs.
    dtype : str
        Precision of the states: "float32" or "float64".
    sha256 : dict of str to str
        SHA-256 hash of each file of weights, by its name.
    about : dict of str to object
        What the training recorded: the model's name, experiment, provenance, seed and versions.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False, protected_namespaces=())

    model: AnyModelConfig
    spec: StateSpec
    normalisation: Normalisation
    constants: dict[ConstantName, Annotated[FiniteFloat, Field(ge=0)]]
    dtype: Literal["float32", "float64"]
    sha256: dict[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]]
    about: dict[AttributeName, str | Int64 | FiniteFloat | list[str | Int64 | FiniteFloat]]

    @model_validator(mode="after")
    def _check(self):
        spec, normalisation = self.spec, self.normalisation
        names = [field.name for field in spec.fields + spec.inputs]
        if not spec.fields or len(set(names)) < len(names):
            raise ValueError(
                f"spec must have at least one field, and no two fields or inputs of one name (got {names})"
            )
        if not spec.interval > 0:
            raise ValueError(f"spec.interval must be positive (got {spec.interval:g})")
        for key, expected in (("shift", len(names)), ("scale", len(names)), ("change", len(spec.fields))):
            if len(getattr(normalisation, key)) != expected:
                found = len(getattr(normalisation, key))
                raise ValueError(f"normalisation.{key} must have {expected} numbers (got {found})")
        if min(*normalisation.scale, *normalisation.change) <= 0 or min(normalisation.band) < 0:
            raise ValueError("normalisation: scale and change must be positive, and band at least 0")
        has_flow = any(field.name in FLOW_FIELDS for field in spec.fields)
        if (budget_coefficients := normalisation.budget_coefficients) is not None and not (
            min(budget_coefficients.viscosity, budget_coefficients.drag) >= 0 and has_flow
        ):
            raise ValueError(
                f"normalisation.budget_coefficients must be numbers of at least 0, "
                f"and the state must hold a {' or a '.join(FLOW_FIELDS)}"
            )
        scale, takes_velocity = normalisation.velocity_scale, self.model.takes_velocity(spec)
        if (scale is not None) != takes_velocity or (scale is not None and not scale > 0):
            raise ValueError("normalisation.velocity_scale must be a positive number if the network takes the "
                             f"velocity, and null if not (got {scale})")  # fmt: skip
        if len(normalisation.band) != spec.grid.dimensions:
            raise ValueError(f"normalisation.band must have {spec.grid.dimensions} numbers, one for each axis of the "
                             f"grid (got {len(normalisation.band)})")  # fmt: skip
        largest = point_group(spec.grid, spec.fields)
        for key, group in self.model.groups(spec.grid.dimensions).items():
            if not largest.contains(group):
                raise ValueError(f"model.{key} {group.name!r} is not a symmetry of spec.grid")
        return self

    @property
    def torch_dtype(self) -> torch.dtype:
        """Precision of the states as a torch dtype."""
        return getattr(torch, self.dtype)


def read_metadata(folder: Path) -> ModelMetadata:
    """Read the config.json of a model's folder.

    Parameters
    ----------
    folder : Path
        The folder of the model.

    Returns
    -------
    ModelMetadata
        The checked content.

    Raises
    ------
    UsageError
        If there is no config.json, or anything in it is wrong.
    """
    if folder.is_file():
        raise UsageError(
            f"{folder} is not a model: a model is a folder with {CONFIG_FILE} and {WEIGHTS_FILE} (pickles are not read)"
        )
    path = find_file(folder, CONFIG_FILE)
    if (size := path.stat().st_size) > MAX_CONFIG_BYTES:
        raise UsageError(f"{path} does not describe a model: it has {size} bytes, at most {MAX_CONFIG_BYTES} are read")
    try:
        text = path.read_text(encoding="utf-8")
        tree = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"{path} is not valid JSON") from None
    with explaining_config_errors(folder):
        if not isinstance(tree, dict):
            raise ValueError("it is not a table of keys and values")
        if "format" not in tree:
            raise ValueError("the key format is missing")
        if tree["format"] is True or tree["format"] != MODEL_FORMAT:
            raise UsageError(f"model format {shorten(tree['format'])} is not {MODEL_FORMAT}: another version of "
                             "fluidsurrogate wrote this model")  # fmt: skip
        return ModelMetadata.model_validate_json(text)  # as JSON a list may stand for a tuple, all else stays apart


@contextmanager
def explaining_config_errors(folder: Path) -> Iterator[None]:
    """Turn whatever a hostile or damaged config raises into a `UsageError` of one line that names the folder.

    Parameters
    ----------
    folder : Path
        The folder of the model.

    Yields
    ------
    None
        The block runs once, with its errors explained.

    Raises
    ------
    UsageError
        If the block raises an error that a config can cause.
    """
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{folder}: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        at = ".".join(str(part) for part in fault["loc"])
        reason = fault["msg"].removeprefix("Value error, ")
        text = " ".join((f"{at}: {reason}" if at else reason).split())
        text = "".join(c if c.isprintable() else "?" for c in text)  # a key may hold anything
        raise UsageError(f"{folder / CONFIG_FILE} does not describe a model: {text[:300]}") from None
    except (KeyError, TypeError, ValueError, RuntimeError, ArithmeticError, MemoryError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UsageError(f"{folder / CONFIG_FILE} does not describe a model: {reason}") from None


def find_file(folder: Path, name: str) -> Path:
    """Return the path of a file in a model's folder, without following links out of the folder.

    In the Hub's cache, models--USER--NAME/snapshots/COMMIT/FILE links to the same repository's blobs/HASH: there a link
    may lead anywhere within the cached repository.

    Parameters
    ----------
    folder : Path
        The folder of the model.
    name : str
        Name of the file.

    Returns
    -------
    Path
        The path in the folder.

    Raises
    ------
    UsageError
        If there is no such file, or it is a link that leads out of the folder.
    """
    path = folder / name
    try:
        home, real = folder.resolve(), path.resolve(strict=True)
    except (OSError, RuntimeError):  # no such file, or links in a circle
        raise UsageError(f"{folder} is not a model: it has no {name}") from None
    if home.parent.name == "snapshots" and home.parents[1].name.startswith("models--"):
        home = home.parents[1]
    if not real.is_relative_to(home):
        raise UsageError(f"{path} is a link that leaves the folder, to {real}, and is not followed: copy the file")
    if not real.is_file():
        raise UsageError(f"{folder} is not a model: its {name} is not a file")
    return path


def file_sha256(path: Path) -> str:
    """Return the SHA-256 hash of the content of a file.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shorten(value: Any) -> str:
    """Return a value as one line of at most 60 characters, for a message.

    Parameters
    ----------
    value : object
        Anything that a file holds.

    Returns
    -------
    str
        Its representation, cut if it is longer.
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
