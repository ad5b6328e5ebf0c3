"""The eight elements of D4, acting on vorticity, a pseudoscalar."""

import matplotlib.pyplot as plt
import torch
from style import BLUE, ORANGE, bare, save

from solvers import D4, VORTICITY, Grid, act

grid = Grid.square(40, 2.0)
y, x = grid.coordinates()
y, x = y[:, None] - 1, x[None, :] - 1


def blob(centre_x, centre_y, width_x, width_y, strength):
    """An elliptical patch of vorticity."""
    return strength * torch.exp(-(((x - centre_x) / width_x) ** 2) - ((y - centre_y) / width_y) ** 2)


# A letter F, which no element but the identity maps onto itself.
motif = blob(-0.35, 0, 0.12, 0.65, 1) + blob(0.02, 0.55, 0.4, 0.12, 1) + blob(-0.08, 0.05, 0.3, 0.11, 0.9)
motif = motif.clamp(max=1)[None, None]
figure, axes = plt.subplots(2, 4, figsize=(8, 4.3))
for panel, g in zip(axes.flat, D4, strict=True):
    panel.imshow(act(VORTICITY, motif, g)[0, 0], vmin=-1, vmax=1)
    panel.set_title(g.name, color=BLUE if g.determinant > 0 else ORANGE)
    bare(panel)
figure.text(0.5, 0.02, "rotations keep the sign of vorticity, mirrors change it", ha="center")
save(figure, __file__, "png")
