"""The flows by name. A new flow is one file in this folder: a frozen dataclass under ``@flow("name")``.

`Flow` says what a flow has: initial states, a point group, terms, and examples of good values, on which the generic
tests hold it to its contract. No other file needs to know a flow.
"""

import importlib
import pkgutil

from solvers.flows.base import FLOWS, Flow, FlowExample, flow
from solvers.flows.tracer import Tracer

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["FLOWS", "Flow", "FlowExample", "Tracer", "flow"]
