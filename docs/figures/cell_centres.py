"""A quarter turn of an array, on cell-centred and on node-centred samples."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from style import BLUE, GREY, ORANGE, bare, save

n = 4
figure, axes = plt.subplots(1, 2, figsize=(7.4, 3.7))
for panel, offset, title in zip(axes, (0.5, 0.0), ("cell centres, x = (i + ½) Δ", "nodes, x = i Δ"), strict=True):
    points = np.arange(n) + offset
    px, py = np.meshgrid(points, points)
    # A quarter turn about the middle of the box, counter-clockwise: (x, y) → (c − (y − c), c + (x − c)).
    turned_x, turned_y = n - py, px
    panel.add_patch(Rectangle((0, 0), n, n, fill=False, color=GREY, linewidth=1))
    for line in range(1, n):
        panel.plot([line, line], [0, n], color=GREY, linewidth=0.4)
        panel.plot([0, n], [line, line], color=GREY, linewidth=0.4)
    panel.scatter(px, py, s=60, color=BLUE, label="samples", zorder=3)
    panel.scatter(turned_x, turned_y, s=170, facecolors="none", edgecolors=ORANGE, linewidths=1.6,
                  label="samples, turned by 90°", zorder=4)  # fmt: skip
    panel.plot(n / 2, n / 2, "+", color="black", markersize=10)
    panel.set_xlim(-0.5, n + 0.5)
    panel.set_ylim(-0.5, n + 0.5)
    panel.set_aspect("equal")
    panel.set_title(title)
    bare(panel)
axes[0].set_xlabel("turned samples are samples: rot90 is exact")
axes[1].set_xlabel("turned samples are off by one cell")
figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=2, frameon=False,
              bbox_to_anchor=(0.5, -0.09))  # fmt: skip
save(figure, __file__, "svg")
