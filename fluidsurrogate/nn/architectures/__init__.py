"""Network architectures, the values of `models.NAME.kind`. A new architecture is one new file in this folder."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
