"""Upload a trained model to the Hugging Face Hub, with a model card."""

from __future__ import annotations

import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import xarray as xr

from fluidsurrogate.auditing.audit import audit as audited
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.storage import write_text
from fluidsurrogate.inspection.model_card import model_card
from fluidsurrogate.models.hub_download import HUB_ADDRESS, HUB_PREFIX, OPTIONAL_FILES, explaining_hub_errors
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
    """Save a model to the Hub in one commit, with a card; its address, "hf://user/model@commit".

    `scores` are `fs.compare`'s (without them the card shows the validation error, where the model was loaded from a
    folder that holds its curve.csv), `audit` is `fs.audit`'s, which is run unless it is given. A repository that is
    not there is made, `private` or public. UsageError where the Hub refuses or cannot be reached.
    """
    address = f"{HUB_PREFIX}{repository}"
    if not (match := HUB_ADDRESS.fullmatch(address)) or match[2]:
        raise UsageError(f"{repository!r} is no repository on the Hub: name it as user/model")
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    try:
        audit = audited(model) if audit is None else audit
    except UsageError as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"cannot audit it for the card: {reason}; or give audit=fs.audit(model, states=...)") from None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(model, folder)
        curve = None
        if model.folder is not None and (model.folder / HISTORY_FILE).exists():
            shutil.copy(
                find_file(model.folder, HISTORY_FILE), folder / HISTORY_FILE
            )  # the folder may be somebody else's
            curve = (folder / HISTORY_FILE).read_text(encoding="utf-8", errors="replace")
        write_text(folder / "README.md", model_card(model, scores, audit, repository=repository, curve=curve))
        with explaining_hub_errors(address):
            api = HfApi(library_name="fluidsurrogate", library_version=version("fluidsurrogate"))
            api.create_repo(repository, private=private, exist_ok=True)
            files = sorted(folder.iterdir())
            operations: list = [CommitOperationAdd(file.name, str(file)) for file in files]
            # What belongs to weights that were there before must not stay beside these.
            gone = [name for name in (*OPTIONAL_FILES, HISTORY_FILE) if not (folder / name).exists()]
            operations += [CommitOperationDelete(name) for name in gone if api.file_exists(repository, name)]
            about = str(model.about.get("name", "a model"))
            done = api.create_commit(repository, operations, commit_message=f"fluidsurrogate: {about}")
    return f"{address}@{done.oid}"
