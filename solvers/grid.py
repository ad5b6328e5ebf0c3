"""Periodic, cell-centred grids and exact transfer between them.

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
    """A periodic rectangle with `n` cells and side `length`, each as (y, x).

    Every n is even, at least 8 and at most 65536, every length from 1e-30 to 1e30. Raises ValueError otherwise.
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
        """n × n cells on a square of side `length`."""
        return cls((n, n), (length, length))

    @classmethod
    def rectangle(cls, n: int | Sequence[int], length: float | Sequence[float] = 2 * math.pi) -> Grid:
        """`n` and `length` each as one number or as [y, x]."""
        return cls(_pair(n, "n"), _pair(length, "length"))

    @property
    def spacing(self) -> tuple[float, float]:
        """(Δy, Δx)."""
        return self.length[0] / self.n[0], self.length[1] / self.n[1]

    @property
    def is_square(self) -> bool:
        """True where a quarter turn maps the grid onto itself: equal cells and equal sides."""
        return self.n[0] == self.n[1] and math.isclose(self.length[0], self.length[1], rel_tol=1e-12)

    # All of these are float64 on the CPU: made once, and moved by whoever keeps them.

    def coordinates(self) -> tuple[Float[Tensor, " y"], Float[Tensor, " x"]]:
        """Cell centres y (ny,) and x (nx,)."""
        (ny, nx), (dy, dx) = self.n, self.spacing
        return (torch.arange(ny, dtype=torch.float64) + 0.5) * dy, (torch.arange(nx, dtype=torch.float64) + 0.5) * dx

    def wavenumbers(self) -> tuple[Float[Tensor, "ny 1"], Float[Tensor, "1 kx"]]:
        """Angular wavenumbers (ky, kx) of `torch.fft.rfft2`, float64, broadcastable to (ny, nx // 2 + 1)."""
        (ny, nx), (dy, dx) = self.n, self.spacing
        ky = 2 * math.pi * torch.fft.fftfreq(ny, dy, dtype=torch.float64)
        kx = 2 * math.pi * torch.fft.rfftfreq(nx, dx, dtype=torch.float64)
        return ky[:, None], kx[None, :]

    def odd_wavenumbers(self) -> tuple[Float[Tensor, "ny 1"], Float[Tensor, "1 kx"]]:
        """As `wavenumbers`, the Nyquist entries zero: what an odd derivative of a real field multiplies by."""
        ky, kx = self.wavenumbers()
        ky, kx = ky.clone(), kx.clone()
        ky[self.n[0] // 2], kx[:, self.n[1] // 2] = 0, 0
        return ky, kx

    def modes(self) -> tuple[Float[Tensor, "ny 1"], Float[Tensor, "1 kx"]]:
        """Mode numbers |my| and |mx| of `torch.fft.rfft2`: whole waves across the box."""
        (ny, nx) = self.n
        my = torch.fft.fftfreq(ny, 1 / ny, dtype=torch.float64).abs().round()
        return my[:, None], torch.fft.rfftfreq(nx, 1 / nx, dtype=torch.float64).round()[None, :]

    @property
    def max_modes(self) -> tuple[int, int]:
        """The two-thirds rule: with |m| ≤ (n − 1) // 3 on each axis, products alias onto none of these modes."""
        return (self.n[0] - 1) // 3, (self.n[1] - 1) // 3

    def retained(self, modes: tuple[int, int] | None = None) -> Bool[Tensor, "ny kx"]:
        """Which modes have |my| and |mx| of at most `modes`; by default all that the two-thirds rule allows."""
        my, mx = self.modes()
        most_y, most_x = modes or self.max_modes
        return (my <= most_y) & (mx <= most_x)


def resample(field: Float[Tensor, "*batch y x"], source: Grid, target: Grid) -> Float[Tensor, "*batch y2 x2"]:
    """The band-limited function behind `field`, evaluated at the cell centres of `target` (coarser or finer).

    Coefficients are cut or padded and multiplied by exp(i k·(Δ_target − Δ_source)/2), since the first cell centres of
    two grids lie at different places; the Nyquist modes of the coarser grid are dropped. Striding instead would alias,
    and omitting the shift would displace the field. Raises ValueError where the boxes differ, or the field is not on
    the source grid.
    """
    if tuple(field.shape[-2:]) != source.n:
        raise ValueError(f"the field must be on the source grid, (..., {source.n[0]}, {source.n[1]}); "
                         f"got {tuple(field.shape)}")  # fmt: skip
    if source == target:
        return field
    if not all(math.isclose(a, b, rel_tol=1e-12) for a, b in zip(source.length, target.length, strict=True)):
        raise ValueError(f"resample keeps the box: {source.length} is not {target.length}")
    coefficients = torch.fft.rfft2(field)
    my, mx = (min(a, b) // 2 - 1 for a, b in zip(source.n, target.n, strict=True))
    shape = (*field.shape[:-2], target.n[0], target.n[1] // 2 + 1)
    out = coefficients.new_zeros(shape)
    out[..., : my + 1, : mx + 1] = coefficients[..., : my + 1, : mx + 1]
    out[..., -my:, : mx + 1] = coefficients[..., -my:, : mx + 1]
    out = out * _centre_phase(target, source).to(out)
    return torch.fft.irfft2(out, s=target.n) * (math.prod(target.n) / math.prod(source.n))


def sample_modes(coefficients: Tensor, grid: Grid) -> Float[Tensor, "batch y x"]:
    """Evaluate Σ_m a_m exp(i k_m·x) at the cell centres, for any grid that resolves the modes: see `place_modes`."""
    return torch.fft.irfft2(place_modes(coefficients, grid), s=grid.n, norm="forward")


def place_modes(coefficients: Tensor, grid: Grid) -> Tensor:
    """The half spectrum (batch, ny, nx // 2 + 1), normalised "forward", of Σ_m a_m exp(i k_m·x) at the cell centres.

    `coefficients` (batch, 2M + 1, K + 1), complex: my = −M … M, mx = 0 … K. The modes with mx < 0 are the complex
    conjugates, those of the column mx = 0 must already be. Raises ValueError where the two-thirds rule of the grid does
    not retain them all: a solver would drop the others.
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
