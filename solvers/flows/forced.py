"""The two flows with a steady forcing on which neural operators are compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from solvers.array_types import ScalarField
from solvers.flows.base import FlowExample, flow, is_whole, shifts
from solvers.flows.initial_conditions import require_resolution
from solvers.flows.tracer import FlowWithTracer
from solvers.grid import Grid, sample_modes
from solvers.point_groups import C1, C4
from solvers.random_modes import gaussian_modes, mode_numbers
from solvers.symmetry import Group
from solvers.validation import require_one_of, require_positive


def diagonal(y: Tensor, x: Tensor) -> Tensor:
    """Return the pattern sin 2π(x + y) + cos 2π(x + y).

    Parameters
    ----------
    y, x : Tensor
        Coordinates as fractions of the box, broadcastable.

    Returns
    -------
    Tensor
        The pattern.
    """
    return torch.sin(2 * math.pi * (x + y)) + torch.cos(2 * math.pi * (x + y))


def cells(y: Tensor, x: Tensor) -> Tensor:
    """Return the pattern cos 4πx + cos 4πy.

    Parameters
    ----------
    y, x : Tensor
        Coordinates as fractions of the box, broadcastable.

    Returns
    -------
    Tensor
        The pattern.
    """
    return torch.cos(4 * math.pi * x) + torch.cos(4 * math.pi * y)


PATTERNS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"diagonal": diagonal, "cells": cells}
FIELDS = ("published", "paper")


@flow("forced")
@final
@dataclass(frozen=True, kw_only=True)
class Forced(FlowWithTracer):
    r"""A flow on the unit square with a steady forcing: the benchmarks of Fourier neural operators.

    .. math:: \partial_t \omega + u \cdot \nabla \omega = \nu \nabla^2 \omega - \mu \omega + f

    ``pattern="diagonal"``: f = A (sin 2π(x + y) + cos 2π(x + y)) (Li et al. 2021, arXiv:2010.08895). Point group C1,
    since a vorticity forcing is a pseudoscalar. Translations: those with a whole x + y.

    ``pattern="cells"``: f = A (cos 4πx + cos 4πy) (Helwig et al. 2023, arXiv:2306.05697). Point group C4; its mirrors
    only together with a shift by (¼, ¼). Translations: half boxes.

    The initial vorticity is a Gaussian random field, by the paper N(0, 7^{3/2} (−Δ + 49)^{−5/2}). The generator that
    was published with the data has the amplitude √2 · 7^{3/2} in place of 7^{3/4}: a root mean square of 0.262, not
    0.043. Good values: box 1, A = 0.1, ν = 1e-3, 1e-4 or 1e-5, 64² cells and more.

    Parameters
    ----------
    viscosity : float
        Kinematic viscosity ν > 0, in m²/s.
    drag : float
        Linear drag μ ≥ 0, in 1/s.
    mean_velocity : tuple of float
        A uniform velocity (x, y) that advects everything, in m/s.
    spin_up : float
        Time that the solver runs before the first stored state, in s.
    tracer : Tracer, optional
        A passive tracer; None: none.
    pattern : str
        The forcing, ``"diagonal"`` or ``"cells"``.
    amplitude : float
        Amplitude A of the forcing, in 1/s².
    field : str
        The initial vorticity, ``"published"`` (with the data) or ``"paper"``.
    modes : int
        Largest mode number of the initial vorticity on each axis; the rest of its variance, 1e-4 beyond 10, is left
        out.
    """

    pattern: str = "diagonal"
    amplitude: float = 0.1
    field: str = "published"
    modes: int = 10

    examples: ClassVar[tuple[FlowExample, ...]] = (
        FlowExample({"viscosity": 1e-3, "amplitude": 1.0}, label="diagonal", side=1.0),
        FlowExample({"viscosity": 1e-3, "amplitude": 1.0, "pattern": "cells"}, label="cells", side=1.0),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(amplitude=self.amplitude, modes=self.modes)
        require_one_of("pattern", self.pattern, tuple(PATTERNS))
        require_one_of("field", self.field, FIELDS)

    @property
    def group_without_vectors(self) -> Group:
        return C4 if self.pattern == "cells" else C1

    def translations(self, grid: Grid) -> Bool[Tensor, "y x"]:
        rows, columns = shifts(grid)
        if self.pattern == "cells":
            return is_whole(2 * rows) & is_whole(2 * columns)
        return is_whole(rows + columns)

    def initial_flow(self, grid: Grid, seeds: Sequence[int]) -> ScalarField:
        require_resolution(grid, self.modes)
        rows, columns = mode_numbers(self.modes, self.modes)
        k2 = (2 * math.pi * rows / grid.length[0]) ** 2 + (2 * math.pi * columns / grid.length[1]) ** 2
        scale = math.sqrt(2) * 7**1.5 if self.field == "published" else 7**0.75
        amplitude = scale * (k2 + 49) ** -1.25 / math.sqrt(2)
        amplitude[self.modes, 0] = 0.0
        return sample_modes(torch.from_numpy(gaussian_modes(amplitude, seeds)), grid)[:, None]

    def forcing(self, grid: Grid) -> Float[Tensor, "y x"]:
        y, x = (c / side for c, side in zip(grid.coordinates(), grid.length, strict=True))
        return self.amplitude * PATTERNS[self.pattern](y[:, None], x[None, :])
