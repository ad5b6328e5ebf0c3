r"""Bases of the convolution kernels that commute with the rotations of space.

The constraint κ(gx) = ρ_out(g) κ(x) ρ_in(g)⁻¹ between irreps of the orders j (out) and i (in) has the solutions
(Weiler et al. 2018, arXiv:1807.02547; Thomas et al. 2018, arXiv:1802.08219)

.. math:: \kappa(x) = \varphi(|x|) \sum_m C^{j i l}_{\cdot \cdot m} \, Y^l_m(x / |x|), \quad |j - i| \le l \le j + i

with Clebsch–Gordan coefficients C and spherical harmonics Y from e3nn (arXiv:2207.09453) and any radial profile φ; under
mirrors, only those l for which (−1)^l is the product of both parities. Only tensors leave this module, and all are
computed in double precision on the CPU, whatever the default precision.
"""

from __future__ import annotations

import importlib
import math
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

MAXIMUM_ORDER = 4  # of the harmonics in a kernel


def import_e3nn() -> Any:
    """Import the rotations of e3nn.

    Returns
    -------
    module
        The module `e3nn.o3`.

    Raises
    ------
    ValueError
        If e3nn is not installed.
    """
    try:
        return importlib.import_module("e3nn.o3")
    except ImportError as error:
        how = 'pip install "fluidsurrogate[e3nn]"'
        raise ValueError(f"kind = 'steerable3d' needs e3nn ({error}): {how}") from None


def spherical_harmonics(order: int, points: Float64[Tensor, "point 3"]) -> Float64[Tensor, "point number"]:
    """Evaluate the real spherical harmonics of one order.

    Parameters
    ----------
    order : int
        The order l.
    points : Tensor
        Vectors (x, y, z), float64, shape (point, 3). Only their direction matters; at the origin all are 0 for l > 0.

    Returns
    -------
    Tensor
        Shape (point, 2 l + 1), float64, with a mean square of 1 over the sphere and the components; those of l = 1 are
        √3 (x, y, z) / r.
    """
    if order == 0:
        return torch.ones(len(points), 1, dtype=torch.float64, device="cpu")
    lengths = points.norm(dim=1, keepdim=True)
    with torch.device("cpu"):
        values = import_e3nn().spherical_harmonics(order, points, normalize=True, normalization="component")
    return torch.where(lengths > 0, values, torch.zeros_like(values))


def clebsch_gordan(first: int, second: int, third: int) -> Float64[Tensor, "a b c"]:
    """Return the real Clebsch–Gordan coefficients, which no rotation changes.

    Parameters
    ----------
    first, second, third : int
        Orders l.

    Returns
    -------
    Tensor
        Wigner's 3j symbols in the real basis, of shape (2 first + 1, 2 second + 1, 2 third + 1) and norm 1, float64.
    """
    with torch.device("cpu"):
        return import_e3nn().wigner_3j(first, second, third, dtype=torch.float64, device="cpu")


def wigner_matrix(order: int, rotation: Float64[Tensor, "3 3"]) -> Float64[Tensor, "number number"]:
    r"""Compute the Wigner matrix by which a rotation acts on the spherical harmonics of one order.

    .. math:: Y^l(R x) = D^l(R) Y^l(x), \quad D^l = (2 l + 1) \, C^T (D^{l-1} \otimes R) \, C

    Parameters
    ----------
    order : int
        The order l.
    rotation : Tensor
        Rotation matrix R on (x, y, z), float64, shape (3, 3).

    Returns
    -------
    Tensor
        Orthogonal matrix, float64, shape (2 l + 1, 2 l + 1).
    """
    if order == 0:
        return torch.ones(1, 1, dtype=torch.float64, device="cpu")
    if order == 1:
        return rotation
    c, lower = clebsch_gordan(order - 1, 1, order), wigner_matrix(order - 1, rotation)
    return (2 * order + 1) * torch.einsum("abm,ac,bd,cdn->mn", c, lower, rotation, c)


