"""Steady two-dimensional turbulence at 512²: the flow `stirred`, its time-averaged spectra, fluxes and balances.

Random forcing on a ring of wavenumbers |k| = 4 ± 1 feeds energy at the rate ε and enstrophy at η = Σ k² ε_k. The energy
goes to larger scales and is taken by drag, the enstrophy to smaller ones and is taken by viscosity (Kraichnan 1967,
doi:10.1063/1.1762301). The run is spun up on 128² and 256² cells with a viscosity in proportion to 1/n², then on 512².
It is kept after every time unit and goes on from there.

    python experiments/solver_verification/turbulence_run.py        # writes turbulence.nc beside itself
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from solvers import FLOWS, Grid, NavierStokes2D, resample, spectra
from solvers.stochastic_forcing import ring_amplitude

HERE = Path(__file__).parent
KEPT = HERE / "runs" / "turbulence.pt"
N, VISCOSITY, DRAG, RATE, RING, SEED = 512, 2e-4, 0.03, 0.1, (4.0, 1.0), 0
INTERVAL = 0.5
STAGES = [(128, 80.0), (256, 110.0), (512, 125.0), (512, 185.0)]  # cells on a side, until when; the last is averaged
BLOCKS = 4
SERIES = ("energy", "enstrophy", "palinstrophy", "injected_energy", "injected_enstrophy")


def solver(n: int) -> NavierStokes2D:
    """The flow on n² cells, float32."""
    flow = FLOWS[2]["stirred"](
        viscosity=VISCOSITY * (N / n) ** 2, drag=DRAG, rate=RATE, wavenumber=RING[0], bandwidth=RING[1], renewal=0.02
    )
    return flow.solver(Grid.square(n), interval=INTERVAL)


def enstrophy_rate() -> float:
    """η, the expected rate at which the ring feeds enstrophy: ½ Σ E|σ_k|²."""
    sides = Grid.square(N).length
    amplitude = ring_amplitude(*RING, RATE, sides)
    weight = np.where(np.arange(amplitude.shape[1]) > 0, 2.0, 1.0)
    return float(0.5 * (weight * amplitude**2).sum())


def measure(state: torch.Tensor, injected: torch.Tensor) -> dict[str, np.ndarray]:
    """Numbers and spectra of one state, in float64."""
    w, sides = state.double(), Grid.square(N).length
    series = [spectra.kinetic_energy(w, sides), spectra.enstrophy(w), spectra.palinstrophy(w, sides), *injected.T]
    kept = {name: np.asarray(value[0]) for name, value in zip(SERIES, series, strict=True)}
    made = {"E": spectra.energy_spectrum, "Pi_E": spectra.energy_flux, "Pi_Z": spectra.enstrophy_flux}
    return kept | {name: function(w, sides)[0].numpy() for name, function in made.items()}


def save(held: dict) -> None:
    """Beside its name, then renamed."""
    KEPT.parent.mkdir(exist_ok=True)
    torch.save(held, KEPT.with_suffix(".part"))
    os.replace(KEPT.with_suffix(".part"), KEPT)


def simulate() -> dict:
    """The whole run, from where it was left."""
    if KEPT.exists():
        held = torch.load(KEPT, weights_only=False)
    else:
        flow = FLOWS[2]["stirred"](viscosity=1.0, wavenumber=RING[0], bandwidth=RING[1], rms=1.0)
        held = {"clock": 0, "state": flow.starts(Grid.square(STAGES[0][0]), [SEED]).float(), "samples": []}
    for number, (n, until) in enumerate(STAGES):
        if held["clock"] * INTERVAL >= until:
            continue
        stepper, average = solver(n), number == len(STAGES) - 1
        state = resample(held["state"].double(), Grid.square(held["state"].shape[-1]), stepper.grid).float()
        carry = replace(stepper.start(state, seeds=[SEED]), clock=held["clock"])
        while carry.intervals_done * INTERVAL < until:
            carry = stepper.advance(carry)
            held |= {"clock": carry.intervals_done, "state": stepper.state(carry)}
            if average:
                held["samples"].append(measure(held["state"], carry.injected))
            if carry.intervals_done % 2 == 0:
                save(held)
                z = float(spectra.enstrophy(held["state"]))
                print(
                    f"{n}^2, t = {carry.intervals_done * INTERVAL:g}, {carry.steps_taken[0]} steps a kick, Z = {z:.3f}",
                    flush=True,
                )
    save(held)
    return held


def dataset(held: dict) -> xr.Dataset:
    """Means over each of four equal parts of the averaged time, numbers against time, and the last state."""
    samples, sides = held["samples"], Grid.square(N).length
    k = spectra.shell_wavenumbers((N, N), sides).numpy()
    clocks = held["clock"] - np.arange(len(samples))[::-1]
    about = {"E": ("energy spectrum", "m2 s-2"), "Pi_E": ("flux of energy to smaller scales", "m2 s-3"),
             "Pi_Z": ("flux of enstrophy to smaller scales", "s-3"), "energy": ("kinetic energy", "m2 s-2"),
             "enstrophy": ("enstrophy", "s-2"), "palinstrophy": ("palinstrophy", "m-2 s-2"),
             "injected_energy": ("energy fed since the time before", "m2 s-2"),
             "injected_enstrophy": ("enstrophy fed since the time before", "s-2")}  # fmt: skip
    kept = {}
    for name, (long_name, units) in about.items():
        values = np.stack([sample[name] for sample in samples])
        if name not in SERIES:
            values = np.stack([part.mean(0) for part in np.array_split(values, BLOCKS)]).astype("float32")
        dims = ("time",) if name in SERIES else ("part", "wavenumber")
        kept[name] = (dims, values, {"long_name": long_name, "units": units})
    snapshot = (("y", "x"), held["state"][0, 0].numpy(), {"long_name": "vorticity at the end", "units": "s-1"})
    attributes = {"title": "Steady two-dimensional turbulence", "n": N, "viscosity": VISCOSITY, "drag": DRAG,
                  "energy_rate": RATE, "enstrophy_rate": enstrophy_rate(), "ring": list(RING), "seed": SEED,
                  "dtype": "float32", "scheme": "ETDRK4", "renewal": 0.02}  # fmt: skip
    y, x = (c.numpy() for c in Grid.square(N).coordinates())
    coordinates = {"wavenumber": k, "time": clocks * INTERVAL, "y": y, "x": x}
    return xr.Dataset(kept | {"vorticity": snapshot}, coordinates, attributes)


def main() -> None:
    """Simulate and write turbulence.nc."""
    torch.set_num_threads(1)
    with torch.no_grad():
        made = dataset(simulate())
    scale = float(np.abs(made.vorticity).max()) / 32000
    compressed = {name: {"zlib": True, "complevel": 9} for name in made.data_vars}
    compressed["vorticity"] |= {"dtype": "int16", "scale_factor": scale, "_FillValue": -32768}
    made.to_netcdf(HERE / "turbulence.part.nc", encoding=compressed)
    os.replace(HERE / "turbulence.part.nc", HERE / "turbulence.nc")


if __name__ == "__main__":
    main()
