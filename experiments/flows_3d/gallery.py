"""One picture of every flow in this folder, at the start and at the end: python experiments/flows_3d/gallery.py"""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import fluidsurrogate as fs
from fluidsurrogate.evaluation import diagnostics

HERE = Path(__file__).parent
COLUMNS = 4
SMALL = ["data.train=1", "data.valid=1", "data.test=1", "data.block=1"]


def main() -> None:
    """Generate one trajectory of each experiment and draw gallery.png."""
    paths = sorted(HERE.glob("*.toml"))
    rows = -(-len(paths) // COLUMNS)
    figure = Figure(figsize=(3.4 * COLUMNS, 1.9 * rows), layout="constrained")
    axes = np.atleast_2d(figure.subplots(rows, 2 * COLUMNS)).reshape(-1, 2)
    for axis in axes.flat:
        axis.axis("off")
    for pair, path in zip(axes, paths, strict=False):
        data = fs.generate(fs.Experiment.read(path, SMALL))
        print(f"{path.stem}: resolution error {100 * data.attrs['resolution_error']:.2g} %", flush=True)
        draw(pair, path.stem.replace("_", " "), data.isel(trajectory=[0]))
    figure.savefig(HERE / "gallery.png", dpi=80)


def draw(pair, name: str, data: xr.Dataset) -> None:
    """Start and end: the scalar where there is one, else the component of the vorticity across a vertical slice."""
    field = next((f for f in ("tracer", "temperature") if f in data), None)
    values = data[field] if field else diagnostics.vorticity(data).sel(component="y")
    values = values.isel(trajectory=0, y=data.sizes["y"] // 2).transpose("time", "z", "x")
    for axis, time in zip(pair, (0, -1), strict=True):
        shown = values.isel(time=time)
        limit = float(np.quantile(np.abs(shown), 0.998))
        axis.imshow(shown, origin="lower", interpolation="bilinear", vmin=-limit, vmax=limit,
                    cmap="PuOr_r" if field else "RdBu_r")  # fmt: skip
        title = name if time == 0 else f"t = {shown['time']:g}"
        axis.set_title(title, fontsize=8, loc="left")


if __name__ == "__main__":
    main()
