"""The pretrained models in this package, and the folder of any model: `model_folder("pretrained:decaying-2d")`."""

from __future__ import annotations

from pathlib import Path

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.paths import PRETRAINED_PREFIX, as_path, is_model_address
from fluidsurrogate.models.hub_download import download_model
from fluidsurrogate.models.model_files import CONFIG_FILE

PRETRAINED = Path(__file__).parents[1] / "pretrained_models"  # "pretrained" is a function of the package


def pretrained_names() -> list[str]:
    """Return the names of the pretrained models in this package.

    Returns
    -------
    list of str
        In alphabetical order.
    """
    return sorted(path.parent.name for path in PRETRAINED.glob(f"*/{CONFIG_FILE}"))


def model_folder(path: str | Path) -> Path:
    """Return the folder of a model that a user names.

    Parameters
    ----------
    path : str or Path
        A folder, "pretrained:NAME" for a model within this package, or "hf://user/model", which is downloaded.

    Returns
    -------
    Path
        The folder. Whether it holds a model is found out when this is read.

    Raises
    ------
    UsageError
        If there is no such pretrained model, or the Hub has no such model or cannot be reached.
    """
    if not isinstance(path, str) or not is_model_address(path):
        return as_path(path)
    if not path.startswith(PRETRAINED_PREFIX):
        return download_model(path)
    name, names = path.removeprefix(PRETRAINED_PREFIX), pretrained_names()
    if name not in names:
        raise UsageError(f"no pretrained model {name!r}; there are {', '.join(names)}")
    return PRETRAINED / name
