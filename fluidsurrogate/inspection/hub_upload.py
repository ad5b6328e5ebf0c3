"""Upload a trained model, with a model card, to the Hugging Face Hub."""

from __future__ import annotations

import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import xarray as xr

from fluidsurrogate.auditing.audit import audit as run_audit
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import write_text
from fluidsurrogate.core.paths import HUB_PREFIX
from fluidsurrogate.inspection.model_card import model_card
from fluidsurrogate.models.hub_download import HUB_ADDRESS, OPTIONAL_FILES, explaining_hub_errors
from fluidsurrogate.models.model_files import find_file
from fluidsurrogate.models.saving import save
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.training.history import HISTORY_FILE


def push_to_hub(
    model: Surrogate,
    repository: str,
    scores: xr.Dataset | None = None,
    audit: xr.Dataset | None = None,
    *,
    private: bool = False,
) -> str:
    """Upload a trained model to the Hugging Face Hub, with a model card, in one commit.

    Parameters
    ----------
    model : Surrogate
        The trained model.
    repository : str
        The repository on the Hub, "user/model". It is created if it does not exist.
    scores : Dataset, optional
        For the card, from `fluidsurrogate.compare`. Without them the card shows the lowest validation error, if the
        model was loaded from a folder that holds its curve.csv.
    audit : Dataset, optional
        For the card, from `fluidsurrogate.audit`. By default the model is audited.
    private : bool
        Whether a new repository is private.

    Returns
    -------
    str
        The address of the uploaded model, "hf://user/model@commit".

    Raises
    ------
    UsageError
        If the name of the repository is not valid, if the model cannot be audited, or if the Hub refuses the upload or
        cannot be reached.
    """
    address = f"{HUB_PREFIX}{repository}"
    if not (match := HUB_ADDRESS.fullmatch(address)) or match[2]:
        raise UsageError(f"{repository!r} is no repository on the Hub: name it as user/model")
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    try:
        audit = run_audit(model) if audit is None else audit
    except UsageError as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"cannot audit the model for its card: {reason}; or give audit=fs.audit(model, states=...)"
        ) from None
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save(model, folder)
        curve = None
        if model.folder is not None and (model.folder / HISTORY_FILE).exists():
            # `find_file` refuses links out of the folder, which may be somebody else's.
            shutil.copy(find_file(model.folder, HISTORY_FILE), folder / HISTORY_FILE)
            curve = (folder / HISTORY_FILE).read_text(encoding="utf-8", errors="replace")
        write_text(folder / "README.md", model_card(model, scores, audit, repository=repository, curve=curve))
        with explaining_hub_errors(address):
            api = HfApi(library_name="fluidsurrogate", library_version=version("fluidsurrogate"))
            api.create_repo(repository, private=private, exist_ok=True)
            files = sorted(folder.iterdir())
            operations: list = [CommitOperationAdd(file.name, str(file)) for file in files]
            # Files that belong to earlier weights must not stay beside the new ones.
            stale = [name for name in (*OPTIONAL_FILES, HISTORY_FILE) if not (folder / name).exists()]
            operations += [CommitOperationDelete(name) for name in stale if api.file_exists(repository, name)]
            title = str(model.about.get("name", "a model"))
            commit = api.create_commit(repository, operations, commit_message=f"fluidsurrogate: {title}")
    return f"{address}@{commit.oid}"
