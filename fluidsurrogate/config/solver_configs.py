"""The tables for classical solvers: the one that generates data, the one in a hybrid, and baselines of a comparison."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from fluidsurrogate.config.base import Config
from solvers import Grid
from solvers.backends import AUTO, check_backend_name

Positive = Annotated[float, Field(gt=0)]


class SolverConfig(Config):
    """The table `[solver]`: how the classical solver steps in time.

    Parameters
    ----------
    order : {2, 4}
        Order of the time integrator: ETDRK2 or ETDRK4.
    dt : float, optional
        The inner time step, in s. By default it is chosen by a CFL bound.
    kernel : str
        The back end that computes the inner steps, "auto" or a name in `solvers.backends`.
    """

    order: Literal[2, 4] = 4
    dt: Positive | None = None
    kernel: Annotated[str, AfterValidator(check_backend_name)] = AUTO


class CoarseSolverConfig(SolverConfig):
    """The table `[models.NAME.solver]`: the coarse solver that a hybrid corrects.

    Parameters
    ----------
    order : {2, 4}
        Order of the time integrator: ETDRK2 or ETDRK4.
    dt : float, optional
        The inner time step, in s. By default it is chosen by a CFL bound.
    kernel : str
        The back end that computes the inner steps, "auto" or a name in `solvers.backends`.
    n : int or tuple of int, optional
        Number of cells, one number, (y, x) or (z, y, x). By default 3/2 of the stored grid's, on which the two-thirds
        rule retains every mode of the stored states. On the stored grid itself it would drop a third of them.
    """

    n: int | tuple[int, ...] | None = None


class BaselineSolverConfig(SolverConfig):
    """The table `[[compare.solvers]]`: a classical solver that a comparison scores beside the models.

    Parameters
    ----------
    order : {2, 4}
        Order of the time integrator: ETDRK2 or ETDRK4.
    dt : float, optional
        The inner time step, in s. By default it is chosen by a CFL bound.
    kernel : str
        The back end that computes the inner steps, "auto" or a name in `solvers.backends`.
    n : int or tuple of int, optional
        Number of cells, one number, (y, x) or (z, y, x). By default those of the stored grid.
    """

    n: int | tuple[int, ...] | None = None

    def name(self, stored: Grid) -> str:
        """Return the name of this solver in a comparison, such as solver-48, solver-48-etdrk2 or solver-48-dt0.05.

        Parameters
        ----------
        stored : Grid
            The grid of the stored states.

        Returns
        -------
        str
            The name.
        """
        n = Grid.box(self.n or stored.n, stored.length).n
        order = "" if self.order == 4 else f"-etdrk{self.order}"
        step = "" if self.dt is None else f"-dt{self.dt:g}"
        return f"solver-{n[0] if len(set(n)) == 1 else 'x'.join(map(str, n))}{order}{step}"
