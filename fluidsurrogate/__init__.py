"""fluidsurrogate: fast surrogates of incompressible flow that obey the flow's own symmetries exactly.

::

    import fluidsurrogate as fs
    data = fs.generate("experiments/demo.toml")
    model = fs.load("runs/demo/models/gcnn-d4")
    forecast = model.forecast(data, steps=20)
    scores = fs.compare({"gcnn-d4": forecast}, data)
"""

from importlib.metadata import version

from fluidsurrogate.api import generate, train
from fluidsurrogate.compare import compare
from fluidsurrogate.config import Experiment
from fluidsurrogate.dataset import open_data
from fluidsurrogate.equivariance import equivariance_error
from fluidsurrogate.errors import UsageError
from fluidsurrogate.rollout import Persistence, rollout
from fluidsurrogate.surrogate import Surrogate, load

__version__ = version("fluidsurrogate")

__all__ = [
    "Experiment", "Persistence", "Surrogate", "UsageError", "__version__", "compare", "equivariance_error", "generate",
    "load", "open_data", "rollout", "train",
]  # fmt: skip
