"""The record of a stage, and the registry of all stages.

The command line, its help, `run`, resumption, `--force`, `info` and the remaking of results derive from this registry.
A new stage is one file in `fluidsurrogate/pipeline/stages/` that calls `register`.
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
    """One stage of an experiment: what it reads, what it makes, and how.

    Parameters
    ----------
    name : str
        The name of its command.
    summary : str
        One line of help.
    inputs : tuple of str
        The stages whose results it reads.
    kind : str
        What a result is called, such as "data set", "model" or "forecasts".
    files : tuple of str
        Patterns of its results in the folder of a run, such as "models/*".
    outputs : callable
        Function (tree) → paths of the results that an experiment (as plain data) asks for, relative to the run's
        folder.
    provenance : callable
        Function (run, output) → what this result depends on. A result that was made from something else is refused.
    make : callable
        Function (run, missing, force) that makes the outputs that are missing.
    extra_files : callable
        Function (tree) → further files that are made along with the outputs.
    check_existing : callable, optional
        Function (run) that is called if no output is missing.
    check_before_use : callable, optional
        Function (run) that is called before a later stage reads the results. By default every output must exist and
        must have been made from the same inputs.
    report : callable, optional
        Function (run) → a text that the command prints when the stage, or the whole run, is done.
    """

    name: str
    summary: str
    inputs: tuple[str, ...]
    kind: str
    files: tuple[str, ...]
    outputs: Callable[[Tree], tuple[str, ...]]
    provenance: Callable[[Run, str], Provenance]
    make: Callable[[Run, Sequence[str], bool], None]
    extra_files: Callable[[Tree], tuple[str, ...]] = lambda tree: ()
    check_existing: Callable[[Run], None] | None = None
    check_before_use: Callable[[Run], None] | None = None
    report: Callable[[Run], str] | None = None

    def matches(self, output: str) -> bool:
        """Return whether a path is a result of this stage.

        Parameters
        ----------
        output : str
            A path relative to the folder of a run.

        Returns
        -------
        bool
            True if it matches one of the patterns.
        """
        return any(Path(output).match(pattern) for pattern in self.files)


def register(stage: Stage) -> Stage:
    """Register a stage.

    Parameters
    ----------
    stage : Stage
        The stage.

    Returns
    -------
    Stage
        The same stage.
    """
    STAGES[stage.name] = stage
    return stage


def stages_in_order() -> list[Stage]:
    """Return all stages, each after those whose results it reads.

    Returns
    -------
    list of Stage
        The stages.
    """
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
    """Find the stage that makes a result.

    Parameters
    ----------
    output : str
        The path of the result, relative to the folder of a run.

    Returns
    -------
    Stage or None
        The stage; None if no stage makes it.
    """
    return next((stage for stage in STAGES.values() if stage.matches(output)), None)
