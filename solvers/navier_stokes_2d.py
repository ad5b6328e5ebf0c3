"""The incompressible Navier–Stokes equations in two dimensions, pseudo-spectral, in vorticity form: a Stepper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from solvers.array_types import Vector
from solvers.backends import AUTO
from solvers.equation import TransportedScalar
from solvers.fields import VORTICITY
from solvers.grid import Grid
from solvers.navier_stokes import NavierStokes
from solvers.stochastic_forcing import StochasticForcing
from solvers.validation import require_dimensions
from solvers.vorticity_equation import VorticityEquation


@final
class NavierStokes2D(NavierStokes):
    r"""A pseudo-spectral solver of the two-dimensional Navier–Stokes equations on a periodic rectangle.

    .. math:: \partial_t \omega + u \cdot \nabla \omega = \nu \nabla^2 \omega - \mu \omega + f

    for the vorticity :math:`\omega = \partial_x v - \partial_y u`, and the terms that `solvers.vorticity_equation` adds
    for a transported scalar. The linear terms are integrated exactly, by exponential time differencing (see
    `solvers.etdrk`). Called on a state of shape (batch, component, y, x), vorticity and then the scalar if there is
    one, the solver returns the state one `interval` later. Modes beyond the retained ones are dropped. The solution is
    differentiable with respect to state and inputs. A state that is not finite stays as it is.

    Parameters
    ----------
    grid : Grid
        The periodic grid.
    viscosity : float
        Kinematic viscosity ν ≥ 0, in m²/s; as all numbers here, in any consistent units.
    interval : float
        Time between two stored states, in s.
    dt : float, optional
        The inner time step, which must divide `interval`, or the time between two kicks. By default each trajectory
        has the longest step that divides it and keeps ``Δt · max(|u|/Δx + |v|/Δy)`` below the bound of the scheme,
        planned once an interval. A trajectory that outgrows the bound within the interval is computed again from the
        interval's beginning with halved steps, the others are not: none depends on its neighbours in the batch.
    drag : float
        Linear drag μ ≥ 0, in 1/s.
    forcing : Tensor, optional
        The curl f of the body force at the cell centres, shape (y, x), in 1/s²: the default of the input ``forcing``.
    scalar : TransportedScalar, optional
        A scalar beside the vorticity, with its diffusivity, mean gradient and gravity.
    mean_velocity : tuple of float, optional
        A uniform velocity (x, y) that advects everything, in m/s.
    stochastic_forcing : StochasticForcing, optional
        Random forcing, white in time; its seeds are given to `start`.
    plates : bool
        Whether the box is a layer between free-slip plates at y = 0 and half its height, together with its mirror
        image: all fields are kept odd about the plates.
    varying : sequence of str
        Which of ``viscosity``, ``drag`` and ``diffusivity`` are inputs, one value a trajectory; the numbers given here
        are then defaults. Forcing, gravity, mean gradient and mean velocity are inputs wherever they are given.
    modes : tuple of int, optional
        Largest retained mode numbers (my, mx); by default all that the two-thirds rule allows.
    order : int
        Order of the time integration: 4 (ETDRK4) or 2 (ETDRK2).
    checkpoint_every : int, optional
        With gradients, keep only every so many inner steps in memory and compute the others again.
    backend : str
        What computes the inner steps, all to the same numbers up to rounding: ``"torch"``, PyTorch operations one by
        one; ``"native"``, C++ for a CPU, compiled when it is first needed, about 3 to 8 times as fast, with gradients
        in C++ too, and replaced by PyTorch operations in forward-mode differentiation and function transforms;
        ``"compile"``, `torch.compile`; ``"graph"``, CUDA graphs, with a fixed `dt`; ``"auto"``, native on a CPU with a
        C++ compiler and PyTorch operations elsewhere.
    dtype : torch.dtype
        Precision, `torch.float32` or `torch.float64`.
    device : torch.device or str, optional
        Where to compute; by default on the CPU.

    Attributes
    ----------
    spec : StateSpec
        Grid, fields, interval and inputs.
    scheme : type of Integrator
        The time integration scheme.
    step_control : StepSizeController
        How many inner steps each trajectory takes.

    Raises
    ------
    ValueError
        If a number is out of range, `dt` does not divide `interval`, a back end is not available, or (at `start` and
        `advance`) if the flow needs more than 100,000 inner steps an interval, or outgrows them.

    Examples
    --------
    Taylor–Green vortices decay as exp(−2νt) and do not move.

    >>> import torch
    >>> from solvers import Grid, NavierStokes2D
    >>> grid = Grid.square(16)
    >>> y, x = grid.coordinates()
    >>> vorticity = (2 * torch.cos(x)[None, :] * torch.cos(y)[:, None])[None, None]
    >>> solver = NavierStokes2D(grid, viscosity=0.1, interval=1.0, dtype=torch.float64, backend="torch")
    >>> torch.allclose(solver(vorticity), vorticity * torch.exp(torch.tensor(-0.2)), rtol=1e-6)
    True
    """

    def __init__(
        self,
        grid: Grid,
        *,
        viscosity: float,
        interval: float,
        dt: float | None = None,
        drag: float = 0.0,
        forcing: Float[Tensor, "y x"] | None = None,
        scalar: TransportedScalar | None = None,
        mean_velocity: Vector | None = None,
        stochastic_forcing: StochasticForcing | None = None,
        plates: bool = False,
        varying: Sequence[str] = (),
        modes: tuple[int, ...] | None = None,
        order: int = 4,
        checkpoint_every: int | None = None,
        backend: str = AUTO,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        require_dimensions("NavierStokes2D", grid, 2, "take NavierStokes3D")
        super().__init__(
            VorticityEquation,
            VORTICITY,
            grid,
            viscosity=viscosity,
            interval=interval,
            dt=dt,
            drag=drag,
            forcing=forcing,
            scalar=scalar,
            mean_velocity=mean_velocity,
            stochastic_forcing=stochastic_forcing,
            plates=plates,
            varying=varying,
            modes=modes,
            order=order,
            checkpoint_every=checkpoint_every,
            backend=backend,
            dtype=dtype,
            device=device,
        )

    @property
    def equation(self) -> str:
        sources = self._sources_text(buoyancy=" - curl(g theta)")
        return f"d(omega)/dt + u.grad(omega) = nu laplacian(omega) - mu omega{sources}"
