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
from fluidsurrogate.models.model_files import CONFIG, WEIGHTS

PREFIX = "hf://"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
ADDRESS = re.compile(rf"(?:{PREFIX})?({NAME}/{NAME})(?:@([^@\s]+))?")
OPTIONAL = ("calibration.json",)  # of a model that has one


def is_address(path: str | Path) -> bool:
    """True of "hf://user/model"."""
    return str(path).startswith(PREFIX)


def fetch(address: str) -> Path:
    """The folder, in the Hub's cache, with the files of "hf://user/model" or "hf://user/model@revision": those that a
    model is made of and no others, all of one commit.

    UsageError where there is no such repository, revision or model, or it is neither cached nor to be reached.
    """
    repository, revision = _parse_address(address)
    from huggingface_hub import hf_hub_download  # imported late, as whatever takes its time
    from huggingface_hub.errors import EntryNotFoundError

    def get(name: str, at: str | None) -> Path:
        found = hf_hub_download(
            repository, name, revision=at, library_name="fluidsurrogate", library_version=version("fluidsurrogate")
        )
        return Path(found)

    with explaining_hub_errors(address):
        folder = get(CONFIG, revision).parent
        commit = folder.name  # snapshots/COMMIT: what is pushed meanwhile must not mix with it
        get(WEIGHTS, commit)
        for name in OPTIONAL:
            try:
                get(name, commit)
            except EntryNotFoundError:
                continue
    return folder


def _parse_address(address: str) -> tuple[str, str | None]:
    match = ADDRESS.fullmatch(str(address))
    if match is None:
        raise UsageError(f"{address} is no address on the Hub: give hf://user/model or hf://user/model@revision")
    return match[1], match[2]


@contextmanager
def explaining_hub_errors(address: str) -> Iterator[None]:
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
