"""The stage `generate`: trajectories from the classical solver, or the user's own dataset."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

from fluidsurrogate.core.distributed import is_main_process
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import write_json
from fluidsurrogate.core.provenance import check_same_provenance
from fluidsurrogate.pipeline.run import DATA, NOTE, Run, recorded_provenance
from fluidsurrogate.pipeline.stage import Provenance, Stage, Tree, register

log = logging.getLogger("fluidsurrogate")


def outputs(tree: Tree) -> tuple[str, ...]:
    """Return the dataset, unless the experiment names one of the user's."""
    data = tree.get("data")
    return () if isinstance(data, dict) and data.get("path") else (DATA,)


def provenance(run: Run, output: str = DATA) -> Provenance:
    """Return what the data depend on; for a user's dataset, what it holds."""
    from fluidsurrogate.data.content_hash import CONTENT
    from fluidsurrogate.simulation.generation import data_provenance

    known = data_provenance(run.experiment)
    if not run.experiment.data.path:
        return known
    elsewhere = {key: value for key, value in known["data"].items() if key != "path"}
    content = run.user_data[CONTENT] if run.content is None else run.content
    return {**known, "data": elsewhere, CONTENT: content}


def make(run: Run, missing: Sequence[str], force: bool) -> None:
    """Generate the data."""
    from fluidsurrogate.simulation.generation import generate_to_zarr

    log.info(f"generate: {run.data_path}")
    generate_to_zarr(run.experiment, run.data_path, force)


def check(run: Run) -> None:
    """Check a dataset that is there: the user's own, or one that may not be resolved well enough."""
    from fluidsurrogate.data.readers import open_data
    from fluidsurrogate.simulation.generation import refuse_unresolved

    if run.experiment.data.path:
        log.info(f"generate: using {run.data_path}")
        require(run)
        return
    with open_data(run.data_path) as data:
        refuse_unresolved(run.experiment, data.attrs.get("resolution_error"))


def require(run: Run) -> None:
    """Check that the data are there and are those of the experiment, before a later stage reads them."""
    path = run.data_path
    if run.experiment.data.path:
        found = run.user_data  # refuses a dataset that is not there
        if is_main_process():
            with suppress(OSError):  # a folder that is only looked at
                write_json(run.out / NOTE, found)
        return
    if not path.exists():
        raise UsageError(f"{path} does not exist yet: fluidsurrogate generate {run.command} makes it")
    check_same_provenance(path, recorded_provenance(path) or {}, provenance(run))


register(
    Stage(
        name="generate",
        summary="trajectories from the classical solver: data.zarr",
        inputs=(),
        kind="data set",
        files=(DATA,),
        outputs=outputs,
        provenance=provenance,
        make=make,
        check=check,
        require=require,
    )
)
