"""What one step of a surrogate does, as boxes and arrows."""

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch
from style import BLUE, GREY, ORANGE, save

boxes = [
    ("state", "x, and inputs", GREY),
    ("normalise", "scale; add the\nvorticity's velocity", GREY),
    ("network", "lift → group\nconvolutions → pool", BLUE),
    ("project", "modes that change;\nno mean, no divergence", ORANGE),
    ("add", "x + change", GREY),
    ("energy budget", "scale to dE/dt =\nW − 2νZ − 2μE", ORANGE),
]
figure, axes = plt.subplots(figsize=(13, 1.7))
for i, (title, text, colour) in enumerate(boxes):
    left = 2.0 * i
    axes.add_patch(FancyBboxPatch((left, 0), 1.66, 1, boxstyle="round,pad=0.03", fill=False, edgecolor=colour,
                                  linewidth=1.6))  # fmt: skip
    axes.text(left + 0.83, 0.78, title, ha="center", va="center", weight="bold", color=colour)
    axes.text(left + 0.83, 0.33, text, ha="center", va="center", fontsize=8)
    if i + 1 < len(boxes):
        axes.annotate("", (left + 1.98, 0.5), (left + 1.7, 0.5), arrowprops={"arrowstyle": "->", "color": GREY})
axes.set_xlim(-0.1, 2 * len(boxes) - 0.2)
axes.set_ylim(-0.1, 1.1)
axes.axis("off")
save(figure, __file__, "svg")
