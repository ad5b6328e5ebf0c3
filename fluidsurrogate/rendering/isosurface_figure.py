"""The figure of a flow in space: isosurfaces of the Q criterion or, without PyVista, slices of the vorticity."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from fluidsurrogate.data.coordinates import evenly_spaced_axis
from fluidsurrogate.evaluation.diagnostics import compute_field, vorticity
from fluidsurrogate.rendering.slices import magnitude, middle_plane
from fluidsurrogate.rendering.style import DPI, cell_edges

log = logging.getLogger("fluidsurrogate")
LEVEL = 0.15  # of the isosurfaces, over the largest Q of the first flow
PIXELS = 480  # of one isosurface's picture


def draw_flows_in_space(flows: xr.Dataset, names: Sequence[str], path: Path) -> None:
    """Draw vortices of several flows in space at their last time, one beside the other.

    With PyVista (``pip install 'fluidsurrogate[vtk]'``) these are surfaces of constant Q criterion, coloured by the
    z component of the vorticity; without it, slices of the vorticity's magnitude through the middle of the box. Level
    and colours are the same for all flows.

    Parameters
    ----------
    flows : xr.Dataset
        Velocities by `source`; the first trajectory and the last time are drawn.
    names : sequence of str
        The sources to draw; level and colours are set by the first.
    path : Path
        The PNG file to write.
    """
    last = flows.isel(trajectory=0, time=-1)
    shown = [last.sel(source=name).load() for name in names]
    pictures = None
    if find_spec("pyvista") is not None and _can_draw_off_screen():
        try:
            pictures = _isosurfaces(shown)
        except Exception as error:  # of a machine without graphics: libraries raise whatever they do
            log.warning(f"no isosurfaces, slices are drawn: PyVista failed: {str(error).splitlines()[:1]}")
    figure = Figure(figsize=(3.4 * len(names) + (0 if pictures else 0.6), 3.8), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    time = float(last["time"])
    if pictures:
        for axis, name, picture in zip(axes, names, pictures, strict=True):
            axis.imshow(picture)
            axis.set(title=name)
            axis.axis("off")
        figure.suptitle(f"Q criterion, coloured by the z vorticity, at t = {time:g}", fontsize=11)
    else:
        planes = [middle_plane(magnitude(vorticity(flow))) for flow in shown]
        y, x = cell_edges(planes[0])
        most = float(planes[0].max())
        for axis, name, plane in zip(axes, names, planes, strict=True):
            values = np.ma.masked_invalid(plane.transpose("y", "x").values)
            drawn = axis.pcolormesh(x, y, values, cmap="magma", vmin=0, vmax=most, rasterized=True)
            axis.set(title=name, xticks=[], yticks=[], aspect="equal", facecolor="0.6")
        figure.colorbar(drawn, ax=axes, label="|vorticity| [1/s]", shrink=0.8)
        figure.suptitle(f"slice at z = {float(planes[0]['z']):.3g}, t = {time:g}", fontsize=11)
    figure.savefig(path, dpi=DPI, format="png")


def _can_draw_off_screen() -> bool:
    """Return whether VTK can draw here: before 9.5 it ends the process if there is no display."""
    from importlib.metadata import version

    has_display = sys.platform != "linux" or "DISPLAY" in os.environ
    return has_display or tuple(map(int, version("vtk").split(".")[:2])) >= (9, 5)


def _isosurfaces(flows: Sequence[xr.Dataset]) -> list[np.ndarray]:
    """Return a picture of the Q criterion of each flow."""
    pyvista: Any = import_module("pyvista")  # optional packages: not known to those who check types without them
    vtkLogger: Any = import_module("vtkmodules.vtkCommonCore").vtkLogger
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_OFF)  # it warns that there is no display
    level = limit = 0.0
    pictures = []
    for flow in flows:
        q, swirl = compute_field(flow, "q_criterion"), vorticity(flow).sel(component="z")
        axes = [evenly_spaced_axis(flow, axis) for axis in "xyz"]
        mesh = pyvista.ImageData(
            dimensions=[len(values) + 1 for values, _ in axes],
            spacing=[step for _, step in axes],
            origin=[float(values[0]) for values, _ in axes],
        )
        for name, field in (("Q", q), ("vorticity", swirl)):
            values = np.pad(field.transpose("z", "y", "x").values.astype(float), ((0, 1),) * 3, mode="wrap")
            mesh[name] = np.nan_to_num(values).ravel()
        if not level:  # the first flow sets it
            level = LEVEL * float(np.nanmax(q)) or 1.0
            limit = float(np.abs(swirl).max()) or 1.0
        plotter = pyvista.Plotter(off_screen=True, window_size=[PIXELS, PIXELS])
        plotter.set_background("white")
        plotter.add_mesh(mesh.outline(), color="gray")
        surface = mesh.contour([level], scalars="Q")
        if surface.n_points:
            plotter.add_mesh(
                surface, scalars="vorticity", cmap="RdBu_r", clim=[-limit, limit], smooth_shading=True,
                show_scalar_bar=False,
            )  # fmt: skip
        plotter.view_isometric()
        plotter.camera.zoom(0.95)
        pictures.append(np.asarray(plotter.screenshot(None, return_img=True)))
        plotter.close()
    return pictures
