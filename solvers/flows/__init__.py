"""The flows by name. A new flow is one file in this folder: a frozen dataclass under `@flow("name")`."""

import importlib
import pkgutil

from solvers.flows.base import FLOWS, Flow, flow
from solvers.flows.tracer import Tracer

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["FLOWS", "Flow", "Tracer", "flow"]
