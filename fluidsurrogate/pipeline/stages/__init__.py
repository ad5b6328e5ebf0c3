"""The stages of an experiment, one file each; every file in this folder is imported, and registers its stage.

A stage imports slow packages (torch, xarray) inside its functions, because the command line imports all stages for its
help.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
