"""One lifting convolution with eight orientations, and pooling over them, of a field and of the turned field."""

import math

import matplotlib.pyplot as plt
import torch
from style import bare, save

from fluidsurrogate.nn import GroupPool, LiftingConv
from solvers import D4, VORTICITY, Grid, act
from solvers.flows import FLOWS
from solvers.point_groups import ROTATION_90

grid = Grid.square(40)
flow = FLOWS[2]["decaying"](viscosity=1e-2, wavenumber=3, rms=1)
state = flow.starts(grid, [3]).float()[:, :1]
lift, pool = LiftingConv(D4, [VORTICITY], channels=1, size=7), GroupPool(D4, [VORTICITY])
# A kernel that answers to edges of one direction, 25 degrees from the x axis: eight different answers under D4.
row, column = torch.meshgrid(torch.arange(-3.0, 4), torch.arange(-3.0, 4), indexing="ij")
along = math.cos(math.radians(25)) * column + math.sin(math.radians(25)) * row
with torch.no_grad():
    lift.weight[0, 0] = along * torch.exp(-(row**2 + column**2) / 4) + 0.6 * torch.exp(-(row**2 + column**2) / 2)
rows = [("field", state), ("field", act(VORTICITY, state, ROTATION_90))]
figure, axes = plt.subplots(2, 10, figsize=(13, 3.0))
with torch.no_grad():
    for number, (line, (name, field)) in enumerate(zip(axes, rows, strict=True)):
        feature = torch.nn.functional.gelu(lift(field))  # (batch, channel, α, y, x)
        pooled = pool(feature)
        panels = [(name, field[0, 0]), *((g.name, feature[0, 0, i]) for i, g in enumerate(D4))]
        panels.append(("pooled over α", pooled[0, 0]))
        for panel, (title, values) in zip(line, panels, strict=True):
            largest = float(values.abs().max())
            panel.imshow(values, vmin=-largest, vmax=largest)
            if not number:
                title = title.replace("mirror ", "mirror\n").replace("rotation ", "rotation\n")
                panel.set_title("pooled\nover α" if title.startswith("pooled") else title, fontsize=9)
            bare(panel)
axes[0, 0].set_ylabel("input")
axes[1, 0].set_ylabel("turned by 90°")
figure.tight_layout(w_pad=0.3)
save(figure, __file__, "png")
