"""A run: an experiment and the folder of its results."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import read_json
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.core.provenance import parse_json_attribute, provenance_attributes
from fluidsurrogate.core.stores import as_location, exists
from fluidsurrogate.pipeline.stage import Provenance, stage_of
from fluidsurrogate.reporting.record import recorded_in

if TYPE_CHECKING:
    from distributed import Client

    from fluidsurrogate.config.experiment import Experiment

DATA = "data.zarr"
USER_DATA_RECORD = ".data.json"  # the file that records what a user's dataset holds


@final
class Run:
    """One experiment, and the folder of its results.

    Parameters
    ----------
    experiment : Experiment
        The experiment.
    out : str or Path
        The folder of the results.
    command : str
        The arguments of the command line that error messages suggest; by default the experiment's name.
    content : mapping of str to str, optional
        Digests of what the user's own dataset (`data.path`) holds; by default they are computed from the dataset.
    dask : str or distributed.Client, optional
        The Dask cluster that generates the data. By default they are generated here.

    Attributes
    ----------
    experiment : Experiment
        The experiment.
    out : Path
        The folder of the results.
    command : str
        The arguments of the command line that error messages suggest.
    content : mapping of str to str or None
        Digests of what the user's own dataset holds, if they were given.
    dask : str, distributed.Client or None
        The Dask cluster that generates the data.
    """

    def __init__(
        self,
        experiment: Experiment,
        out: str | Path,
        command: str = "",
        content: Mapping[str, str] | None = None,
        dask: str | Client | None = None,
    ) -> None:
        self.experiment, self.out, self.content = experiment, as_path(out), content
        self.command, self.dask = command or experiment.name, dask

    @cached_property
    def tree(self) -> dict[str, Any]:
        """The experiment as plain data."""
        return self.experiment.tree()

    @property
    def data_path(self) -> str | Path:
        """The dataset: the user's own (`data.path`), a path or an address, or the one that `generate` makes."""
        return as_location(self.experiment.data.path) if self.experiment.data.path else self.out / DATA

    @cached_property
    def user_data(self) -> dict[str, Any]:
        """The record of the user's own dataset (`data.path`), made once a run: see `content_hash.own_content`."""
        from fluidsurrogate.data.content_hash import hash_user_data

        if not exists(self.data_path):
            raise UsageError(
                f"{self.data_path}: no such dataset (data.path in a file is relative to the folder of the file)"
            )
        spec = self.experiment.spec
        return hash_user_data(
            self.data_path, [field.name for field in spec.fields + spec.inputs], self.out / USER_DATA_RECORD
        )

    def model_path(self, name: str) -> Path:
        """Return the folder of a model.

        Parameters
        ----------
        name : str
            The name of the model.

        Returns
        -------
        Path
            The folder.
        """
        return self.out / "models" / name

    def provenance(self, output: str) -> Provenance:
        """Return what a result depends on.

        Parameters
        ----------
        output : str
            The path of the result, relative to the folder of the run.

        Returns
        -------
        mapping
            The parts of the experiment that the result depends on.
        """
        stage = stage_of(output)
        assert stage is not None, output
        return stage.provenance(self, output)

    def stamp(self, output: str) -> dict[str, Any]:
        """Return the attributes of a result that say what it was made from.

        Parameters
        ----------
        output : str
            The path of the result, relative to the folder of the run.

        Returns
        -------
        dict
            Experiment, provenance, fingerprint, seed and versions.
        """
        return provenance_attributes(self.tree, self.provenance(output))


def recorded_provenance(path: Path) -> dict[str, Any] | None:
    """Read from a result what it was made from.

    Parameters
    ----------
    path : Path
        A dataset, a report or the folder of a model.

    Returns
    -------
    dict or None
        The recorded provenance; None if there is no such record.
    """
    if path.suffix in (".nc", ".zarr"):
        from fluidsurrogate.data.readers import open_data

        with open_data(path) as dataset:
            return parse_json_attribute(dataset.attrs.get("provenance"))
    if path.suffix == ".html":
        return parse_json_attribute((recorded_in(path) or {}).get("provenance"))
    metadata = read_json(path / "config.json")
    about = metadata.get("about") if isinstance(metadata, dict) else None
    return parse_json_attribute(about.get("provenance")) if isinstance(about, dict) else None
