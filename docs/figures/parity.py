"""A vortex pair, its mirror image, and what comes of it when vorticity is taken for a plain scalar."""

import matplotlib.pyplot as plt
import torch
from style import bare, save

from solvers import VELOCITY, VORTICITY, Grid, act, velocity
from solvers.point_groups import MIRROR_X

grid = Grid.square(64)
y, x = grid.coordinates()


def vortex(centre_y, centre_x, size, strength):
    """A Gaussian patch of vorticity."""
    squared = (y[:, None] - centre_y) ** 2 + (x[None, :] - centre_x) ** 2
    return strength * torch.exp(-squared / size**2)


flow = (vortex(2.2, 1.9, 0.75, 1.0) + vortex(4.2, 3.6, 0.5, -0.9) + vortex(4.6, 1.7, 0.4, 0.6))[None, None]
flow = flow - flow.mean()
arrows = velocity(flow, grid)
right = act(VORTICITY, flow, MIRROR_X)
wrong = flow.flip(-1)
columns = [
    ("the flow", flow, arrows),
    ("mirrored: ω changes sign", right, act(VELOCITY, arrows, MIRROR_X)),
    ("ω taken for a plain scalar", wrong, velocity(wrong, grid)),
]
figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.5))
every = slice(2, None, 5)
for panel, (title, vorticity, uv) in zip(axes, columns, strict=True):
    panel.imshow(vorticity[0, 0], extent=(0, 2 * torch.pi, 0, 2 * torch.pi), vmin=-1, vmax=1, alpha=0.85)
    u, v = uv[0]
    panel.quiver(x[every], y[every], u[every, every], v[every, every], scale=4.2, width=0.007)
    panel.set_title(title)
    bare(panel)
axes[2].set_xlabel("the velocity is no mirror image:\nthis is another flow")
axes[1].set_xlabel("its velocity is the mirror image,\narrow by arrow")
axes[0].set_xlabel("red turns counter-clockwise,\nblue clockwise")
save(figure, __file__, "png")
