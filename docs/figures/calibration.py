"""A conformal error bound, made and tested: of persistence, the simplest forecast, on decaying turbulence."""

import math

import matplotlib.pyplot as plt
import torch
from style import BLUE, GREY, ORANGE, save

from fluidsurrogate import rollout
from solvers import Grid
from solvers.flows import FLOWS

COVERAGE, LEVEL, STARTS, STEPS, INTERVAL, LEAD = 0.9, 0.5, 200, 16, 0.05, 8
grid = Grid.square(32)
flow = FLOWS[2]["decaying"](viscosity=2e-2, wavenumber=3, rms=3)
solver = flow.solver(grid, interval=INTERVAL)
truth = rollout(solver, flow.starts(grid, range(2 * STARTS)).float(), STEPS)
size = truth.square().mean((2, 3, 4)).sqrt()
errors = (truth - truth[:, :1]).square().mean((2, 3, 4)).sqrt() / size  # nRMSE: (start, time)
known, new = errors[:STARTS], errors[STARTS:]
rank = math.ceil((STARTS + 1) * COVERAGE)
bound = known.sort(0).values[rank - 1]
covered = (new[:, 1:] <= bound[1:]).double().mean(0)
time = INTERVAL * torch.arange(STEPS + 1)
horizon = float(time[int((bound <= LEVEL).sum()) - 1])

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.3))
ordered = known[:, LEAD].sort().values
left.plot(ordered, torch.arange(1, STARTS + 1), ".", color=BLUE, markersize=3)
left.axhline(rank, color=GREY, linewidth=0.6)
left.axvline(float(bound[LEAD]), color=ORANGE)
left.annotate(f"rank {rank} of {STARTS}:\nthe bound at\nthis lead", (float(bound[LEAD]), 40),
              xytext=(8, 0), textcoords="offset points", ha="left")  # fmt: skip
left.set_xlabel(f"error at time {INTERVAL * LEAD:g} of the calibration starts")
left.set_ylabel("rank")
right.plot(time, new[:60].T, color=BLUE, alpha=0.18, linewidth=0.8)
right.plot(time, bound, color=ORANGE, linewidth=2, label="90 % bound")
right.axhline(LEVEL, color=GREY, linewidth=0.8, linestyle="--")
right.axvline(horizon, color="black", linewidth=0.8)
right.annotate(f"horizon {horizon:g}", (horizon, 0.05), xytext=(4, 0), textcoords="offset points")
right.annotate("level", (0, LEVEL), xytext=(2, 3), textcoords="offset points", color=GREY)
right.set_title(f"new starts: {float(covered.min()):.0%} to {float(covered.max()):.0%} are below the bound")
right.set_xlabel("time")
right.set_ylabel("nRMSE")
right.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, 0.95))
figure.tight_layout(w_pad=2)
save(figure, __file__, "png")
