"""Equivariant layers and networks; tensors only. A new architecture is one file in this folder."""

import importlib
import pkgutil

from fluidsurrogate.nn.deep_ensemble import DeepEnsemble, clip_each
from fluidsurrogate.nn.layers import GroupConv2d, GroupPool2d, LiftingConv2d
from fluidsurrogate.nn.network import ARCHITECTURES, CLAIMS, Network, architecture, cast, state_tensors
from fluidsurrogate.nn.user_module import UserModule, allowing_code, code_is_allowed, refuse_code

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "ARCHITECTURES", "CLAIMS", "DeepEnsemble", "GroupConv2d", "GroupPool2d", "LiftingConv2d", "Network", "UserModule",
    "allowing_code", "architecture", "cast", "clip_each", "code_is_allowed", "refuse_code", "state_tensors",
]  # fmt: skip