def radial_profiles(radius: Float64[Tensor, " point"], reach: int, rings: int) -> Float64[Tensor, "point ring"]:
    """Evaluate the radial profiles: Gaussians about radii from one cell to the corner of the kernel.

    Parameters
    ----------
    radius : Tensor
        Distances from the centre in cells, float64.
    reach : int
        Cells from the centre of the kernel to its side.
    rings : int
        Number of profiles.

    Returns
    -------
    Tensor
        Shape (point, ring), float64. All are 0 at the centre.
    """
    outer = math.sqrt(3) * reach
    centres = torch.linspace(1.0, outer, rings, dtype=torch.float64, device="cpu")
    width = (outer - 1) / max(rings - 1, 1)
    near = -torch.expm1(-4 * radius[:, None] ** 2)  # the harmonics have no direction at the centre
    return near * torch.exp(-0.5 * ((radius[:, None] - centres) / width) ** 2)


def kernel_functions(
    order_out: int, order_in: int, order: int, points: Float64[Tensor, "point 3"], reach: int, rings: int
) -> Float64[Tensor, "basis out components point"]:
    """Evaluate a basis of the equivariant kernels with harmonics of one order.

    Parameters
    ----------
    order_out, order_in : int
        Orders of the irreps that come out and in.
    order : int
        The order l of the harmonics.
    points : Tensor
        Vectors (x, y, z) in cells, float64, shape (point, 3), on the lattice or off it.
    reach : int
        Cells from the centre of the kernel to its side; 0 for a kernel of one cell.
    rings : int
        Number of radial profiles away from the centre.

    Returns
    -------
    Tensor
        Shape (basis, 2 order_out + 1, 2 order_in + 1, point), float64. If l = 0, the first is a bump at the centre that
        is 0 from a distance of one cell on: the self-connection.
    """
    radius = points.norm(dim=1)
    profiles = []
    if order == 0:
        profiles.append((1 - radius).clamp(min=0)[:, None] ** 2)
    if reach:
        profiles.append(radial_profiles(radius, reach, rings))
    if not profiles:
        return torch.zeros(0, 2 * order_out + 1, 2 * order_in + 1, len(points), dtype=torch.float64, device="cpu")
    angular = torch.einsum(
        "oim,pm->oip", clebsch_gordan(order_out, order_in, order), spherical_harmonics(order, points)
    )
    return torch.einsum("pk,oip->koip", torch.cat(profiles, dim=1), angular)


def lattice_points(size: int) -> Float64[Tensor, "point 3"]:
    """Return the cells of a kernel as vectors.

    Parameters
    ----------
    size : int
        Side of the kernel in cells, odd.

    Returns
    -------
    Tensor
        Shape (size³, 3): vectors (x, y, z) in cells, for cells in the order of an array (z, y, x).
    """
    along = torch.arange(size, dtype=torch.float64, device="cpu") - size // 2
    z, y, x = torch.meshgrid(along, along, along, indexing="ij")
    return torch.stack([x, y, z], dim=-1).flatten(0, 2)


@lru_cache(maxsize=256)
def lattice_kernels(
    order_out: int, order_in: int, size: int, rings: int
) -> tuple[Float64[Tensor, "basis out components size size size"], tuple[int, ...]]:
    """Sample a basis of the equivariant kernels between two irreps on the lattice, once a process.

    Parameters
    ----------
    order_out, order_in : int
        Orders of the irreps that come out and in.
    size : int
        Side of the kernel in cells, odd.
    rings : int
        Number of radial profiles away from the centre.

    Returns
    -------
    kernels : Tensor
        Shape (basis, 2 order_out + 1, 2 order_in + 1, size, size, size), float64, axes (z, y, x). The sum of squares of
        each is 1, the mean over the components out. Those that vanish on the whole lattice are left out.
    orders : tuple of int
        The order l of the harmonics of each.
    """
    points, found, orders = lattice_points(size), [], []
    for order in range(abs(order_out - order_in), min(order_out + order_in, MAXIMUM_ORDER) + 1):
        kernels = kernel_functions(order_out, order_in, order, points, size // 2, rings)
        norms = (kernels.square().sum((1, 2, 3), keepdim=True) / (2 * order_out + 1)).sqrt()
        kept = norms.flatten() > 1e-6
        found.append((kernels[kept] / norms[kept]).unflatten(-1, (size, size, size)))
        orders += [order] * int(kept.sum())
    return torch.cat(found), tuple(orders)
