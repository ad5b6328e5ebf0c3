"""A forcing of the large scales that feeds energy at a fixed rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from solvers.validation import require_positive


@final
@dataclass(frozen=True)
class FixedPowerForcing:
    r"""A body force along the large-scale velocity, which feeds energy at a fixed rate.

    .. math:: f = \frac{P}{2 E_<} \, u_<, \qquad E_< = \tfrac{1}{2} \langle |u_<|^2 \rangle

    :math:`u_<` holds the modes with 0 < \|k\| ≤ `wavenumber`. The force feeds ⟨u·f⟩ = P whatever the flow does, so that
    the energy follows dE/dt = P − 2νZ − 2μE and settles where viscosity and drag take what is fed. It turns with the
    flow: a forced flow keeps every symmetry of the box. A force u_< with a fixed coefficient in place of P/(2E_<) lets
    the energy grow without bound as long as the large scales do not hand on what they are fed.

    A flow that has no energy in those modes is not forced. Sources: Ghosal, Lund, Moin & Akselvoll 1995,
    doi:10.1017/S0022112095000711; Machiels 1997, doi:10.1103/PhysRevLett.79.3411.

    Parameters
    ----------
    power : float
        The rate P at which energy is fed, in m²/s³.
    wavenumber : float
        The largest forced \|k\|, in waves across the shorter side of the box.

    Raises
    ------
    ValueError
        If a number is not positive, or `wavenumber` is below 1, so that no mode would be forced.
    """

    power: float
    wavenumber: float = 2.5

    def __post_init__(self) -> None:
        require_positive(power=self.power, wavenumber=self.wavenumber)
        if self.wavenumber < 1:
            raise ValueError(f"wavenumber must be at least 1, so that a mode is forced (got {self.wavenumber})")
