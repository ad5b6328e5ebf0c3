"""Frames of the animation: the truth and every forecast as bytes, from which the page draws fields and errors."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps

from fluidsurrogate.evaluation.comparison import TRUTH
from fluidsurrogate.rendering.slices import vorticity_picture

MAX_BYTES = 2_400_000  # of all frames; base64 makes them a third larger
MAX_CELLS, MAX_FRAMES, MAX_TRAJECTORIES, MAX_SOURCES = 64, 81, 4, 12
ZERO, NOT_FINITE = 127, 255  # levels 0 to 254 are -limit to limit
COLOUR_MAP = "RdBu_r"


def animation(forecasts: xr.Dataset) -> dict[str, Any]:
    """Encode the vorticity of a few test trajectories, so that a page of a few megabytes holds it.

    Of a flow in space the plane through the middle of the box is shown. A value is one byte: 254 steps from -limit to
    limit, the largest vorticity of the truth. A field of more than 64 cells a side is averaged over blocks of cells,
    and of many times, trajectories or sources only a part is shown.

    Parameters
    ----------
    forecasts : xr.Dataset
        Forecasts by `source`, the source "truth" among them.

    Returns
    -------
    dict
        Plain data: `sources`, `times` [s], `trajectories`, `cells` (y, x), `limits` [1/s] by trajectory, `nrmse` by
        trajectory, source and time, of the field that is shown; `levels`, the bytes in base64 with the dims
        trajectory, source, time, y and x; `colours`, 255 colours from the lowest to the highest; `field`, and `note`,
        which says what is shown.
    """
    sources = [str(name) for name in forecasts["source"].values]
    shown = [TRUTH, *(name for name in sources if name != TRUTH)][:MAX_SOURCES]
    field = vorticity_picture(forecasts.sel(source=shown).isel(trajectory=slice(MAX_TRAJECTORIES)).load())
    field = field.transpose("trajectory", "source", "time", "y", "x")
    factor = math.ceil(max(field.sizes["y"], field.sizes["x"]) / MAX_CELLS)
    frame = len(shown) * (field.sizes["y"] // factor) * (field.sizes["x"] // factor)
    frames = max(2, min(field.sizes["time"], MAX_FRAMES, MAX_BYTES // frame))
    field = field.isel(time=np.unique(np.linspace(0, field.sizes["time"] - 1, frames).round().astype(int)))
    field = field.isel(trajectory=slice(max(1, MAX_BYTES // (frame * field.sizes["time"]))))
    truth = field.sel(source=TRUTH)
    squares, norms = ((field - truth) ** 2).mean(["y", "x"], skipna=False), (truth**2).mean(["y", "x"], skipna=False)
    nrmse = (squares / norms).values ** 0.5
    small = field.coarsen(y=factor, x=factor, boundary="trim").reduce(np.mean) if factor > 1 else field
    limits = abs(small.sel(source=TRUTH)).max(["time", "y", "x"]).values
    limits = np.where(np.isfinite(limits) & (limits > 0), limits, 1.0)
    return {
        "sources": shown,
        "times": [float(f"{t:.6g}") for t in field["time"].values],
        "trajectories": [str(i) for i in field["trajectory"].values],
        "cells": [small.sizes["y"], small.sizes["x"]],
        "limits": [float(f"{v:.4g}") for v in limits],
        "nrmse": [[[float(f"{v:.3g}") if np.isfinite(v) else None for v in r] for r in rows] for rows in nrmse],
        "levels": base64.b64encode(_as_bytes(small.values, limits)).decode(),
        "colours": _colours(),
        "field": str(field.attrs["long_name"]),
        "note": _note(forecasts, field, shown, factor),
    }


def _as_bytes(values: np.ndarray, limits: np.ndarray) -> bytes:
    """Round fields (trajectory, ...) to levels; what is beyond the limit is at it, what is not finite has its own."""
    scaled = np.clip(values / limits[:, None, None, None, None], -1, 1) * ZERO + ZERO
    return np.where(np.isfinite(values), np.rint(np.nan_to_num(scaled)), NOT_FINITE).astype(np.uint8).tobytes()


def _colours() -> list[list[int]]:
    """Return the colours of the levels 0 to 254 as (red, green, blue)."""
    table = colormaps[COLOUR_MAP](np.linspace(0, 1, NOT_FINITE))[:, :3]
    return np.rint(255 * table).astype(int).tolist()


def _note(forecasts: xr.Dataset, field: xr.DataArray, sources: list[str], factor: int) -> str:
    """Return what is shown of the forecasts, in words."""
    parts = [f"{field.sizes[dim]} of {forecasts.sizes[dim]} {what}"
             for dim, what in (("time", "times"), ("trajectory", "test trajectories"))]  # fmt: skip
    if len(sources) < forecasts.sizes["source"]:
        parts.append(f"{len(sources)} of {forecasts.sizes['source']} sources")
    parts.append(f"{field.sizes['x']} x {field.sizes['y']} cells" + (f", averaged {factor} x {factor}" * (factor > 1)))
    return "Shown: " + ", ".join(parts) + "; one byte a value. Errors are on the colour scale of the truth."
