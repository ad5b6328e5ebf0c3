"""Energy and enstrophy change by what is fed and what is lost, in a forced, dragged, turbulent flow."""

import numpy as np
import pytest
import torch

from solvers import FLOWS, Grid

GRID, FLOW = Grid.square(32), FLOWS[2]["kolmogorov"](viscosity=1e-2, drag=0.1, waves=2, amplitude=2.0)
STEPS, INTERVAL = 200, 0.005


@pytest.fixture(scope="module")
def spectra():
    """ω̂ over one time unit of the turbulent state, normalised so that Σ|ω̂|² = ⟨ω²⟩; and f̂."""
    state = FLOW.solver(GRID, interval=10.0, dtype=torch.float64)(FLOW.starts(GRID, [0]))
    solver = FLOW.solver(GRID, interval=INTERVAL, dt=INTERVAL, dtype=state.dtype)
    carry, states = solver.start(state), [state]
    for _ in range(STEPS):
        carry = solver.advance(carry)
        states.append(solver.state(carry))
    return (np.fft.fft2(np.stack([s[0, 0].numpy() for s in states])) / 32**2, np.fft.fft2(FLOW.forcing(GRID)) / 32**2)


def simpson(values):
    weights = np.ones(STEPS + 1)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    return float((weights * values).sum() * INTERVAL / 3)


@pytest.mark.parametrize("quantity", ["energy", "enstrophy"])
def test_budget_closes(spectra, quantity):
    """dE/dt = −2νZ − 2μE + ⟨ψf⟩ and dZ/dt = −2νP − 2μZ + ⟨ωf⟩, P = ½⟨|∇ω|²⟩, integrated over a time unit."""
    w, f = spectra
    k = np.fft.fftfreq(32, 1 / 32)
    k2 = k[:, None] ** 2 + k[None, :] ** 2
    k2[0, 0] = np.inf
    weight = 1 / k2 if quantity == "energy" else np.where(np.isinf(k2), 0.0, 1.0)
    k2[0, 0] = 0

    def half(values):
        return 0.5 * (values * np.abs(w) ** 2).sum((1, 2))

    content, loss = half(weight), half(weight * k2)
    fed = (weight * (w.conj() * f).real).sum((1, 2))
    change = content[-1] - content[0]
    budget = simpson(-2 * FLOW.viscosity * loss - 2 * FLOW.drag * content + fed)
    turned_over = simpson(np.abs(fed)) + simpson(2 * FLOW.viscosity * loss)
    assert abs(change - budget) < 1e-6 * turned_over
    assert abs(change - simpson(-2 * FLOW.viscosity * loss + fed)) > 1e-2 * turned_over  # the control: no drag
