"""fluidsurrogate: fast surrogates of incompressible flow that obey the flow's own symmetries exactly.

::

    import fluidsurrogate as fs
    data = fs.generate("experiments/demo.toml")
    model = fs.load("runs/demo/models/gcnn-d4")
    forecast = model.forecast(data, steps=20)
    scores = fs.compare({"gcnn-d4": forecast}, data)
    report = fs.audit(model)
    about = fs.info("runs/demo")
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fluidsurrogate.api import generate, train
    from fluidsurrogate.auditing import audit
    from fluidsurrogate.calibrating import calibrate
    from fluidsurrogate.comparison import compare
    from fluidsurrogate.config import Experiment
    from fluidsurrogate.dataset import open_data
    from fluidsurrogate.equivariance import equivariance_error
    from fluidsurrogate.errors import UsageError
    from fluidsurrogate.forecasting import Persistence, rollout
    from fluidsurrogate.inspection import info
    from fluidsurrogate.loading import load
    from fluidsurrogate.long_forecast import rollout_to_zarr
    from fluidsurrogate.surrogate import Surrogate

__version__ = version("fluidsurrogate")

__all__ = [
    "Experiment", "Persistence", "Surrogate", "UsageError", "__version__", "audit", "calibrate", "compare",
    "equivariance_error", "generate", "info", "load", "open_data", "rollout", "rollout_to_zarr", "train",
]  # fmt: skip

_HOME = {
    "generate": "api",
    "train": "api",
    "audit": "auditing",
    "calibrate": "calibrating",
    "compare": "comparison",
    "Experiment": "config",
    "open_data": "dataset",
    "equivariance_error": "equivariance",
    "UsageError": "errors",
    "Persistence": "forecasting",
    "rollout": "forecasting",
    "info": "inspection",
    "rollout_to_zarr": "long_forecast",
    "Surrogate": "surrogate",
    "load": "loading",
}


def __getattr__(name: str) -> Any:
    # torch and xarray take seconds to import: the command line must answer, and take Ctrl-C, before that.
    if name not in _HOME:
        raise AttributeError(f"module 'fluidsurrogate' has no attribute {name!r}")
    return getattr(import_module(f"fluidsurrogate.{_HOME[name]}"), name)
