"""Run the stages of an experiment: finished results are reused, and results from other inputs are refused."""

from __future__ import annotations

import logging
from pathlib import Path

import fluidsurrogate.pipeline.stages  # noqa: F401 (fills the list of stages)
from fluidsurrogate.config.user_modules import check_code_permission
from fluidsurrogate.core.distributed import is_main_process
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import check_writable
from fluidsurrogate.core.provenance import check_same_provenance
from fluidsurrogate.core.resumable import delete_leftovers
from fluidsurrogate.core.stores import exists
from fluidsurrogate.pipeline.run import Run, recorded_provenance
from fluidsurrogate.pipeline.stage import STAGES, Provenance, Stage, stages_in_order

log = logging.getLogger("fluidsurrogate")
RUN_ALL = "run"  # the command that runs every stage


def run_stages(run: Run, name: str, force: bool = False) -> None:
    """Run one stage, or all of them for "run".

    Parameters
    ----------
    run : Run
        The experiment and its folder.
    name : str
        The name of a stage, or "run" for all.
    force : bool
        Make the results again, and also existing results of later stages, which are then out of date.

    Raises
    ------
    UsageError
        If an input is missing, or a result was made from other inputs.
    """
    stages = stages_in_order()
    if name != stages[0].name:
        check_code_permission(run.experiment)  # before hours of work, not after
    first = 0 if name == RUN_ALL else stages.index(STAGES[name])
    for number, stage in enumerate(stages[first:]):
        stale = force and any((run.out / output).exists() for output in stage.outputs(run.tree))
        if number == 0 or name == RUN_ALL or stale:
            run_stage(run, stage, force)


def run_stage(run: Run, stage: Stage, force: bool = False) -> None:
    """Run one stage: make the results that are missing, and refuse those that were made from other inputs.

    Parameters
    ----------
    run : Run
        The experiment and its folder.
    stage : Stage
        The stage.
    force : bool
        Make all its results again.

    Raises
    ------
    UsageError
        If an input is missing, or a result was made from other inputs and `force` is false.
    """
    for name in stage.inputs:
        _check_results(run, STAGES[name])
    missing = [
        output
        for output in stage.outputs(run.tree)
        if not _is_up_to_date(run.out / output, stage.provenance(run, output), force)
        or not all((run.out / other).exists() for other in stage.extra_files(run.tree))
    ]
    if missing:
        stage.make(run, missing, force)
    elif stage.check_existing is not None:
        stage.check_existing(run)


def reports(run: Run, name: str) -> str:
    """Return what the stages of a command have to report, followed by the files that a run has made.

    Parameters
    ----------
    run : Run
        The experiment and its folder.
    name : str
        A stage that is done, or "run" for all.

    Returns
    -------
    str
        Empty if no stage of the command has anything to report.
    """
    stages = stages_in_order() if name == RUN_ALL else [STAGES[name]]
    texts = [stage.report(run) for stage in stages if stage.report is not None]
    if not texts:
        return ""
    files: list[str | Path] = [run.data_path] if run.experiment.data.path else []
    for stage in stages_in_order():
        files += [run.out / output for output in (*stage.outputs(run.tree), *stage.extra_files(run.tree))]
    return "\n\n".join([*texts, "\n".join(str(path) for path in files if exists(path))])


def _check_results(run: Run, stage: Stage) -> None:
    """Check that the results of an earlier stage are there and were made from this experiment; else UsageError."""
    if stage.check_before_use is not None:
        stage.check_before_use(run)
        return
    for output in stage.outputs(run.tree):
        path = run.out / output
        if not path.exists():
            raise UsageError(f"{path} does not exist yet; first run: fluidsurrogate {stage.name} {run.command}")
        check_same_provenance(path, recorded_provenance(path) or {}, stage.provenance(run, output))


def _is_up_to_date(path: Path, provenance: Provenance, force: bool) -> bool:
    """Return whether a result exists, was made from these inputs, and is not to be made again.

    Raises UsageError if it was made from other inputs, or is to be made in a folder that cannot be written.
    """
    if force or not path.exists():
        check_writable(path.parent)
        return False
    check_same_provenance(path, recorded_provenance(path) or {}, provenance)
    if is_main_process():
        delete_leftovers(path)
    log.info(f"{path} is up to date")
    return True
