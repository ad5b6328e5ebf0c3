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
from fluidsurrogate.models.calibration import CALIBRATION_FILE
from fluidsurrogate.models.model_files import CONFIG_FILE, LAST_WEIGHTS_FILE, MODEL_FORMAT, WEIGHTS_FILE, file_sha256
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
        If the model was calibrated for steps of several intervals: a folder keeps the calibration of single intervals.

    Examples
    --------
    >>> import os, tempfile
    >>> import fluidsurrogate as fs
    >>> experiment = fs.Experiment.from_tree({
    ...     "name": "example",
    ...     "grid": {"n": 16},
    ...     "flow": {"kind": "decaying", "viscosity": 0.02, "wavenumber": 2},
    ...     "data": {"train": 2, "valid": 1, "test": 1, "steps": 4, "interval": 0.25},
    ...     "models": {"small": {"kind": "cnn", "width": 4, "dilations": [1]}},
    ...     "train": {"steps": 2, "batch": 2, "unroll": 1},
    ... })
    >>> model = fs.train(experiment)["small"]
    >>> folder = tempfile.TemporaryDirectory()
    >>> fs.save(model, folder.name)
    >>> sorted(os.listdir(folder.name))
    ['config.json', 'weights.safetensors']
    >>> folder.cleanup()
    """
    if model.calibration is not None and model.multiple > 1:
        raise UsageError(f"the calibration of this model is for steps over {model.multiple} intervals, and a folder "
                         "keeps the calibration for steps over one: save model.every(1)")  # fmt: skip
    folder = as_path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(cpu_state_dict(model.network), folder / WEIGHTS_FILE)
    hashes = {
        name: file_sha256(folder / name) for name in (WEIGHTS_FILE, LAST_WEIGHTS_FILE) if (folder / name).exists()
    }
    about = dict(model.about)
    write_json(folder / CONFIG_FILE, {"format": MODEL_FORMAT, **metadata_of(model), "sha256": hashes, "about": about})
    if model.calibration is None:
        (folder / CALIBRATION_FILE).unlink(missing_ok=True)  # it was of the weights that were there before
    else:
        model.calibration.write(folder)


def metadata_of(model: Surrogate) -> dict[str, Any]:
    """Return what config.json says of a model, except hashes and origin.

    Parameters
    ----------
    model : Surrogate
        The model.

    Returns
    -------
    dict of str to object
        Plain data: the keys model, spec, normalisation, constants and dtype.
    """
    return {
        "model": model.config.model_dump(mode="json", exclude_none=True),
        "spec": asdict(model.stored),
        "normalisation": asdict(model.normalisation),
        "constants": model.constants,
        "dtype": model.dtype_name,
    }


def hash_weights(model: Surrogate) -> str:
    """Return the SHA-256 hash of the file of weights that `save` would write.

    Parameters
    ----------
    model : Surrogate
        The model.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    return hashlib.sha256(to_safetensors(cpu_state_dict(model.network))).hexdigest()


def write_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors by name as a safetensors file, in one piece.

    Parameters
    ----------
    weights : mapping of str to Tensor
        The tensors.
    path : Path
        The file to write.
    """
    with atomic_write(path) as beside:
        beside.write_bytes(to_safetensors(weights))


def to_safetensors(weights: Mapping[str, Tensor]) -> bytes:
    """Return tensors by name as the content of a safetensors file: the same bytes for the same tensors.

    Parameters
    ----------
    weights : mapping of str to Tensor
        The tensors.

    Returns
    -------
    bytes
        The content of the file.
    """
    return serialised({name: value.cpu().contiguous() for name, value in weights.items()})
