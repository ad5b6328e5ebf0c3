"""The incompressible Navier–Stokes equations in three dimensions, pseudo-spectral, in velocity form: a Stepper."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from solvers.array_types import Vector
from solvers.backends import AUTO
from solvers.equation import TransportedScalar
from solvers.fields import VELOCITY
from solvers.fixed_power_forcing import FixedPowerForcing
from solvers.grid import Grid
from solvers.navier_stokes import NavierStokes
from solvers.stochastic_forcing import StochasticForcing
from solvers.validation import require_dimensions
from solvers.velocity_equation import VelocityEquation


@final
class NavierStokes3D(NavierStokes):
    r"""A pseudo-spectral solver of the three-dimensional Navier–Stokes equations on a periodic box.

    .. math:: \partial_t u + u \cdot \nabla u = -\nabla p + \nu \nabla^2 u - \mu u + f, \qquad \nabla \cdot u = 0

    for the velocity u, and the terms that `solvers.velocity_equation` adds for a transported scalar. The linear terms
    are integrated exactly, by exponential time differencing (see `solvers.etdrk`). Called on a state of shape
    (batch, component, z, y, x), the components x, y and z of the velocity and then the scalar if there is one, the
    solver returns the state one `interval` later. Modes beyond the retained ones are dropped, and so is the part of a
    velocity that has divergence. The solution is differentiable with respect to state and inputs. A state that is not
    finite stays as it is.

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
        has the longest step that divides it and keeps ``Δt · max(|u|/Δx + |v|/Δy + |w|/Δz)`` below the bound of the
        scheme, planned once an interval, as in `solvers.NavierStokes2D`.
    drag : float
        Linear drag μ ≥ 0, in 1/s; it acts on the mean of the velocity too.
    forcing : Tensor, optional
        The body force f at the cell centres, with components x, y and z, shape (3, z, y, x), in m/s²: the default of
        the input ``forcing``. Its gradient part changes the pressure and not the flow.
    scalar : TransportedScalar, optional
        A scalar beside the velocity, with its diffusivity, mean gradient and gravity.
    mean_velocity : tuple of float, optional
        A uniform velocity (x, y, z) that advects everything and is not part of the state, in m/s.
    stochastic_forcing : StochasticForcing, optional
        Random forcing of the velocity, white in time; its seeds are given to `start`.
    power_forcing : FixedPowerForcing, optional
        A forcing of the large scales that feeds energy at a fixed rate.
    varying : sequence of str
        Which of ``viscosity``, ``drag`` and ``diffusivity`` are inputs, one value a trajectory; the numbers given here
        are then defaults. Forcing, gravity, mean gradient and mean velocity are inputs wherever they are given.
    modes : tuple of int, optional
        Largest retained mode numbers (mz, my, mx); by default all that the two-thirds rule allows.
    order : int
        Order of the time integration: 4 (ETDRK4) or 2 (ETDRK2).
    checkpoint_every : int, optional
        With gradients, keep only every so many inner steps in memory and compute the others again.
    backend : str
        What computes the inner steps, see `solvers.NavierStokes2D`.
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
    power_forcing : FixedPowerForcing or None
        The forcing of the large scales.

    Raises
    ------
    ValueError
        If a number is out of range, `dt` does not divide `interval`, a back end is not available, or (at `start` and
        `advance`) if the flow needs more than 100,000 inner steps an interval, or outgrows them.

    Examples
    --------
    A Beltrami flow, whose vorticity is its velocity, decays as exp(−νt) and keeps its form.

    >>> import torch
    >>> from solvers import Grid, NavierStokes3D
    >>> grid = Grid.cube(8)
    >>> z, y, x = torch.broadcast_tensors(*grid.mesh())
    >>> sin, cos = torch.sin, torch.cos
    >>> velocity = torch.stack([sin(z) + cos(y), sin(x) + cos(z), sin(y) + cos(x)])[None]
    >>> solver = NavierStokes3D(grid, viscosity=0.1, interval=1.0, dtype=torch.float64, backend="torch")
    >>> torch.allclose(solver(velocity), velocity * torch.exp(torch.tensor(-0.1)), rtol=1e-6)
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
        forcing: Float[Tensor, "*force"] | None = None,
        scalar: TransportedScalar | None = None,
        mean_velocity: Vector | None = None,
        stochastic_forcing: StochasticForcing | None = None,
        power_forcing: FixedPowerForcing | None = None,
        varying: Sequence[str] = (),
        modes: tuple[int, ...] | None = None,
        order: int = 4,
        checkpoint_every: int | None = None,
        backend: str = AUTO,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        require_dimensions("NavierStokes3D", grid, 3, "take NavierStokes2D")
        self.power_forcing = power_forcing
        super().__init__(
            partial(VelocityEquation, power_forcing=power_forcing),
            VELOCITY,
            grid,
            viscosity=viscosity,
            interval=interval,
            dt=dt,
            drag=drag,
            forcing=forcing,
            scalar=scalar,
            mean_velocity=mean_velocity,
            stochastic_forcing=stochastic_forcing,
            plates=False,
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
        power = " + (P / 2 E_low) u_low" if self.power_forcing else ""
        sources = self._sources_text(buoyancy=" - g theta")
        return f"div(u) = 0; du/dt + u.grad(u) = -grad(p) + nu laplacian(u) - mu u{power}{sources}"
