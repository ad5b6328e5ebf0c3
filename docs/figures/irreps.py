"""What networks over all rotations of space are made of: spherical harmonics, Wigner matrices, kernels that turn."""

import math

import matplotlib.pyplot as plt
import torch
from style import BLUE, GREY, ORANGE, bare, save

from fluidsurrogate.nn.layers.irreps_basis import kernel_functions, spherical_harmonics, wigner_matrix


def turn(degrees, about):
    """The rotation by an angle about the axis x, y or z."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    i, j = [k for k in (0, 1, 2) if k != "xyz".index(about)]
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


figure = plt.figure(figsize=(8.4, 7.6))
rows = figure.add_gridspec(3, 1, height_ratios=(2.0, 1.4, 1.8), hspace=0.42)

# Spherical harmonics: the distance from the middle is |Y|, the colour its sign.
cells = rows[0].subgridspec(2, 5, wspace=0.0, hspace=0.0)
polar, around = torch.meshgrid(
    torch.linspace(0, math.pi, 61, dtype=torch.float64), torch.linspace(0, 2 * math.pi, 121, dtype=torch.float64),
    indexing="ij",
)  # fmt: skip
sphere = torch.stack([polar.sin() * around.cos(), polar.sin() * around.sin(), polar.cos()], -1)
places = [(0, 0, 0), *((1, m, m + 1) for m in range(3)), *((2, m, 5 + m) for m in range(5))]
for order, m, place in places:
    panel = figure.add_subplot(cells[place // 5, place % 5], projection="3d")
    values = spherical_harmonics(order, sphere.flatten(0, 1)).unflatten(0, polar.shape)[..., m]
    x, y, z = (values.abs()[..., None] * sphere).unbind(-1)
    colours = [[BLUE if v < 0 else ORANGE for v in line] for line in values.tolist()]
    panel.plot_surface(
        x.numpy(), y.numpy(), z.numpy(), facecolors=colours, rcount=41, ccount=61, linewidth=0, antialiased=False
    )
    limit = 0.75 * float(values.abs().max())
    panel.set(xlim=(-limit, limit), ylim=(-limit, limit), zlim=(-limit, limit), box_aspect=(1, 1, 1))
    panel.set_axis_off()
    names = (["1"], ["x", "y", "z"], ["xz", "xy", "2y² − x² − z²", "yz", "z² − x²"])
    panel.set_title(f"$Y^{order}$: {names[order][m]}", y=0.93, fontsize=9)

# Wigner matrices, and what they do.
matrix = turn(40, "z") @ turn(35, "x")
cells = rows[1].subgridspec(1, 4, width_ratios=(1, 1, 0.35, 2.1), wspace=0.25)
for column, order in enumerate((1, 2)):
    panel = figure.add_subplot(cells[column])
    panel.imshow(wigner_matrix(order, matrix), vmin=-1, vmax=1, origin="upper")
    panel.set_title(f"$D^{order}(R)$" + (" = R" if order == 1 else ""))
    bare(panel)
panel = figure.add_subplot(cells[3])
angle = torch.linspace(0, 2 * math.pi, 200, dtype=torch.float64)
circle = torch.stack([angle.cos(), angle.sin(), 0.4 * torch.ones_like(angle)], 1)
moved, combined = spherical_harmonics(2, circle @ matrix.T), spherical_harmonics(2, circle) @ wigner_matrix(2, matrix).T
for m, colour in ((0, BLUE), (2, GREY), (4, ORANGE)):
    panel.plot(angle, moved[:, m], color=colour, linewidth=3, alpha=0.35)
    panel.plot(angle, combined[:, m], color=colour, linewidth=1, linestyle="--")
panel.set_title("$Y^2(R\\,x)$, wide, is $D^2(R)\\,Y^2(x)$, dashed")
panel.set_xticks([0, math.pi, 2 * math.pi], ["0", "π", "2π"])

# The kernel constraint, in the plane z = 0.
cells = rows[2].subgridspec(1, 4, wspace=0.15)
about_z = turn(35, "z")
grid = torch.arange(-2, 3, dtype=torch.float64)
x, y = torch.meshgrid(grid, grid, indexing="xy")
flat = torch.stack([x, y, torch.zeros_like(x)], -1).flatten(0, 1)
kernel = kernel_functions(1, 1, 2, flat, 5, 0.03)[1]
stretch = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
arrows = torch.einsum("oip,i->po", kernel, stretch)
turned = kernel_functions(1, 1, 2, flat @ about_z.T, 5, 0.03)[1]
again = torch.einsum("oip,i->po", turned, about_z @ stretch)
gradient = kernel_functions(1, 0, 1, flat, 5, 0.03)[0][:, 0].T
curl = kernel_functions(1, 1, 1, flat, 5, 0.03)[0]
swirl = torch.einsum("oip,i->po", curl, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
panels = (
    ("scalar → vector, l = 1:\na gradient", flat, gradient, None),
    ("pseudovector along z →\nvector, l = 1: a curl", flat, swirl, None),
    ("vector v → vector, l = 2:\nκ(x) v", flat, arrows, stretch),
    ("turned: κ(R x) R v\n= R κ(x) v", flat @ about_z.T, again, about_z @ stretch),
)
for column, (title, points, field, source) in enumerate(panels):
    panel = figure.add_subplot(cells[column])
    scale = 0.95 / float(field.norm(dim=1).max())
    panel.quiver(*points[:, :2].T, *(scale * field[:, :2].T), color=BLUE, units="xy", scale=1, width=0.07, pivot="mid")
    panel.scatter(*points[:, :2].T, s=3, color=GREY)
    if source is not None:
        panel.quiver(-3.1, -3.1, *(1.4 * source[:2]), color=ORANGE, units="xy", scale=1, width=0.12)
    panel.set(xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), aspect="equal")
    panel.set_title(title, fontsize=9)
    bare(panel)
save(figure, __file__, "png")
