"""Training losses by name, the values of `train.loss`. A new loss is one new file in this folder."""

import importlib
import pkgutil

from fluidsurrogate.nn.losses.registry import LOSSES, LossContext, loss

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = ["LOSSES", "LossContext", "loss"]
