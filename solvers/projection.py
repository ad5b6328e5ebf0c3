"""The projection of vector fields on those without divergence, in Fourier space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def solenoidal_part(vector: Tensor, wavenumbers: Sequence[Tensor], inverse_k_squared: Tensor) -> Tensor:
    r"""Return the part of a vector field that has no divergence (Leray projection).

    .. math:: P \hat v = \hat v - k (k \cdot \hat v) / k^2

    Parameters
    ----------
    vector : Tensor
        Fourier coefficients with components (x, y) or (x, y, z), shape (batch, component, ky, kx) or
        (batch, component, kz, ky, kx).
    wavenumbers : sequence of Tensor
        The wavenumbers (kx, ky) or (kx, ky, kz), in the order of the components, which broadcast against a component.
    inverse_k_squared : Tensor
        1/k², zero for k = 0, whose mode stays as it is.

    Returns
    -------
    Tensor
        Of the same shape.
    """
    components = vector.unbind(1)
    along = wavenumbers[0] * components[0]
    for k, component in zip(wavenumbers[1:], components[1:], strict=True):
        along = torch.addcmul(along, k, component)
    along = along * inverse_k_squared
    projected = [torch.addcmul(v, k, along, value=-1) for v, k in zip(components, wavenumbers, strict=True)]
    return torch.stack(projected, dim=1)
