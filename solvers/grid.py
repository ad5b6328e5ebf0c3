"""Periodic, cell-centred grids in two or three dimensions, and the exact transfer of fields between them.

Samples sit at x = (i + ½) Δx. With cell centres, `rot90` and `flip` of an array are exact rotations and mirrors about
the middle of the box; on node-centred grids they are off by one cell.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

AXES = ("z", "y", "x")  # names of the array's last axes; the plane has the last two


@dataclass(frozen=True)
class Grid:
    """A periodic rectangle or box divided into cells, with samples at the cell centres.

    Parameters
    ----------
    n : tuple of int
        Numbers of cells (y, x), or (z, y, x) in three dimensions, each even, at least 8 and at most 65536.
    length : tuple of float
        Sides of the box (y, x) or (z, y, x), each from 1e-30 to 1e30, in m; by default each is 2π.

    Raises
    ------
    ValueError
        If a number is not of this kind.

    Examples
    --------
    >>> from solvers import Grid
    >>> grid = Grid.square(8, length=4.0)
    >>> y, x = grid.coordinates()
    >>> x.tolist()
    [0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.75]
    >>> Grid.cube(16).axes
    ('z', 'y', 'x')
    """

    n: tuple[int, ...]
    length: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        n, length = self.n, self.length or (2 * math.pi,) * len(self.n)
        if len(n) not in (2, 3) or len(length) != len(n):
            raise ValueError(f"n and length must be of 2 axes (y, x) or of 3 axes (z, y, x) (got {n} and {length})")
        if any(not math.isfinite(m) or int(m) != m or m < 8 or m % 2 for m in n):
            raise ValueError(f"n must be even and at least 8 (got {_show(n)})")
        if max(n) > 65536:
            raise ValueError(f"n must be at most 65536 (got {_show(n)})")
        if any(not math.isfinite(side) or side <= 0 for side in length):
            raise ValueError(f"length must be positive and finite (got {_show(length)})")
        if any(not 1e-30 <= side <= 1e30 for side in length):
            raise ValueError(f"length must be from 1e-30 to 1e30 (got {_show(length)}); choose another unit")
        object.__setattr__(self, "n", tuple(int(m) for m in n))
        object.__setattr__(self, "length", tuple(float(side) for side in length))

    @classmethod
    def square(cls, n: int, length: float = 2 * math.pi) -> Grid:
        """Return a square with equal numbers of cells on both sides.

        Parameters
        ----------
        n : int
            Cells on a side.
        length : float
            Side of the box, in m.

        Returns
        -------
        Grid
            The grid, in two dimensions.
        """
        return cls((n, n), (length, length))

    @classmethod
    def cube(cls, n: int, length: float = 2 * math.pi) -> Grid:
        """Return a cube with equal numbers of cells on its three sides.

        Parameters
        ----------
        n : int
            Cells on a side.
        length : float
            Side of the box, in m.

        Returns
        -------
        Grid
            The grid, in three dimensions.
        """
        return cls((n, n, n), (length, length, length))

    @classmethod
    def box(
        cls, n: int | Sequence[int], length: float | Sequence[float] = 2 * math.pi, dimensions: int | None = None
    ) -> Grid:
        """Return a grid from numbers or sequences, as a configuration file gives them.

        Parameters
        ----------
        n : int or sequence of int
            Numbers of cells, one for all sides, [y, x] or [z, y, x].
        length : float or sequence of float
            Sides of the box, one for all, [y, x] or [z, y, x], in m.
        dimensions : int, optional
            2 or 3; by default as many as the sequences have entries, and 2 if there are only numbers.

        Returns
        -------
        Grid
            The grid.

        Raises
        ------
        ValueError
            If the sequences differ in length, or from the number of dimensions.
        """
        counts = [len(value) for value in (n, length) if isinstance(value, Sequence)]
        dimensions = dimensions or (counts[0] if counts else 2)
        if dimensions not in (2, 3):
            raise ValueError(f"a grid has 2 or 3 dimensions (got {dimensions})")
        return cls(_per_axis(n, "n", dimensions), _per_axis(length, "length", dimensions))

    @property
    def dimensions(self) -> int:
        """Number of dimensions, 2 or 3."""
        return len(self.n)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the array's axes: ``("y", "x")`` or ``("z", "y", "x")``."""
        return AXES[-self.dimensions :]

    @property
    def dims(self) -> tuple[int, ...]:
        """Positions of the grid's axes in an array, counted from its end: (-2, -1) or (-3, -2, -1)."""
        return tuple(range(-self.dimensions, 0))

    @property
    def spacing(self) -> tuple[float, ...]:
        """Sides of a cell, (Δy, Δx) or (Δz, Δy, Δx), in m."""
        return tuple(side / m for side, m in zip(self.length, self.n, strict=True))

    @property
    def is_square(self) -> bool:
        """Whether all sides are equal and have equal numbers of cells: a square, in three dimensions a cube."""
        return len(set(self.n)) == 1 and all(math.isclose(a, self.length[0], rel_tol=1e-12) for a in self.length)

    # All of the following are float64 on the CPU: made once, and moved by whoever keeps them.

    def coordinates(self) -> tuple[Float[Tensor, " axis"], ...]:
        """Return the coordinates of the cell centres.

        Returns
        -------
        tuple of Tensor
            For each axis, (y, x) or (z, y, x), a tensor of shape (cells,), float64, in m.
        """
        return tuple(
            (torch.arange(m, dtype=torch.float64) + 0.5) * d for m, d in zip(self.n, self.spacing, strict=True)
        )

    def mesh(self) -> tuple[Float[Tensor, "..."], ...]:
        """Return the coordinates of the cell centres, shaped to broadcast against a field.

        Returns
        -------
        tuple of Tensor
            For (y, x): shapes (y, 1) and (1, x); for (z, y, x): (z, 1, 1), (1, y, 1) and (1, 1, x); float64, in m.
        """
        return self._broadcastable(self.coordinates())

    def wavenumbers(self) -> tuple[Float[Tensor, "..."], ...]:
        """Return the angular wavenumbers of `torch.fft.rfftn` over the grid's axes.

        Returns
        -------
        tuple of Tensor
            For (y, x): ky of shape (ny, 1) and kx of shape (1, nx // 2 + 1); for (z, y, x) kz, ky and kx likewise;
            float64, in 1/m.
        """
        last = self.dimensions - 1
        made = [(torch.fft.rfftfreq if axis == last else torch.fft.fftfreq)(m, d, dtype=torch.float64)
                for axis, (m, d) in enumerate(zip(self.n, self.spacing, strict=True))]  # fmt: skip
        return self._broadcastable([2 * math.pi * k for k in made])

    def odd_wavenumbers(self) -> tuple[Float[Tensor, "..."], ...]:
        """Return the angular wavenumbers with the Nyquist entries zero: the multipliers of odd derivatives.

        A Nyquist mode of a real field has no odd derivative.

        Returns
        -------
        tuple of Tensor
            As from `wavenumbers`.
        """
        made = [k.clone() for k in self.wavenumbers()]
        for k, m in zip(made, self.n, strict=True):
            k.flatten()[m // 2] = 0
        return tuple(made)

    def modes(self) -> tuple[Float[Tensor, "..."], ...]:
        """Return the magnitudes of the mode numbers of `torch.fft.rfftn`: whole waves across the box.

        Returns
        -------
        tuple of Tensor
            Of the shapes of `wavenumbers`, float64.
        """
        whole = [
            (k.abs() * (side / (2 * math.pi))).round() for k, side in zip(self.wavenumbers(), self.length, strict=True)
        ]
        return tuple(whole)

    @property
    def max_modes(self) -> tuple[int, ...]:
        """Largest mode number on each axis by the two-thirds rule.

        With mode numbers of at most (n − 1) // 3 on each axis, products of two fields alias onto none of these modes.
        """
        return tuple((m - 1) // 3 for m in self.n)

    def retained(self, modes: tuple[int, ...] | None = None) -> Bool[Tensor, "..."]:
        """Return which modes of `torch.fft.rfftn` are retained.

        Parameters
        ----------
        modes : tuple of int, optional
            Largest mode number on each axis; by default `max_modes`, those of the two-thirds rule.

        Returns
        -------
        Tensor
            Boolean, shape (ny, nx // 2 + 1) or (nz, ny, nx // 2 + 1).
        """
        kept = [m <= most for m, most in zip(self.modes(), modes or self.max_modes, strict=True)]
        return math.prod(kept[1:], start=kept[0]).bool()

    def half_shape(self) -> tuple[int, ...]:
        """Return the shape of `torch.fft.rfftn` of a field: (ny, nx // 2 + 1) or (nz, ny, nx // 2 + 1).

        Returns
        -------
        tuple of int
            The shape.
        """
        return (*self.n[:-1], self.n[-1] // 2 + 1)

    def _broadcastable(self, values: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Shape one vector for each axis so that they broadcast against each other."""
        count = len(values)
        return tuple(v.reshape([-1 if axis == own else 1 for axis in range(count)]) for own, v in enumerate(values))


def resample(field: Float[Tensor, "..."], source: Grid, target: Grid) -> Float[Tensor, "..."]:
    """Evaluate band-limited fields at the cell centres of another grid of the same box, coarser or finer.

    The Fourier coefficients are truncated or padded and multiplied by exp(i k·(Δ_target − Δ_source)/2), since the
    first cell centres of two grids lie at different places; the Nyquist modes of the coarser grid are dropped. Striding
    instead would alias, and without the shift the fields would be displaced.

    Parameters
    ----------
    field : Tensor
        Shape (..., y, x), or (..., z, y, x) on a grid in three dimensions.
    source : Grid
        The grid of the fields.
    target : Grid
        The other grid.

    Returns
    -------
    Tensor
        Of the same shape, on the other grid.

    Raises
    ------
    ValueError
        If the boxes differ, or the fields are not on the source grid.

    Examples
    --------
    >>> import torch
    >>> from solvers import Grid, resample
    >>> fine, coarse = Grid.square(32), Grid.square(8)
    >>> field = torch.cos(fine.coordinates()[1]).expand(32, 32)
    >>> exact = torch.cos(coarse.coordinates()[1]).expand(8, 8)
    >>> torch.allclose(resample(field, fine, coarse), exact)
    True
    """
    if tuple(field.shape[-source.dimensions :]) != source.n:
        raise ValueError(f"the field must be on the source grid, (..., {', '.join(map(str, source.n))}); "
                         f"got {tuple(field.shape)}")  # fmt: skip
    if source == target:
        return field
    same_box = source.dimensions == target.dimensions
    if not same_box or not all(
        math.isclose(a, b, rel_tol=1e-12) for a, b in zip(source.length, target.length, strict=True)
    ):
        raise ValueError(f"the two grids must be of the same box: their sides are {source.length} and {target.length}")
    coefficients = torch.fft.rfftn(field, dim=source.dims)
    kept = [min(a, b) // 2 - 1 for a, b in zip(source.n, target.n, strict=True)]
    out = coefficients.new_zeros((*field.shape[: -source.dimensions], *target.half_shape()))
    for block in corners(kept):
        out[block] = coefficients[block]
    out = out * _centre_phase(target, source).to(out, non_blocking=True)  # a GPU is not waited for
    return torch.fft.irfftn(out, s=target.n, dim=target.dims) * (math.prod(target.n) / math.prod(source.n))


def corners(modes: Sequence[int]) -> Iterator[tuple]:
    """Yield the blocks of a half spectrum that hold the lowest modes, the same for every number of cells.

    Parameters
    ----------
    modes : sequence of int
        Largest mode number on each axis.

    Yields
    ------
    tuple
        An index of the last axes: modes from 0 up or from -1 down on each axis but the last, from 0 up on the last.
    """
    both = [(slice(0, m + 1), slice(-m, None)) if m else (slice(0, 1),) for m in modes[:-1]]
    for block in itertools.product(*both):
        yield (..., *block, slice(0, modes[-1] + 1))


def sample_modes(coefficients: Tensor, grid: Grid) -> Float[Tensor, "..."]:
    """Evaluate Fourier series at the cell centres of a grid that resolves their modes.

    Parameters
    ----------
    coefficients : Tensor
        The coefficients a_m of Σ_m a_m exp(i k_m·x), as for `place_modes`.
    grid : Grid
        The grid.

    Returns
    -------
    Tensor
        Shape (..., y, x) or (..., z, y, x).
    """
    return torch.fft.irfftn(place_modes(coefficients, grid), s=grid.n, dim=grid.dims, norm="forward")


def place_modes(coefficients: Tensor, grid: Grid) -> Tensor:
    """Return the spectrum, on a grid, of Fourier series Σ_m a_m exp(i k_m·x).

    Parameters
    ----------
    coefficients : Tensor
        The coefficients a_m for my = −My … My and mx = 0 … Mx, complex, shape (..., 2 My + 1, Mx + 1); in three
        dimensions (..., 2 Mz + 1, 2 My + 1, Mx + 1). The modes with mx < 0 are the complex conjugates; among those with
        mx = 0 the coefficients must already be conjugate.
    grid : Grid
        The grid.

    Returns
    -------
    Tensor
        Coefficients of `torch.fft.rfftn` with ``norm="forward"``, shape (..., ny, nx // 2 + 1) or
        (..., nz, ny, nx // 2 + 1).

    Raises
    ------
    ValueError
        If the two-thirds rule of the grid does not retain all of the modes: a solver would drop the others.
    """
    shape = coefficients.shape[-grid.dimensions :]
    most = (*(m // 2 for m in shape[:-1]), shape[-1] - 1)
    if any(m > limit for m, limit in zip(most, grid.max_modes, strict=True)):
        raise ValueError(f"grid of n = {_show(grid.n)} is too coarse for modes up to {most}; take a larger n")
    centred = coefficients.roll([-m for m in most[:-1]], grid.dims[:-1])  # modes 0 … M, −M … −1, as in a transform
    out = coefficients.new_zeros(*coefficients.shape[: -grid.dimensions], *grid.half_shape())
    for block in corners(most):
        out[block] = centred[block]
    return out * cell_centre_phase(grid.wavenumbers(), grid.spacing).to(coefficients)


def cell_centre_phase(wavenumbers: Sequence[Tensor], spacing: Sequence[float]) -> Tensor:
    """Return the factors exp(i k·Δ/2) of Fourier series whose first sample lies half a cell from the origin.

    Parameters
    ----------
    wavenumbers : sequence of Tensor
        The wavenumbers (ky, kx) or (kz, ky, kx), shaped to broadcast.
    spacing : sequence of float
        Sides of a cell, in the same order.

    Returns
    -------
    Tensor
        A complex factor for each mode.
    """
    return torch.exp(0.5j * _dot(wavenumbers, spacing))


def _centre_phase(target: Grid, source: Grid) -> Tensor:
    """Return the factor of each mode that moves samples from one grid's cell centres to the other's."""
    shifts = [0.5 * (a - b) for a, b in zip(target.spacing, source.spacing, strict=True)]
    return torch.exp(1j * _dot(target.wavenumbers(), shifts))


def _dot(wavenumbers: Sequence[Tensor], shifts: Sequence[float]) -> Tensor:
    first, *others = (k * shift for k, shift in zip(wavenumbers, shifts, strict=True))
    return sum(others, start=first)


def _per_axis(value, name: str, dimensions: int) -> tuple:
    if isinstance(value, Sequence):
        if len(value) != dimensions:
            axes = ", ".join(AXES[-dimensions:])
            raise ValueError(f"{name} must be one number or [{axes}] (got {list(value)})")
        return tuple(value)
    return (value,) * dimensions


def _show(values: tuple) -> str:
    return str(values[0]) if len(set(values)) == 1 else f"[{', '.join(map(str, values))}]"
