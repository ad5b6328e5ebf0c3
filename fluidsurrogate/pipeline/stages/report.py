"""The stage `report`: everything that a run has found, as one HTML page."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fluidsurrogate.pipeline.run import Run
from fluidsurrogate.pipeline.stage import Provenance, Stage, Tree, register
from fluidsurrogate.pipeline.stages.compare import SCORES
from fluidsurrogate.reporting.record import REPORT

log = logging.getLogger("fluidsurrogate")


def outputs(tree: Tree) -> tuple[str, ...]:
    """Return the name of the page."""
    return (REPORT,)


def provenance(run: Run, output: str) -> Provenance:
    """Return what the page depends on."""
    return {"scores": run.provenance(SCORES)}


def make(run: Run, missing: Sequence[str], force: bool) -> None:
    """Write the page."""
    from fluidsurrogate.reporting.report import report

    log.info(f"report: {run.out / REPORT}")
    report(run.out, run.out / REPORT)


register(
    Stage(
        name="report",
        summary="show all that was found on one HTML page: report.html; or that of finished runs, side by side",
        inputs=("compare",),
        kind="report",
        files=(REPORT,),
        outputs=outputs,
        provenance=provenance,
        make=make,
    )
)
