"""Run the stages of an experiment, so that nothing is done twice and nothing is mixed up."""

from __future__ import annotations

import logging
from pathlib import Path

import fluidsurrogate.pipeline.stages  # noqa: F401 (fills the list of stages)
from fluidsurrogate.core.distributed import is_main_process
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import check_writable
from fluidsurrogate.core.provenance import check_same_provenance
from fluidsurrogate.core.resumable import delete_leftovers
from fluidsurrogate.pipeline.run import Run, recorded_provenance
from fluidsurrogate.pipeline.stage import STAGES, Provenance, Stage, stages_in_order

log = logging.getLogger("fluidsurrogate")
ALL = "run"  # the command that runs every stage


def run_stages(run: Run, name: str, force: bool = False) -> None:
    """Run one stage, or all of them for "run".

    Parameters
    ----------
    run : Run
        The experiment and its folder.
    name : str
        A stage, or "run" for all.
    force : bool
        Make the results again, and those of later stages that are there and so are stale.

    Raises
    ------
    UsageError
        If an input is missing, or a result was made from other inputs.
    """
    stages = stages_in_order()
    if name != stages[0].name:
        run.experiment.refuse_code()  # before hours of work, not after
    first = 0 if name == ALL else stages.index(STAGES[name])
    for number, stage in enumerate(stages[first:]):
        stale = force and any((run.out / output).exists() for output in stage.outputs(run.tree))
        if number == 0 or name == ALL or stale:
            run_stage(run, stage, force)


def run_stage(run: Run, stage: Stage, force: bool = False) -> None:
    """Run one stage: results that are there, made from the same, are left alone; others are refused.

    Parameters
    ----------
    run : Run
        The experiment and its folder.
    stage : Stage
        What to run.
    force : bool
        Make its results again.

    Raises
    ------
    UsageError
        If an input is missing, or a result was made from other inputs and is not to be made again.
    """
    for name in stage.inputs:
        _require(run, STAGES[name])
    missing = [
        output
        for output in stage.outputs(run.tree)
        if not _is_made(run.out / output, stage.provenance(run, output), force)
        or not all((run.out / other).exists() for other in stage.beside)
    ]
    if missing:
        stage.make(run, missing, force)
    elif stage.check is not None:
        stage.check(run)


def score_table(run: Run) -> str:
    """Return the table of scores and the names of the files that a run has made."""
    from fluidsurrogate.data.readers import open_data
    from fluidsurrogate.evaluation.score_tables import summary
    from fluidsurrogate.pipeline.stages.compare import SCORES
    from fluidsurrogate.simulation.resolution import describe_resolution

    with open_data(run.out / SCORES) as scores:
        table = summary(scores).to_string()
    with open_data(run.data_path) as data:
        said = describe_resolution(data.attrs)
    table += f"\n\nresolution of the truth: {said or 'not known'}"
    files = [run.data_path] if run.experiment.data.path else []
    for stage in stages_in_order():
        files += [run.out / output for output in (*stage.outputs(run.tree), *stage.beside)]
    return table + "\n\n" + "\n".join(map(str, files))


def _require(run: Run, stage: Stage) -> None:
    """UsageError if a result of an earlier stage is missing, or was made from other inputs."""
    if stage.require is not None:
        stage.require(run)
        return
    for output in stage.outputs(run.tree):
        path = run.out / output
        if not path.exists():
            raise UsageError(f"{path} does not exist yet: fluidsurrogate {stage.name} {run.command} makes it")
        check_same_provenance(path, recorded_provenance(path) or {}, stage.provenance(run, output))


def _is_made(path: Path, provenance: Provenance, force: bool) -> bool:
    """Whether a result is there, made from these inputs, and not to be made again.

    UsageError if it was made from others, or is to be made and cannot be written.
    """
    if force or not path.exists():
        check_writable(path.parent)
        return False
    check_same_provenance(path, recorded_provenance(path) or {}, provenance)
    if is_main_process():
        delete_leftovers(path)
    log.info(f"{path} is up to date")
    return True
