"""The stage `generate`: trajectories from the classical solver, or the check of the user's own dataset."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

from fluidsurrogate.core.distributed import is_main_process
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import write_json
from fluidsurrogate.core.provenance import check_same_provenance
from fluidsurrogate.pipeline.run import DATA, USER_DATA_RECORD, Run, recorded_provenance
from fluidsurrogate.pipeline.stage import Provenance, Stage, Tree, register

log = logging.getLogger("fluidsurrogate")


def outputs(tree: Tree) -> tuple[str, ...]:
    """Return the name of the dataset; nothing if the experiment uses the user's own (`data.path`)."""
    data = tree.get("data")
    return () if isinstance(data, dict) and data.get("path") else (DATA,)


def provenance(run: Run, output: str = DATA) -> Provenance:
    """Return what the data depend on; for the user's own dataset, digests of what it holds."""
    from fluidsurrogate.data.content_hash import CONTENT
    from fluidsurrogate.simulation.generation import data_provenance

    known = data_provenance(run.experiment)
    if not run.experiment.data.path:
        return known
    without_path = {key: value for key, value in known["data"].items() if key != "path"}
    content = run.user_data[CONTENT] if run.content is None else run.content
    return {**known, "data": without_path, CONTENT: content}


def make(run: Run, missing: Sequence[str], force: bool) -> None:
    """Generate the data."""
    log.info(f"generate: {run.data_path}")
    if run.dask is not None:
        from fluidsurrogate.simulation.cluster_generation import generate_on_cluster

        generate_on_cluster(run.experiment, run.out / DATA, run.dask, force)
    else:
        from fluidsurrogate.simulation.generation import generate_to_zarr

        generate_to_zarr(run.experiment, run.out / DATA, force)


def check_existing(run: Run) -> None:
    """Check an existing dataset: that the user's own can be used, or that generated data are resolved well enough."""
    from fluidsurrogate.data.readers import open_data
    from fluidsurrogate.pipeline.user_data_check import checked_user_data
    from fluidsurrogate.simulation.generation import check_resolution

    if run.experiment.data.path:
        from fluidsurrogate.simulation.experiment_data import open_experiment_data
        from fluidsurrogate.simulation.user_data import check_lengths

        log.info(f"generate: using {run.data_path}")
        check_before_use(run)
        for line in checked_user_data(run)["lines"]:
            log.info(f"  {line}")
        with open_experiment_data(run.experiment, run.data_path) as data:
            check_lengths(run.experiment, data, str(run.data_path))
        return
    with open_data(run.data_path) as data:
        check_resolution(run.experiment, data.attrs.get("resolution_error"))


def check_before_use(run: Run) -> None:
    """Check that the data exist and belong to the experiment, before a later stage reads them."""
    path = run.out / DATA
    if run.experiment.data.path:
        record = run.user_data  # raises UsageError if there is no such dataset
        if is_main_process():
            with suppress(OSError):  # the folder may be read-only
                write_json(run.out / USER_DATA_RECORD, record)
        return
    if not path.exists():
        raise UsageError(f"{path} does not exist yet; first run: fluidsurrogate generate {run.command}")
    check_same_provenance(path, recorded_provenance(path) or {}, provenance(run))


register(
    Stage(
        name="generate",
        summary="generate trajectories with the classical solver: data.zarr",
        inputs=(),
        kind="data set",
        files=(DATA,),
        outputs=outputs,
        provenance=provenance,
        make=make,
        check_existing=check_existing,
        check_before_use=check_before_use,
    )
)
