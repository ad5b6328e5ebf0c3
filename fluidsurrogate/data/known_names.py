"""The names under which variables and dims of flows are found in files, and units that are converted."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

VARIABLES = {
    "vorticity": ("vorticity", "vort", "omega", "vor", "zeta", "curl", "relative_vorticity", "w"),
    "velocity": ("velocity", "velocities", "vel"),
    "tracer": ("tracer",),
    "temperature": ("temperature",),
    "forcing": ("forcing",),
    "viscosity": ("viscosity", "nu", "visc", "kinematic_viscosity"),
    "drag": ("drag",),
    "diffusivity": ("diffusivity",),
    "mean_velocity": ("mean_velocity",),
    "mean_gradient": ("mean_gradient",),
    "gravity": ("gravity",),
}
# Velocities that are stored component by component.
COMPONENTS = (
    ("u", "v", "w"), ("vx", "vy", "vz"), ("velocity_x", "velocity_y", "velocity_z"), ("u_x", "u_y", "u_z"),
    ("ux", "uy", "uz"), ("v_x", "v_y", "v_z"), ("u1", "u2", "u3"),
)  # fmt: skip
DIMS = {
    "trajectory": ("trajectory", "trajectories", "traj", "sample", "samples", "batch", "n", "simulation", "sim", "run",
                   "realization", "realisation", "ensemble", "case"),
    "time": ("time", "t", "times", "timestep", "time_step", "step", "steps"),
    "component": ("component", "components", "channel", "channels", "vector", "c"),
    "z": ("z", "nz", "zc", "dim_z", "z_c"),
    "y": ("y", "ny", "yc", "dim_y", "y_c"),
    "x": ("x", "nx", "xc", "dim_x", "x_c"),
}  # fmt: skip
LATITUDE = ("lat", "latitude", "nav_lat", "rlat")
LONGITUDE = ("lon", "longitude", "long", "nav_lon", "rlon")
LEVELS = ("lev", "level", "levels", "layer", "layers", "depth", "plev", "pressure_level", "height", "altitude")
SECONDS = {
    "s": 1.0, "ms": 1e-3, "millisecond": 1e-3, "us": 1e-6, "min": 60.0, "minute": 60.0, "h": 3600.0, "hr": 3600.0,
    "hour": 3600.0, "d": 86400.0, "day": 86400.0,
}  # fmt: skip
METRES = {"m": 1.0, "km": 1e3, "kilometer": 1e3, "kilometre": 1e3, "cm": 1e-2, "mm": 1e-3, "um": 1e-6}


def package_name(name: Hashable, known: dict[str, tuple[str, ...]]) -> str | None:
    """Return the name of this package for a variable or a dim.

    Parameters
    ----------
    name : str
        The name in the file, in capitals or not.
    known : dict
        `VARIABLES` or `DIMS`.

    Returns
    -------
    str or None
        None if the name is not known.
    """
    lower = str(name).lower()
    return next((own for own, others in known.items() if lower in others), None)


def find_components(names: Iterable[Hashable], dimensions: Sequence[int] = (3, 2)) -> tuple[str, ...] | None:
    """Return the names of the components of a velocity that is stored component by component.

    Parameters
    ----------
    names : iterable of str
        The names of all variables of the space's number of dimensions.
    dimensions : sequence of int, default (3, 2)
        How many components are looked for.

    Returns
    -------
    tuple of str or None
        The names as they are in the file, along x, y and, in three dimensions, z; None if there are none.
    """
    own = {str(name).lower(): str(name) for name in names}
    for count in dimensions:
        for components in COMPONENTS:
            if all(name in own for name in components[:count]):
                return tuple(own[name] for name in components[:count])
    return None


def unit_factor(units: str, table: dict[str, float]) -> float | None:
    """Return how many seconds or metres a unit is.

    Parameters
    ----------
    units : str
        The unit as a file spells it, in the singular or the plural.
    table : dict
        `SECONDS` or `METRES`.

    Returns
    -------
    float or None
        None if the unit is not in the table.
    """
    text = units.strip()
    return next((table[key] for key in (text, text.lower(), text.lower().removesuffix("s")) if key in table), None)
