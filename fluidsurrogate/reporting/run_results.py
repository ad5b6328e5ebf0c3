"""What the folder of a run holds: scores, data, models, audits and the attributes that say how they were made."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import xarray as xr

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.provenance import parse_json_attribute
from fluidsurrogate.core.resumable import is_leftover
from fluidsurrogate.data.readers import open_data
from fluidsurrogate.evaluation.comparison import PERSISTENCE, TRUTH
from fluidsurrogate.models.model_files import CONFIG_FILE, ModelMetadata, read_metadata
from fluidsurrogate.training.history import HISTORY_FILE

DATA, MODELS, FORECASTS, SCORES, AUDIT = "data.zarr", "models", "forecasts.nc", "scores.nc", "audit.nc"

# What a page shows of scores in any case; `fluidsurrogate.compare` always gives these.
NEEDED = (
    "nrmse", "nrmse_spread", "nrmse_first_step", "nrmse_mean", "correlation", "correlation_spread", "energy",
    "enstrophy", "energy_spectrum", "correlation_time_median", "correlation_time_median_censored",
)  # fmt: skip


@dataclass(frozen=True)
class ModelResults:
    """What the folder of a trained model holds.

    Parameters
    ----------
    metadata : ModelMetadata
        Its config.json.
    history : list of dict
        A row for each validation of the training; empty if it is not recorded.
    audit : xr.Dataset, optional
        Its symmetry audit.
    """

    metadata: ModelMetadata
    history: list[dict[str, float]]
    audit: xr.Dataset | None = None


@dataclass(frozen=True)
class RunResults:
    """What the folder of a run holds; a result that is missing is None or empty.

    Parameters
    ----------
    folder : Path
        The folder.
    record : mapping
        Attributes of the last result that was made: experiment, provenance, versions and fingerprint.
    data : xr.Dataset, optional
        The dataset, opened lazily.
    scores : xr.Dataset, optional
        The scores.
    forecasts : xr.Dataset, optional
        The forecasts of all sources, opened lazily.
    models : dict of str to ModelResults
        The trained models by name.
    """

    folder: Path
    record: Mapping[Any, Any]
    data: xr.Dataset | None = None
    scores: xr.Dataset | None = None
    forecasts: xr.Dataset | None = None
    models: dict[str, ModelResults] = field(default_factory=dict)

    @property
    def experiment(self) -> dict[str, Any]:
        """The recorded experiment as plain data; empty if it is not recorded."""
        return parse_json_attribute(self.record.get("experiment")) or {}

    @property
    def name(self) -> str:
        """The name of the experiment, or that of the folder."""
        return str(self.experiment.get("name", self.folder.resolve().name))

    @property
    def sources(self) -> list[str]:
        """The sources of the forecasts in the order of the scores."""
        return [] if self.scores is None else [str(name) for name in self.scores["source"].values]

    def kind_of(self, source: str) -> str:
        """Return what a source is.

        Parameters
        ----------
        source : str
            A source of the scores.

        Returns
        -------
        str
            "truth", "persistence", "model" or "solver".
        """
        if source in (TRUTH, PERSISTENCE):
            return source
        names = {*self.models, *self.experiment.get("models", {})}
        return "model" if source in names or not source.startswith("solver") else "solver"


def read_run(folder: Path) -> RunResults:
    """Read what the folder of a run holds. Nothing in it is executed.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    RunResults
        Fields are opened lazily; scores and audits are in memory.

    Raises
    ------
    UsageError
        If the folder holds no result of a run, or one that cannot be read.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder of a run")
    of_models = [path.parent for path in sorted(folder.glob(f"{MODELS}/*/{CONFIG_FILE}"))]
    models = {path.name: _read_model(path) for path in of_models if not is_leftover(path)}
    found = {
        name.partition(".")[0]: open_data(folder / name)
        for name in (DATA, FORECASTS, SCORES)
        if (folder / name).exists()
    }
    if not found and not models:
        raise UsageError(f"{folder} is no run: it has none of {DATA}, {MODELS}, {FORECASTS} and {SCORES}")
    if "scores" in found:
        with found["scores"] as scores:
            found["scores"] = scores.load()
        if missing := [name for name in NEEDED if "source" not in getattr(scores.get(name), "dims", ())]:
            raise UsageError(f"{folder / SCORES} has no {missing[0]} by source: it is not a table of scores")
    if "forecasts" in found and TRUTH not in found["forecasts"].coords.get("source", ()):
        raise UsageError(f"{folder / FORECASTS} has no source {TRUTH!r}: it does not hold the forecasts of a run")
    records: list[Mapping[Any, Any]] = [
        *(found[key].attrs for key in ("scores", "forecasts") if key in found),
        *(model.metadata.about for model in models.values()),
        *(found[key].attrs for key in ("data",) if key in found),
    ]
    record = next((attrs for attrs in records if "experiment" in attrs), {})
    run = RunResults(folder, record, models=models, **found)
    order = list(run.experiment.get("models", {}))
    ranks = {name: order.index(name) if name in order else len(order) for name in models}
    return replace(run, models=dict(sorted(models.items(), key=lambda item: ranks[item[0]])))


def _read_model(folder: Path) -> ModelResults:
    """Read the folder of a trained model."""
    audit = None
    if (folder / AUDIT).exists():
        with open_data(folder / AUDIT) as opened:
            audit = opened.load()
    return ModelResults(read_metadata(folder), _read_history(folder / HISTORY_FILE), audit)


def _read_history(path: Path) -> list[dict[str, float]]:
    """Read the history of a training; empty if there is none, or another file has its name."""
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        history = [{key: float(value) for key, value in row.items()} for row in rows]
    except (OSError, TypeError, ValueError):
        return []
    return [row for row in history if math.isfinite(row.get("step", math.nan)) and "valid_nrmse" in row]
