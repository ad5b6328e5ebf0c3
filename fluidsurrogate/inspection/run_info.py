"""Describe the folder of a run: finished results, interrupted ones, and those still to be made."""

from __future__ import annotations

from pathlib import Path

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import read_json
from fluidsurrogate.inspection.dataset_info import dataset_info
from fluidsurrogate.inspection.description import Description, size_on_disk
from fluidsurrogate.inspection.model_info import model_info
from fluidsurrogate.inspection.reproducibility import reproducibility
from fluidsurrogate.pipeline.stage import stage_of, stages_in_order
from fluidsurrogate.reporting.record import recorded_in

PARTIAL = ".partial"  # how the name of an interrupted result ends


def run_info(folder: Path) -> Description:
    """Describe the folder of a run.

    Parameters
    ----------
    folder : Path
        The folder into which stages write their results.

    Returns
    -------
    dict
        As `fluidsurrogate.info` returns it for a run.
    """
    results, interrupted = [], []
    for entry in results_in(folder):
        if not entry.exists():
            continue
        if entry.name.endswith(PARTIAL):
            interrupted.append(partial_info(entry))
            continue
        try:
            results.append(result_info(entry))
        except UsageError as error:
            results.append({"kind": "broken", "path": str(entry), "reason": str(error)})
    tree: Description = next((r["made"]["experiment"] for r in results if "experiment" in r.get("made", {})), {})
    wanted = [folder / output for stage in stages_in_order() for output in stage.outputs(tree)]
    found: Description = {
        "kind": "run",
        "path": str(folder),
        "bytes": size_on_disk(folder),
        "name": tree.get("name", folder.name),
        "results": results,
        "half_made": interrupted,
        "to_make": [str(path) for path in wanted if not path.exists()],
    }
    if own_data := tree.get("data", {}).get("path"):
        found["data"] = own_data
    return found


def result_info(path: Path) -> Description:
    """Describe a finished result in the folder of a run.

    Parameters
    ----------
    path : Path
        A dataset, the folder of a model, or a report.

    Returns
    -------
    dict
        As `fluidsurrogate.info` returns it.

    Raises
    ------
    UsageError
        If it cannot be read.
    """
    if path.suffix == ".html":
        return report_info(path)
    return model_info(path) if path.parent.name == "models" else dataset_info(path)


def report_info(path: Path) -> Description:
    """Describe a report.

    Parameters
    ----------
    path : Path
        An HTML file.

    Returns
    -------
    dict
        As `fluidsurrogate.info` returns it for a report.

    Raises
    ------
    UsageError
        If it does not record what it was made from.
    """
    record = recorded_in(path)
    if record is None:
        raise UsageError(f"{path} does not record from which run it was made")
    return {
        "kind": "report",
        "path": str(path),
        "bytes": size_on_disk(path),
        "made": reproducibility(record, "report"),
    }


def partial_info(folder: Path) -> Description:
    """Describe the folder that an interrupted stage has left.

    Parameters
    ----------
    folder : Path
        A folder with the name of a result and the ending ".partial".

    Returns
    -------
    dict
        As `fluidsurrogate.info` returns it for an interrupted result.

    Raises
    ------
    UsageError
        If its progress or provenance file is not valid JSON.
    """
    name, progress = folder.name.removesuffix(PARTIAL), read_json(folder / "progress.json")
    provenance = read_json(folder / "provenance.json")
    known = provenance if isinstance(provenance, dict) else {}
    if stage := stage_of(name):
        stage_name = stage.name
    elif "stepper" in known:  # a forecast by `rollout_to_zarr`
        stage_name = "rollout"
    else:
        stage_name = "train" if "model" in known else "generate"
    found: Description = {
        "kind": "half made",
        "path": str(folder),
        "bytes": size_on_disk(folder),
        "of": name,
        "stage": stage_name,
    }
    return found | ({"blocks": progress["blocks"]} if isinstance(progress, dict) and "blocks" in progress else {})


def result_patterns() -> list[str]:
    """Return the patterns of the results that stages write.

    Returns
    -------
    list of str
        Such as "data.zarr" and "models/*", relative to the folder of a run.
    """
    return [pattern for stage in stages_in_order() for pattern in stage.files]


def results_in(folder: Path) -> list[Path]:
    """Return the results in the folder of a run, finished and interrupted.

    Parameters
    ----------
    folder : Path
        The folder of a run.

    Returns
    -------
    list of Path
        The finished ones in the order of the stages, then the interrupted ones.
    """
    patterns = result_patterns()
    finished = [path for pattern in patterns for path in sorted(folder.glob(pattern)) if not path.name.startswith(".")]
    interrupted = [path for pattern in patterns for path in sorted(folder.glob(f"{pattern}{PARTIAL}"))]
    return list(dict.fromkeys([*finished, *interrupted]))
