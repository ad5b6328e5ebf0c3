"""The energy of a flow changes as its budget says: measured along trajectories of the solver."""

import matplotlib.pyplot as plt
import torch
from style import BLUE, GREY, ORANGE, save

from fluidsurrogate import rollout
from solvers import Grid
from solvers.flows import FLOWS
from solvers.spectra import kinetic_energy
from solvers.turbulence import mean_energy_budget

grid, interval, steps = Grid.square(96), 0.125, 80
flows = {
    "decaying turbulence": FLOWS[2]["decaying"](viscosity=6e-3, rms=3),
    "Kolmogorov flow": FLOWS[2]["kolmogorov"](viscosity=1e-2, rms=2),
}
figure, axes = plt.subplots(1, 2, figsize=(8.8, 3.1))
for panel, (name, flow) in zip(axes, flows.items(), strict=True):
    solver = flow.solver(grid, interval=interval, dtype=torch.float64)
    states = rollout(solver, flow.starts(grid, [2]), steps)[0]
    forcing = flow.forcing(grid)
    energy = kinetic_energy(states, grid.length)
    budget = mean_energy_budget(states, grid.length, flow.viscosity, flow.drag, forcing)
    time = interval * torch.arange(steps + 1)
    middle, measured = time[:-1] + interval / 2, energy.diff() / interval
    panel.plot(time, budget.injection, color=ORANGE, linewidth=1, label="W, from the forcing")
    panel.plot(time, -budget.dissipation, color=BLUE, linewidth=3, alpha=0.5, label="−2νZ, to viscosity")
    panel.plot(time, -budget.drag, color=GREY, linewidth=1, label="−2μE, to drag")
    panel.plot(time, budget.rate, color="black", linewidth=1.6, label="their sum")
    panel.plot(middle[::4], measured[::4], "o", color="black", markersize=4, fillstyle="none", label="dE/dt, measured")
    panel.axhline(0, color=GREY, linewidth=0.4)
    panel.set_title(name)
    panel.set_xlabel("time")
axes[0].set_ylabel("rate of change of energy")
figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=5, frameon=False,
              bbox_to_anchor=(0.5, -0.16))  # fmt: skip
save(figure, __file__, "svg")
