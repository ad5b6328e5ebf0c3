"""One picture of every flow in this folder, at the start and at the end: python experiments/flows/gallery.py"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import fluidsurrogate as fs

HERE = Path(__file__).parent
COLUMNS = 4


def main() -> None:
    """Generate one trajectory of each experiment and draw gallery.png."""
    paths = sorted(HERE.glob("*.toml"))
    rows = -(-len(paths) // COLUMNS)
    figure = Figure(figsize=(3.1 * COLUMNS, 2.0 * rows), layout="constrained")
    axes = np.atleast_2d(figure.subplots(rows, 2 * COLUMNS)).reshape(-1, 2)
    for axis in axes.flat:
        axis.axis("off")
    for pair, path in zip(axes, paths, strict=False):
        small = ["data.train=1", "data.valid=1", "data.test=1", "data.block=1"]
        data = fs.generate(fs.Experiment.read(path, small))["vorticity"].isel(trajectory=0)
        for axis, time in zip(pair, (0, -1), strict=True):
            values = data.isel(time=time)
            limit = float(np.quantile(np.abs(values), 0.998))
            axis.imshow(values, origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="bilinear")
            title = path.stem.replace("_", " ") if time == 0 else f"t = {float(values['time']):g}"
            axis.set_title(title, fontsize=9, loc="left")
    figure.savefig(HERE / "gallery.png", dpi=90)


if __name__ == "__main__":
    main()
