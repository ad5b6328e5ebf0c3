"""Fast surrogates of incompressible flow that obey the symmetries of the flow exactly.

Generate data with a classical solver, train surrogates, forecast, and compare::

    import fluidsurrogate as fs
    model = fs.pretrained("decaying-2d")
    forecast = fs.forecast(model, fs.simulate(model), steps=20, members=4)
    data = fs.generate("experiments/demo.toml")
    model = fs.load("runs/demo/models/gcnn-d4")
    forecast = fs.forecast(model, data, steps=20)
    scores = fs.compare({"gcnn-d4": forecast}, data)
    report = fs.audit(model)
    learned = fs.explain(model)
    description = fs.info("runs/demo")
    page = fs.report("runs/demo")
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fluidsurrogate.api import generate, train
    from fluidsurrogate.auditing.audit import audit
    from fluidsurrogate.config.experiment import Experiment
    from fluidsurrogate.core.errors import UsageError
    from fluidsurrogate.data.readers import open_data
    from fluidsurrogate.data.well_samples import from_well
    from fluidsurrogate.data.writers import export_data
    from fluidsurrogate.evaluation.comparison import compare
    from fluidsurrogate.evaluation.equivariance import equivariance_error
    from fluidsurrogate.evaluation.physics_check import check
    from fluidsurrogate.explaining.explain import explain
    from fluidsurrogate.inspection.hub_upload import push_to_hub
    from fluidsurrogate.inspection.info import info
    from fluidsurrogate.models.export import as_module
    from fluidsurrogate.models.fit_calibration import calibrate
    from fluidsurrogate.models.forecasting import forecast, forecast_to_zarr
    from fluidsurrogate.models.loading import load, pretrained
    from fluidsurrogate.models.regridding import move_to_grid
    from fluidsurrogate.models.saving import save
    from fluidsurrogate.models.surrogate import Surrogate
    from fluidsurrogate.models.true_trajectories import simulate
    from fluidsurrogate.reporting.report import report
    from fluidsurrogate.simulation.importing import import_data
    from fluidsurrogate.simulation.rollout import Persistence, rollout
    from fluidsurrogate.simulation.zarr_rollout import rollout_to_zarr

__version__ = version("fluidsurrogate")

__all__ = [
    "Experiment", "Persistence", "Surrogate", "UsageError", "__version__", "as_module", "audit", "calibrate", "check",
    "compare", "equivariance_error", "explain", "export_data", "forecast", "forecast_to_zarr", "from_well", "generate",
    "import_data", "info", "load", "move_to_grid", "open_data", "pretrained", "push_to_hub", "report", "rollout",
    "rollout_to_zarr", "save", "simulate", "train",
]  # fmt: skip

_HOME = {
    "as_module": "models.export",
    "forecast": "models.forecasting",
    "forecast_to_zarr": "models.forecasting",
    "move_to_grid": "models.regridding",
    "pretrained": "models.loading",
    "save": "models.saving",
    "simulate": "models.true_trajectories",
    "generate": "api",
    "train": "api",
    "audit": "auditing.audit",
    "calibrate": "models.fit_calibration",
    "explain": "explaining.explain",
    "check": "evaluation.physics_check",
    "compare": "evaluation.comparison",
    "Experiment": "config.experiment",
    "open_data": "data.readers",
    "import_data": "simulation.importing",
    "export_data": "data.writers",
    "from_well": "data.well_samples",
    "equivariance_error": "evaluation.equivariance",
    "UsageError": "core.errors",
    "Persistence": "simulation.rollout",
    "rollout": "simulation.rollout",
    "info": "inspection.info",
    "report": "reporting.report",
    "rollout_to_zarr": "simulation.zarr_rollout",
    "Surrogate": "models.surrogate",
    "load": "models.loading",
    "push_to_hub": "inspection.hub_upload",
}


def __getattr__(name: str) -> Any:
    # torch and xarray take seconds to import: the command line must answer, and take Ctrl-C, before that.
    if name not in _HOME:
        raise AttributeError(f"module 'fluidsurrogate' has no attribute {name!r}")
    return getattr(import_module(f"fluidsurrogate.{_HOME[name]}"), name)
