"""Write a trained model to a folder: weights as safetensors, everything else as JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save as serialised
from torch import Tensor

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import atomic_write, write_json
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.models.calibration import CALIBRATION
from fluidsurrogate.models.model_files import CONFIG, FORMAT, LAST, WEIGHTS, sha256_of
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.nn import cpu_state_dict


def save(model: Surrogate, folder: str | Path) -> None:
    """Write a model to a folder, each file in one piece.

    The folder holds weights.safetensors, config.json with the hash of the weights and, for a calibrated model,
    calibration.json. `load` reads it.

    Parameters
    ----------
    model : Surrogate
        The model to write.
    folder : str or Path
        The folder; it is made if it does not exist, and files of an earlier model in it are replaced.

    Raises
    ------
    UsageError
        If the model was calibrated at steps of several intervals: a folder keeps the calibration of single intervals.
    """
    if model.calibration is not None and model.multiple > 1:
        raise UsageError(f"its calibration is of steps over {model.multiple} intervals, and a folder keeps one of "
                         "single ones: save model.every(1)")  # fmt: skip
    folder = as_path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(cpu_state_dict(model.network), folder / WEIGHTS)
    hashes = {name: sha256_of(folder / name) for name in (WEIGHTS, LAST) if (folder / name).exists()}
    about = dict(model.about)
    write_json(folder / CONFIG, {"format": FORMAT, **metadata_of(model), "sha256": hashes, "about": about})
    if model.calibration is None:
        (folder / CALIBRATION).unlink(missing_ok=True)  # of the weights that were there before
    else:
        model.calibration.write(folder)


def metadata_of(model: Surrogate) -> dict[str, Any]:
    """Return what config.json says of a model, beside hashes and origin, as plain data."""
    return {
        "model": model.config.model_dump(mode="json", exclude_none=True),
        "spec": asdict(model.stored),
        "normalisation": asdict(model.normalisation),
        "constants": model.constants,
        "dtype": model.dtype_name,
    }


def hash_weights(model: Surrogate) -> str:
    """Return the SHA-256 hash of the file of weights that `save` would write."""
    return hashlib.sha256(to_safetensors(cpu_state_dict(model.network))).hexdigest()


def write_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors by name as a safetensors file, in one piece."""
    with atomic_write(path) as beside:
        beside.write_bytes(to_safetensors(weights))


def to_safetensors(weights: Mapping[str, Tensor]) -> bytes:
    """Return the content of a safetensors file: the same bytes for the same tensors."""
    return serialised({name: value.contiguous() for name, value in weights.items()})
