"""Diagnostics refuse fields of another shape, which would broadcast to numbers of something else.

In a process of its own: under the tests jaxtyping checks every annotation, and a user has no such checks.
"""

import subprocess
import sys

import pytest

CASES = {
    "velocity of vorticity and tracer": "diagnostics.velocity(w.expand(2, 2, 16, 16), grid)",
    "velocity of fields without components": "diagnostics.velocity(w[:, 0], grid)",
    "velocity on another grid": "diagnostics.velocity(w, Grid.square(24))",
    "pressure of a state": "diagnostics.pressure(w.expand(2, 2, 16, 16), grid)",
    "stream function of a state": "diagnostics.stream_function(w.expand(2, 2, 16, 16), grid)",
    "vorticity of vorticity": "diagnostics.vorticity(w, grid)",
    "spectrum of a state": "spectra.energy_spectrum(w.expand(2, 2, 16, 16), side)",
    "spectrum of fields without components": "spectra.energy_spectrum(w[:, 0], side)",
    "cospectrum with a forcing a trajectory, without components": "spectra.cospectrum(w, w[:, 0], side)",
    "enstrophy of a state": "spectra.enstrophy(w.expand(2, 2, 16, 16))",
    "advection of a state": "spectra.advection(w.expand(2, 2, 16, 16), side)",
    "Reynolds number by a solver's input": "turbulence.reynolds_number(w, side, nu)",
    "dissipation by a solver's input": "turbulence.dissipation_wavenumber(w, side, nu)",
    "budget by a solver's input": "turbulence.mean_energy_budget(w, side, nu)",
    "budget of enstrophy by a solver's drag": "turbulence.mean_enstrophy_budget(w, side, 0.1, nu)",
    "budget with a forcing without components": "turbulence.mean_enstrophy_budget(w, side, 0.1, 0.0, w[:, 0])",
    "resampled from another grid": "resample(w, Grid.square(24), grid)",
}
SCRIPT = """
import torch
from solvers import Grid, diagnostics, resample, spectra, turbulence
grid = Grid.square(16)
side, w, nu = grid.length, torch.randn(2, 1, 16, 16), torch.full((2, 1, 1, 1), 0.1)
assert turbulence.reynolds_number(w, side, nu.flatten()).shape == (2,)
assert turbulence.mean_energy_budget(w, side, torch.tensor(0.1), 0.1, w[0, 0]).rate.shape == (2,)
for case in {cases!r}:
    try:
        made = eval(case)
    except ValueError as error:
        print("refused", error)
    else:
        print("made", getattr(made, "shape", made))
"""


@pytest.fixture(scope="module")
def answers():
    script = SCRIPT.format(cases=list(CASES.values()))
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return dict(zip(CASES, made.stdout.splitlines(), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_another_shape_is_refused(answers, case):
    assert answers[case].startswith("refused")
    assert "got (2, " in answers[case]
