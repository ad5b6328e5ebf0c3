"""The flows in three dimensions. A new one is one file in this folder: a frozen dataclass under ``@flow("name")``.

`solvers.flows.flow_3d` says what it has beside what every flow has: an initial velocity in place of a vorticity.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__: list[str] = []
