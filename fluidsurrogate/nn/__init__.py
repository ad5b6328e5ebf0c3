"""Equivariant layers, networks and training losses; tensors only. A new architecture is a file in `architectures/`."""

from fluidsurrogate.nn.architectures.user_module import UserModule
from fluidsurrogate.nn.deep_ensemble import DeepEnsemble, clip_member_gradients
from fluidsurrogate.nn.layers import GroupConv, GroupPool, LiftingConv, SeparableGroupConv
from fluidsurrogate.nn.network import Network
from fluidsurrogate.nn.registry import ARCHITECTURES, DIMENSIONS, EXACT_GROUPS, SPACE_DEFAULTS, architecture
from fluidsurrogate.nn.user_code import allowing_code, code_is_allowed, require_code_permission
from fluidsurrogate.nn.weights import cast_weights, cpu_state_dict

__all__ = [
    "ARCHITECTURES", "DIMENSIONS", "EXACT_GROUPS", "SPACE_DEFAULTS", "DeepEnsemble", "GroupConv", "GroupPool",
    "LiftingConv", "Network", "SeparableGroupConv", "UserModule", "allowing_code", "architecture", "cast_weights",
    "clip_member_gradients", "code_is_allowed", "cpu_state_dict", "require_code_permission",
]  # fmt: skip
