"""Back ends: interchangeable ways to compute the solver's inner steps, chosen by name.

``torch`` takes PyTorch operations one by one, ``compile`` fuses them by `torch.compile`, ``graph`` replays them as a
CUDA graph, ``native`` runs C++ on a CPU, in two dimensions with its gradients. All give the same numbers up to
rounding. A new back end is one file in this folder: a subclass of `Backend` under ``@register_backend("name")``.
"""

import importlib
import pkgutil

from solvers.backends.base import BACKENDS, Backend, StepSetup, register_backend
from solvers.backends.native_adjoint import NativeAdjoint
from solvers.backends.selection import (
    AUTO,
    check_backend,
    check_backend_name,
    resolve_backend,
    wants_gradients,
    wants_operations,
)
from solvers.backends.torch_eager import TorchBackend

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "AUTO", "BACKENDS", "Backend", "NativeAdjoint", "StepSetup", "TorchBackend", "check_backend", "check_backend_name",
    "register_backend", "resolve_backend", "wants_gradients", "wants_operations",
]  # fmt: skip
