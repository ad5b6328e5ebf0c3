"""An experiment and the folder that its results go to."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import read_json
from fluidsurrogate.core.paths import as_path
from fluidsurrogate.core.provenance import parse_json_attribute, provenance_attributes
from fluidsurrogate.pipeline.stage import Provenance, stage_of

if TYPE_CHECKING:
    from fluidsurrogate.config.experiment import Experiment

DATA = "data.zarr"
NOTE = ".data.json"  # what is known of a user's dataset


@final
class Run:
    """One experiment, and the folder of its results.

    Parameters
    ----------
    experiment : Experiment
        What is to be made.
    out : str or Path
        The folder of the results.
    command : str
        How messages name the experiment in a command line; by default its name.
    content : mapping of str to str, optional
        What a dataset of the user's (`data.path`) holds, where it is not to be read.
    """

    def __init__(
        self, experiment: Experiment, out: str | Path, command: str = "", content: Mapping[str, str] | None = None
    ) -> None:
        self.experiment, self.out, self.content = experiment, as_path(out), content
        self.command = command or experiment.name

    @cached_property
    def tree(self) -> dict[str, Any]:
        """The experiment as plain data."""
        return self.experiment.tree()

    @property
    def data_path(self) -> Path:
        """The trajectories: the user's own (`data.path`), or those that `generate` makes."""
        return as_path(self.experiment.data.path) if self.experiment.data.path else self.out / DATA

    @cached_property
    def user_data(self) -> dict[str, Any]:
        """What is known of a user's dataset (`data.path`), read once a run: see `content_hash.hash_user_data`."""
        from fluidsurrogate.data.content_hash import hash_user_data

        if not self.data_path.exists():
            raise UsageError(f"{self.data_path}: no such dataset (data.path; in a file, relative to the file's folder)")
        spec = self.experiment.spec
        return hash_user_data(self.data_path, [field.name for field in spec.fields + spec.inputs], self.out / NOTE)

    def model_path(self, name: str) -> Path:
        """Return the folder of a model."""
        return self.out / "models" / name

    def provenance(self, output: str) -> Provenance:
        """Return what a result depends on; `output` is its path relative to the run's folder."""
        stage = stage_of(output)
        assert stage is not None, output
        return stage.provenance(self, output)

    def stamp(self, output: str) -> dict[str, Any]:
        """Return the attributes that say what a result was made from."""
        return provenance_attributes(self.tree, self.provenance(output))


def recorded_provenance(path: Path) -> dict[str, Any] | None:
    """Return what a result, dataset or model, says that it was made from; None if it does not say."""
    if path.suffix in (".nc", ".zarr"):
        from fluidsurrogate.data.readers import open_data

        with open_data(path) as dataset:
            return parse_json_attribute(dataset.attrs.get("provenance"))
    metadata = read_json(path / "config.json")
    about = metadata.get("about") if isinstance(metadata, dict) else None
    return parse_json_attribute(about.get("provenance")) if isinstance(about, dict) else None
