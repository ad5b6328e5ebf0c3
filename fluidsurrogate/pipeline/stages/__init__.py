"""The stages of an experiment, one file each, found by themselves.

A stage imports what takes time (torch, xarray) inside its functions: the command line reads this list for its help.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
