"""Download models from the Hugging Face Hub: `fs.load("hf://user/model")`.

Endpoint, cache, token and offline mode are those of `huggingface_hub`: HF_ENDPOINT, HF_HUB_CACHE, HF_TOKEN and
HF_HUB_OFFLINE. A downloaded model is loaded as any folder is: from safetensors and JSON files only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.paths import HUB_PREFIX
from fluidsurrogate.models.model_files import CONFIG_FILE, WEIGHTS_FILE

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
HUB_ADDRESS = re.compile(rf"(?:{HUB_PREFIX})?({NAME}/{NAME})(?:@([^@\s]+))?")
OPTIONAL_FILES = ("calibration.json",)  # downloaded if the model has them


def download_model(address: str) -> Path:
    """Download a model into the Hub's cache: the files that a model consists of and no others, all of one commit.

    Parameters
    ----------
    address : str
        An address of the form "hf://user/model" or "hf://user/model@revision".

    Returns
    -------
    Path
        The folder in the cache.

    Raises
    ------
    UsageError
        If there is no such repository, revision or model, or the model is not in the cache and the Hub cannot be
        reached.
    """
    repository, revision = _parse_address(address)
    from huggingface_hub import hf_hub_download  # imported late, because the import is slow
    from huggingface_hub.errors import EntryNotFoundError

    def get(name: str, at: str | None) -> Path:
        found = hf_hub_download(
            repository, name, revision=at, library_name="fluidsurrogate", library_version=version("fluidsurrogate")
        )
        return Path(found)

    with explaining_hub_errors(address):
        folder = get(CONFIG_FILE, revision).parent
        commit = folder.name  # snapshots/COMMIT: what is pushed meanwhile must not mix with it
        get(WEIGHTS_FILE, commit)
        for name in OPTIONAL_FILES:
            try:
                get(name, commit)
            except EntryNotFoundError:
                continue
    return folder


def _parse_address(address: str) -> tuple[str, str | None]:
    """Split an address into repository and revision; raise UsageError if it is not an address."""
    match = HUB_ADDRESS.fullmatch(str(address))
    if match is None:
        raise UsageError(f"{address} is not an address on the Hub: give hf://user/model or hf://user/model@revision")
    return match[1], match[2]


@contextmanager
def explaining_hub_errors(address: str) -> Iterator[None]:
    """Turn every error of the Hub's library into a `UsageError` of one line.

    Parameters
    ----------
    address : str
        The address of the model, for the message.

    Yields
    ------
    None
        The block runs once, with its errors explained.

    Raises
    ------
    UsageError
        If the block raises any error.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise UsageError(
            f"{address}: its owner gives access on request: ask for it on the model's page, then run `hf auth login`"
        ) from None
    except errors.RepositoryNotFoundError:
        raise UsageError(
            f"{address}: no such repository, or a private one: check the name, or run `hf auth login` if it is yours"
        ) from None
    except errors.RevisionNotFoundError:
        raise UsageError(f"{address}: the repository has no such revision") from None
    except errors.LocalEntryNotFoundError:
        raise UsageError(
            f"{address}: not in the cache, and the Hub cannot be reached (or HF_HUB_OFFLINE is set)"
        ) from None
    except errors.EntryNotFoundError:
        raise UsageError(
            f"{address} is not a model of fluidsurrogate: it has no {CONFIG_FILE} or no {WEIGHTS_FILE}"
        ) from None
    except errors.HFValidationError as error:
        raise UsageError(f"{address}: {str(error).splitlines()[0]}") from None
    except Exception as error:  # of the network: the Hub's library raises whatever the libraries under it raise
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UsageError(f"{address}: the Hub refused the request, or cannot be reached: {reason[:200]}") from None
