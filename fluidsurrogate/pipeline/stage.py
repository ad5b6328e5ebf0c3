"""The record of a stage, and the list of all stages.

Command line, `run`, resumption, `--force`, `info`, the remaking of results and the help text derive from this list. A
new stage is one file in `fluidsurrogate/pipeline/stages/`, which calls `register`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fluidsurrogate.pipeline.run import Run

Tree = Mapping[str, Any]  # an experiment as plain data
Provenance = Mapping[str, Any]  # the parts of an experiment that a result depends on

STAGES: dict[str, Stage] = {}


@dataclass(frozen=True)
class Stage:
    """One step of an experiment: what it reads, what it makes, and how.

    Parameters
    ----------
    name : str
        The word of the command line.
    summary : str
        One line of help.
    inputs : tuple of str
        The stages whose results it reads.
    kind : str
        What a result is called: "data set", "model", "forecasts", …
    files : tuple of str
        Patterns of its results in the folder of a run, such as "models/*".
    outputs : callable
        From an experiment as plain data to the results that it asks for, as paths relative to the run's folder.
    provenance : callable
        From a run and one of its outputs to what that result depends on: a result that was made from something else is
        refused.
    make : callable
        Makes the outputs that are missing: `make(run, missing, force)`.
    beside : tuple of str
        Further files that are made along with the outputs.
    check : callable, optional
        Called with the run where nothing is missing.
    require : callable, optional
        Called with the run before a later stage reads the results; by default it is checked that every output exists
        and was made from the same.
    """

    name: str
    summary: str
    inputs: tuple[str, ...]
    kind: str
    files: tuple[str, ...]
    outputs: Callable[[Tree], tuple[str, ...]]
    provenance: Callable[[Run, str], Provenance]
    make: Callable[[Run, Sequence[str], bool], None]
    beside: tuple[str, ...] = ()
    check: Callable[[Run], None] | None = None
    require: Callable[[Run], None] | None = None

    def matches(self, output: str) -> bool:
        """Return whether a path relative to a run's folder is a result of this stage."""
        return any(Path(output).match(pattern) for pattern in self.files)


def register(stage: Stage) -> Stage:
    """Add a stage to the list."""
    STAGES[stage.name] = stage
    return stage


def stages_in_order() -> list[Stage]:
    """Return all stages, each behind those that it reads from."""
    ordered: list[Stage] = []

    def visit(stage: Stage) -> None:
        for name in stage.inputs:
            visit(STAGES[name])
        if stage not in ordered:
            ordered.append(stage)

    for _, stage in sorted(STAGES.items()):
        visit(stage)
    return ordered


def stage_of(output: str) -> Stage | None:
    """Return the stage that makes a result, a path relative to a run's folder; None if no stage does."""
    return next((stage for stage in STAGES.values() if stage.matches(output)), None)
