"""What the figures have in common: sizes, colours, and how they are saved."""

import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

mpl.use("Agg")
plt.rcParams.update(
    {
        "font.size": 10,
        "axes.titlesize": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.dpi": 100,
        "savefig.dpi": 160,
        "svg.hashsalt": "fluidsurrogate",
        "image.cmap": "RdBu_r",
        "image.origin": "lower",  # y grows upwards
    }
)
BLUE, ORANGE, GREY = "#1f5f99", "#c4622d", "#666666"


def save(figure, script: str, kind: str) -> None:
    """Write the figure of a script, without a date, into the folder named on the command line or beside the script."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(script).parent
    metadata = {"Date": None} if kind == "svg" else None
    figure.savefig(folder / f"{Path(script).stem}.{kind}", metadata=metadata, bbox_inches="tight")


def bare(axes) -> None:
    """No ticks, and a thin frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.6)
