"""Models on the Hugging Face Hub: `fs.load("hf://user/model")` and `model.push_to_hub("user/model")`.

Endpoint, cache, token and offline mode are those of `huggingface_hub`: HF_ENDPOINT, HF_HUB_CACHE, HF_TOKEN,
HF_HUB_OFFLINE. What comes from there is somebody else's and is loaded as any folder is: safetensors and JSON only.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import xarray as xr

from fluidsurrogate.auditing import audit as audited
from fluidsurrogate.errors import UsageError
from fluidsurrogate.model_card import model_card
from fluidsurrogate.modelfiles import CONFIG, WEIGHTS, file_of
from fluidsurrogate.store import write_text
from fluidsurrogate.surrogate import Surrogate

PREFIX = "hf://"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
ADDRESS = re.compile(rf"(?:{PREFIX})?({NAME}/{NAME})(?:@([^@\s]+))?")
OPTIONAL = ("calibration.json",)  # of a model that has one
CURVE = "curve.csv"


def is_address(path: str | Path) -> bool:
    """True of "hf://user/model"."""
    return str(path).startswith(PREFIX)


def fetch(address: str) -> Path:
    """The folder, in the Hub's cache, with the files of "hf://user/model" or "hf://user/model@revision": those that a
    model is made of and no others, all of one commit.

    UsageError where there is no such repository, revision or model, or it is neither cached nor to be reached.
    """
    repository, revision = _parsed(address)
    from huggingface_hub import hf_hub_download  # imported late, as whatever takes its time
    from huggingface_hub.errors import EntryNotFoundError

    def get(name: str, at: str | None) -> Path:
        found = hf_hub_download(
            repository, name, revision=at, library_name="fluidsurrogate", library_version=version("fluidsurrogate")
        )
        return Path(found)

    with _explained(address):
        folder = get(CONFIG, revision).parent
        commit = folder.name  # snapshots/COMMIT: what is pushed meanwhile must not mix with it
        get(WEIGHTS, commit)
        for name in OPTIONAL:
            try:
                get(name, commit)
            except EntryNotFoundError:
                continue
    return folder


def push(
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
    address = f"{PREFIX}{repository}"
    if not (match := ADDRESS.fullmatch(address)) or match[2]:
        raise UsageError(f"{repository!r} is no repository on the Hub: name it as user/model")
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    try:
        audit = audited(model) if audit is None else audit
    except UsageError as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"cannot audit it for the card: {reason}; or give audit=fs.audit(model, states=...)") from None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save(folder)
        curve = None
        if model.folder is not None and (model.folder / CURVE).exists():
            shutil.copy(file_of(model.folder, CURVE), folder / CURVE)  # the folder may be somebody else's
            curve = (folder / CURVE).read_text(encoding="utf-8", errors="replace")
        write_text(folder / "README.md", model_card(model, scores, audit, repository=repository, curve=curve))
        with _explained(address):
            api = HfApi(library_name="fluidsurrogate", library_version=version("fluidsurrogate"))
            api.create_repo(repository, private=private, exist_ok=True)
            files = sorted(folder.iterdir())
            operations: list = [CommitOperationAdd(file.name, str(file)) for file in files]
            # What belongs to weights that were there before must not stay beside these.
            gone = [name for name in (*OPTIONAL, CURVE) if not (folder / name).exists()]
            operations += [CommitOperationDelete(name) for name in gone if api.file_exists(repository, name)]
            about = str(model.about.get("name", "a model"))
            done = api.create_commit(repository, operations, commit_message=f"fluidsurrogate: {about}")
    return f"{address}@{done.oid}"


def _parsed(address: str) -> tuple[str, str | None]:
    match = ADDRESS.fullmatch(str(address))
    if match is None:
        raise UsageError(f"{address} is no address on the Hub: give hf://user/model or hf://user/model@revision")
    return match[1], match[2]


@contextmanager
def _explained(address: str) -> Iterator[None]:
    """Turn whatever the Hub's library raises into one line."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise UsageError(
            f"{address}: its owner gives access on request: ask for it on its page, then `hf auth login`"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UsageError(
            f"{address}: no such repository, or a private one: `hf auth login` where it is yours"
        ) from None
    except errors.RevisionNotFoundError:
        raise UsageError(f"{address}: the repository has no such revision") from None
    except errors.LocalEntryNotFoundError:
        raise UsageError(
            f"{address}: not in the cache, and the Hub cannot be reached (or HF_HUB_OFFLINE is set)"
        ) from None
    except errors.EntryNotFoundError:
        raise UsageError(f"{address} is no model of fluidsurrogate: it has no {CONFIG} or no {WEIGHTS}") from None
    except errors.HFValidationError as error:
        raise UsageError(f"{address}: {str(error).splitlines()[0]}") from None
    except Exception as error:  # of the network: its library raises whatever the libraries under it do
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UsageError(f"{address}: the Hub said no, or cannot be reached: {reason[:200]}") from None
