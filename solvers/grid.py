"""Periodic, cell-centred grids, and the exact transfer of band-limited fields between them.

Samples sit at x = (i + ½) Δx. With cell centres, `rot90` and `flip` of an array are exact rotations and mirrors about
the middle of the box; on node-centred grids they are off by one cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """A periodic rectangle divided into cells, with samples at the cell centres.

    Parameters
    ----------
    n : tuple of int
        Numbers of cells (y, x), each even, at least 8 and at most 65536.
    length : tuple of float
        Sides of the box (y, x), each from 1e-30 to 1e30, in m.

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
    """

    n: tuple[int, int]
    length: tuple[float, float] = (2 * math.pi, 2 * math.pi)

    def __post_init__(self) -> None:
        n, length = self.n, self.length
        if any(not math.isfinite(m) or int(m) != m or m < 8 or m % 2 for m in n):
            raise ValueError(f"n must be even and at least 8 (got {_show(n)})")
        if max(n) > 65536:
            raise ValueError(f"n must be at most 65536 (got {_show(n)})")
        if any(not math.isfinite(side) or side <= 0 for side in length):
            raise ValueError(f"length must be positive and finite (got {_show(length)})")
        if any(not 1e-30 <= side <= 1e30 for side in length):
            raise ValueError(f"length must be from 1e-30 to 1e30 (got {_show(length)}); choose another unit")
        object.__setattr__(self, "n", (int(n[0]), int(n[1])))
        object.__setattr__(self, "length", (float(length[0]), float(length[1])))

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
            The grid.
        """
        return cls((n, n), (length, length))

    @classmethod
    def rectangle(cls, n: int | Sequence[int], length: float | Sequence[float] = 2 * math.pi) -> Grid:
        """Return a rectangle from numbers or pairs, as a configuration file gives them.

        Parameters
        ----------
        n : int or sequence of int
            Numbers of cells, one for both sides or [y, x].
        length : float or sequence of float
            Sides of the box, one for both or [y, x], in m.

        Returns
        -------
        Grid
            The grid.
        """
        return cls(_pair(n, "n"), _pair(length, "length"))

    @property
    def spacing(self) -> tuple[float, float]:
        """Sides of a cell (Δy, Δx), in m."""
        return self.length[0] / self.n[0], self.length[1] / self.n[1]

    @property
    def is_square(self) -> bool:
        """Whether a quarter turn maps the grid onto itself: equal sides and equal numbers of cells."""
        return self.n[0] == self.n[1] and math.isclose(self.length[0], self.length[1], rel_tol=1e-12)

    # All of the following are float64 on the CPU: made once, and moved by whoever keeps them.

    def coordinates(self) -> tuple[Float[Tensor, " y"], Float[Tensor, " x"]]:
        """Return the coordinates of the cell centres.

        Returns
        -------
        y : Tensor
            Shape (y,), float64, in m.
        x : Tensor
            Shape (x,), float64, in m.
        """
        (ny, nx), (dy, dx) = self.n, self.spacing
        return (torch.arange(ny, dtype=torch.float64) + 0.5) * dy, (torch.arange(nx, dtype=torch.float64) + 0.5) * dx

    def wavenumbers(self) -> tuple[Float[Tensor, "ny 1"], Float[Tensor, "1 kx"]]:
        """Return the angular wavenumbers of `torch.fft.rfft2`.

        Returns
        -------
        ky : Tensor
            Shape (ny, 1), float64, in 1/m.
        kx : Tensor
            Shape (1, nx // 2 + 1), float64, in 1/m.
        """
        (ny, nx), (dy, dx) = self.n, self.spacing
        ky = 2 * math.pi * torch.fft.fftfreq(ny, dy, dtype=torch.float64)
        kx = 2 * math.pi * torch.fft.rfftfreq(nx, dx, dtype=torch.float64)
        return ky[:, None], kx[None, :]

    def odd_wavenumbers(self) -> tuple[Float[Tensor, "ny 1"], Float[Tensor, "1 kx"]]:
        """Return the angular wavenumbers with the Nyquist entries zero: the multipliers of odd derivatives.

        A Nyquist mode of a real field has no odd derivative.

        Returns
        -------
        ky : Tensor
            Shape (ny, 1), float64, in 1/m.
        kx : Tensor
            Shape (1, nx // 2 + 1), float64, in 1/m.
        """
        ky, kx = self.wavenumbers()
        ky, kx = ky.clone(), kx.clone()
        ky[self.n[0] // 2], kx[:, self.n[1] // 2] = 0, 0
        return ky, kx

    def modes(self) -> tuple[Float[Tensor, "ny 1"], Float[Tensor, "1 kx"]]:
        """Return the magnitudes of the mode numbers of `torch.fft.rfft2`: whole waves across the box.

        Returns
        -------
        my : Tensor
            Shape (ny, 1), float64.
        mx : Tensor
            Shape (1, nx // 2 + 1), float64.
        """
        (ny, nx) = self.n
        my = torch.fft.fftfreq(ny, 1 / ny, dtype=torch.float64).abs().round()
        return my[:, None], torch.fft.rfftfreq(nx, 1 / nx, dtype=torch.float64).round()[None, :]

    @property
    def max_modes(self) -> tuple[int, int]:
        """Largest mode numbers (y, x) by the two-thirds rule.

        With mode numbers of at most (n − 1) // 3 on each axis, products of two fields alias onto none of these modes.
        """
        return (self.n[0] - 1) // 3, (self.n[1] - 1) // 3

    def retained(self, modes: tuple[int, int] | None = None) -> Bool[Tensor, "ny kx"]:
        """Return which modes of `torch.fft.rfft2` are retained.

        Parameters
        ----------
        modes : tuple of int, optional
            Largest mode numbers (y, x); by default `max_modes`, those of the two-thirds rule.

        Returns
        -------
        Tensor
            Boolean, shape (ny, nx // 2 + 1).
        """
        my, mx = self.modes()
        most_y, most_x = modes or self.max_modes
        return (my <= most_y) & (mx <= most_x)


def resample(field: Float[Tensor, "*batch y x"], source: Grid, target: Grid) -> Float[Tensor, "*batch y2 x2"]:
    """Evaluate band-limited fields at the cell centres of another grid of the same box, coarser or finer.

    The Fourier coefficients are truncated or padded and multiplied by exp(i k·(Δ_target − Δ_source)/2), since the
    first cell centres of two grids lie at different places; the Nyquist modes of the coarser grid are dropped. Striding
    instead would alias, and without the shift the fields would be displaced.

    Parameters
    ----------
    field : Tensor
        Shape (..., y, x).
    source : Grid
        The grid of the fields.
    target : Grid
        The other grid.

    Returns
    -------
    Tensor
        Shape (..., y, x) on the other grid.

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
    if tuple(field.shape[-2:]) != source.n:
        raise ValueError(f"the field must be on the source grid, (..., {source.n[0]}, {source.n[1]}); "
                         f"got {tuple(field.shape)}")  # fmt: skip
    if source == target:
        return field
    if not all(math.isclose(a, b, rel_tol=1e-12) for a, b in zip(source.length, target.length, strict=True)):
        raise ValueError(f"the two grids must be of the same box: their sides are {source.length} and {target.length}")
    coefficients = torch.fft.rfft2(field)
    my, mx = (min(a, b) // 2 - 1 for a, b in zip(source.n, target.n, strict=True))
    shape = (*field.shape[:-2], target.n[0], target.n[1] // 2 + 1)
    out = coefficients.new_zeros(shape)
    out[..., : my + 1, : mx + 1] = coefficients[..., : my + 1, : mx + 1]
    out[..., -my:, : mx + 1] = coefficients[..., -my:, : mx + 1]
    out = out * _centre_phase(target, source).to(out)
    return torch.fft.irfft2(out, s=target.n) * (math.prod(target.n) / math.prod(source.n))


def sample_modes(coefficients: Tensor, grid: Grid) -> Float[Tensor, "batch y x"]:
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
        Shape (batch, y, x).
    """
    return torch.fft.irfft2(place_modes(coefficients, grid), s=grid.n, norm="forward")


def place_modes(coefficients: Tensor, grid: Grid) -> Tensor:
    """Return the spectrum, on a grid, of Fourier series Σ_m a_m exp(i k_m·x).

    Parameters
    ----------
    coefficients : Tensor
        The coefficients a_m for my = −My … My and mx = 0 … Mx, complex, shape (batch, 2 My + 1, Mx + 1). The modes with
        mx < 0 are the complex conjugates; in the column mx = 0 the coefficients must already be conjugate.
    grid : Grid
        The grid.

    Returns
    -------
    Tensor
        Coefficients of `torch.fft.rfft2` with ``norm="forward"``, shape (batch, ny, nx // 2 + 1).

    Raises
    ------
    ValueError
        If the two-thirds rule of the grid does not retain all of the modes: a solver would drop the others.
    """
    batch, rows, columns = coefficients.shape
    my, mx = rows // 2, columns - 1
    if my > grid.max_modes[0] or mx > grid.max_modes[1]:
        raise ValueError(f"grid of n = {_show(grid.n)} is too coarse for modes up to ({my}, {mx}); take a larger n")
    out = coefficients.new_zeros(batch, grid.n[0], grid.n[1] // 2 + 1)
    out[:, : my + 1, : mx + 1] = coefficients[:, my:]
    out[:, grid.n[0] - my :, : mx + 1] = coefficients[:, :my]
    ky, kx = grid.wavenumbers()
    return out * torch.exp(0.5j * (ky * grid.spacing[0] + kx * grid.spacing[1])).to(coefficients)


def _centre_phase(target: Grid, source: Grid) -> Tensor:
    """Return the factor of each mode that moves samples from one grid's cell centres to the other's."""
    ky, kx = target.wavenumbers()
    shift_y, shift_x = (0.5 * (a - b) for a, b in zip(target.spacing, source.spacing, strict=True))
    return torch.exp(1j * (ky * shift_y + kx * shift_x))


def _pair(value, name: str) -> tuple:
    if isinstance(value, Sequence):
        if len(value) != 2:
            raise ValueError(f"{name} must be one number or [y, x] (got {list(value)})")
        return tuple(value)
    return value, value


def _show(pair: tuple) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"[{pair[0]}, {pair[1]}]"
