r"""Bases of the convolution kernels that commute with the rotations of space.

The constraint κ(gx) = ρ_out(g) κ(x) ρ_in(g)⁻¹ between irreps of the orders j (out) and i (in) has the solutions
(Weiler et al. 2018, arXiv:1807.02547; Thomas et al. 2018, arXiv:1802.08219)

.. math:: \kappa(x) = \varphi(|x|) \sum_m C^{j i l}_{\cdot \cdot m} \, Y^l_m(x / |x|), \quad |j - i| \le l \le j + i

with Clebsch–Gordan coefficients C and spherical harmonics Y from e3nn (arXiv:2207.09453) and any radial profile φ.
Under mirrors, (−1)^l must be the product of both parities. Only tensors leave this module, and all are computed in
double precision on the CPU, whatever the default precision.

On a lattice of few points a kernel turns only nearly. `isotropic_profiles` finds the profiles for which it turns well.
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
SHORTEST = 6  # cells: the shortest waves for which kernels are to be isotropic


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


def radial_profiles(radius: Float64[Tensor, " point"], size: int) -> Float64[Tensor, "point ring"]:
    """Evaluate smooth radial profiles, as many as there are distances in a kernel: Gaussians about equidistant radii.

    Parameters
    ----------
    radius : Tensor
        Distances from the centre in cells, float64.
    size : int
        Side of the kernel in cells, odd and at least 3.

    Returns
    -------
    Tensor
        Shape (point, ring), float64. All are 0 at the centre. The radii reach from one cell to the corner.
    """
    outer, rings = math.sqrt(3) * (size // 2), len(_distances(size))
    centres = torch.linspace(1.0, outer, rings, dtype=torch.float64, device="cpu")
    width = (outer - 1) / (rings - 1)
    near = -torch.expm1(-4 * radius[:, None] ** 2)  # the harmonics have no direction at the centre
    return near * torch.exp(-0.5 * ((radius[:, None] - centres) / width) ** 2)


def _distances(size: int) -> list[float]:
    """Return the distances of a kernel's cells from its centre, without 0."""
    along = range(size // 2 + 1)
    return [math.sqrt(s) for s in sorted({a * a + b * b + c * c for a in along for b in along for c in along} - {0})]


@lru_cache
def isotropic_profiles(order: int, size: int) -> tuple[Float64[Tensor, "ring profile"], Float64[Tensor, " profile"]]:
    r"""Combine the radial profiles so that the most isotropic kernels come first, and measure how isotropic they are.

    Sampled on the lattice, a kernel φ(r) Y(x/r) answers to a wave of wavevector k by

    .. math:: \hat f_m(k) = \sum_d \varphi(|d|) \, Y_m(d) \, e^{i k \cdot d}
        = \psi(|k|) \, Y_m(k / |k|) + \text{rest}

    The rest does not turn with k. Its root mean square over all waves of six cells and longer, for a kernel whose sum
    of squares is 1, is the anisotropy of the kernel. It is a quadratic form in φ, whose eigenvectors are the profiles.

    Parameters
    ----------
    order : int
        The order l of the harmonics.
    size : int
        Side of the kernel in cells, odd and at least 3.

    Returns
    -------
    coefficients : Tensor
        Shape (ring, profile), float64: each profile as a sum of `radial_profiles`.
    anisotropy : Tensor
        Shape (profile,), float64, ascending.
    """
    points = lattice_points(size)
    radius = points.norm(dim=1)
    of_ring = radius[:, None].sub(torch.tensor(_distances(size), dtype=torch.float64, device="cpu")).abs() < 1e-6
    harmonics, directions = spherical_harmonics(order, points), _directions(500)
    far = spherical_harmonics(order, directions)
    size_of = (of_ring * harmonics.square().mean(1, keepdim=True)).sum(0).rsqrt()
    kernels = (of_ring * size_of)[:, :, None] * harmonics[:, None]
    form, total = torch.zeros(len(size_of), len(size_of), dtype=torch.float64, device="cpu"), 0.0
    for part in range(8):
        wavenumber = 2 * math.pi / SHORTEST * (part + 0.5) / 8
        waves = torch.polar(torch.ones((), dtype=torch.float64, device="cpu"), wavenumber * directions @ points.T)
        response = torch.einsum("kp,psm->ksm", waves, kernels.to(waves.dtype))
        turning = torch.einsum("ksm,km->s", response, far.to(waves.dtype)) / far.square().sum()
        rest = response - turning[None, :, None] * far[:, None]
        form += wavenumber**2 * torch.einsum("ksm,ktm->st", rest.conj(), rest).real / far.numel()
        total += wavenumber**2
    squares, vectors = torch.linalg.eigh(form / total)
    distances = torch.tensor(_distances(size), dtype=torch.float64, device="cpu")
    coefficients = torch.linalg.solve(radial_profiles(distances, size), size_of[:, None] * vectors)
    return coefficients, squares.clamp(min=0).sqrt()


def _directions(count: int) -> Float64[Tensor, "point 3"]:
    """Return directions spread evenly over the sphere, on a spiral."""
    number = torch.arange(count, dtype=torch.float64, device="cpu") + 0.5
    angle, z = math.pi * (1 + math.sqrt(5)) * number, 1 - 2 * number / count
    return torch.stack([angle.cos() * (1 - z**2).sqrt(), angle.sin() * (1 - z**2).sqrt(), z], dim=1)


def kernel_functions(
    order_out: int, order_in: int, order: int, points: Float64[Tensor, "point 3"], size: int, anisotropy: float
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
    size : int
        Side of the kernel in cells, odd.
    anisotropy : float
        Largest anisotropy of the radial profiles, see `isotropic_profiles`.

    Returns
    -------
    Tensor
        Shape (basis, 2 order_out + 1, 2 order_in + 1, point), float64. If l = 0, the first is a bump at the centre that
        is 0 from a distance of one cell on: the self-connection.
    """
    radius = points.norm(dim=1)
    profiles = [(1 - radius).clamp(min=0)[:, None] ** 2] if order == 0 else [radius.new_zeros(len(points), 0)]
    if size > 1:
        coefficients, found = isotropic_profiles(order, size)
        profiles.append(radial_profiles(radius, size) @ coefficients[:, found <= anisotropy])
    angular = torch.einsum(
        "oim,pm->oip", clebsch_gordan(order_out, order_in, order), spherical_harmonics(order, points)
    )
    # C has norm 1: with this factor the sum of squares of a kernel, the mean over the components out, is that of φ Y.
    angular = angular * math.sqrt(2 * order_out + 1)
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
    order_out: int, order_in: int, size: int, anisotropy: float = math.inf
) -> tuple[Float64[Tensor, "basis out components {size} {size} {size}"], tuple[int, ...]]:
    """Sample a basis of the equivariant kernels between two irreps on the lattice, once a process.

    Parameters
    ----------
    order_out, order_in : int
        Orders of the irreps that come out and in.
    size : int
        Side of the kernel in cells, odd.
    anisotropy : float
        Largest anisotropy of the radial profiles, see `isotropic_profiles`. By default all equivariant kernels with
        harmonics up to `MAXIMUM_ORDER` are there, with a free value at each distance.

    Returns
    -------
    kernels : Tensor
        Shape (basis, 2 order_out + 1, 2 order_in + 1, size, size, size), float64, axes (z, y, x). They are orthogonal.
        The sum of squares of each is 1, the mean over the components out.
    orders : tuple of int
        The order l of the harmonics of each.
    """
    points, found, orders = lattice_points(size), [], []
    for order in range(abs(order_out - order_in), min(order_out + order_in, MAXIMUM_ORDER) + 1):
        kernels = kernel_functions(order_out, order_in, order, points, size, anisotropy)
        found.append(kernels.unflatten(-1, (size, size, size)))
        orders += [order] * len(kernels)
    return torch.cat(found), tuple(orders)
