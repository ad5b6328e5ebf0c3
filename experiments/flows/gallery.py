"""One picture of every flow in this folder, at the start and at the end: python experiments/flows/gallery.py"""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import fluidsurrogate as fs

HERE = Path(__file__).parent
COLUMNS = 5
SMALL = ["data.train=1", "data.valid=1", "data.test=1", "data.block=1"]


def main() -> None:
    """Generate one trajectory of each experiment and draw gallery.png."""
    paths = sorted(HERE.glob("*.toml"))
    figure = Figure(figsize=(2.9 * COLUMNS, 1.65 * -(-len(paths) // COLUMNS)), layout="constrained")
    axes = np.atleast_2d(figure.subplots(-(-len(paths) // COLUMNS), 2 * COLUMNS)).reshape(-1, 2)
    for axis in axes.flat:
        axis.axis("off")
    for pair, path in zip(axes, paths, strict=False):
        draw(pair, path.stem.replace("_", " "), fs.generate(fs.Experiment.read(path, SMALL)).isel(trajectory=0))
    figure.savefig(HERE / "gallery.png", dpi=80)


def draw(pair, name: str, data: xr.Dataset) -> None:
    """Start and end: the scalar where there is one, else the vorticity; of a layer and its mirror image the layer."""
    field = next((f for f in ("tracer", "temperature") if f in data), "vorticity")
    values = data[field]
    if "wall_parity" in values.attrs:
        values = values.isel(y=slice(values.sizes["y"] // 2))
        values = values + 1 - values["y"]  # the temperature itself, not its departure from conduction
    elif "mean_gradient" in data:
        gx, gy = data["mean_gradient"].values
        values = values + gx * values["x"] + gy * values["y"]
    values = values.transpose("time", "y", "x")
    if values.sizes["y"] > values.sizes["x"]:
        values = values.transpose("time", "x", "y")
    for axis, time in zip(pair, (0, -1), strict=True):
        shown = values.isel(time=time)
        limit = float(np.quantile(np.abs(shown), 0.998))
        scale = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit} if field == "vorticity" else {"cmap": "inferno"}
        axis.imshow(shown, origin="lower", interpolation="bilinear", **scale)
        title = name if time == 0 else f"t = {shown['time']:g}"
        axis.set_title(title, fontsize=8, loc="left")


if __name__ == "__main__":
    main()
