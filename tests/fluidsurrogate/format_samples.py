"""Small files in the layouts of other programs, all of the same flow, written without the package's readers.

The flow is on 24 x 32 points of a box of 1.5 x 2 (y, x), so that no exchange of axes goes unseen.
"""

from types import SimpleNamespace

import h5py
import numpy as np
import torch
import xarray as xr

from solvers import Grid, NavierStokes2D, velocity

LENGTH, CELLS, NU, INTERVAL, TIMES = (1.5, 2.0), (24, 32), 2e-3, 0.125, 5


def make_flow(trajectories=2):
    """A decaying flow of few modes, by the classical solver, in double precision."""
    grid = Grid(CELLS, LENGTH)
    y, x = np.meshgrid(*(np.arange(n) * side / n for n, side in zip(CELLS, LENGTH, strict=True)), indexing="ij")
    rng = np.random.default_rng(5)
    start = sum(
        rng.standard_normal((trajectories, 1, 1, 1))
        * np.sin(2 * np.pi * (i * x / LENGTH[1] + j * y / LENGTH[0]) + 6 * rng.random((trajectories, 1, 1, 1)))
        for i, j in [(1, 0), (0, 1), (1, 1), (2, -1), (1, 2), (3, 1)]
    )
    solver = NavierStokes2D(grid, viscosity=NU, interval=INTERVAL)
    states = [torch.from_numpy(start)]
    for _ in range(TIMES - 1):
        states.append(solver(states[-1]))
    vorticity = torch.stack(states, 1)[:, :, 0]
    uv = velocity(vorticity.flatten(0, 1)[:, None], grid).unflatten(0, (trajectories, TIMES))
    tracer = np.cos(2 * np.pi * x)[None, None] + 0 * vorticity.numpy()
    times = INTERVAL * np.arange(TIMES)
    return SimpleNamespace(w=vorticity.numpy(), u=uv[:, :, 0].numpy(), v=uv[:, :, 1].numpy(), t=times, tracer=tracer)


def swap(array):
    """From (..., y, x) to (..., x, y)."""
    return np.swapaxes(array, -1, -2)


def shifted(array, axis, cells):
    """Samples of the trigonometric polynomials at points `cells` further along an axis, by its plain definition."""
    n = array.shape[axis]
    k = np.fft.fftfreq(n, 1 / n)
    shape = [1] * array.ndim
    shape[axis] = n
    moved = np.fft.ifft(np.fft.fft(array, axis=axis) * np.exp(2j * np.pi * k * cells / n).reshape(shape), axis=axis)
    return moved.real


def nodes(axis, start=0.0):
    """Points of the axis "y" or "x", from `start` on."""
    side, n = (LENGTH[0], CELLS[0]) if axis == "y" else (LENGTH[1], CELLS[1])
    return start + np.arange(n) * side / n


def centres(axis):
    return nodes(axis) + 0.5 * (nodes(axis)[1] - nodes(axis)[0])


def write_well(path, flow, bc="PERIODIC", name="sample", vorticity="t0", extra=(), viscosity=NU, grid="cartesian"):
    n = len(flow.w)
    with h5py.File(path, "w") as file:
        file.attrs.update(dataset_name=name, grid_type=grid, n_spatial_dims=2, n_trajectories=n)
        file.create_group("dimensions").attrs["spatial_dims"] = ["x", "y"]
        for axis, values in [("time", flow.t), ("x", centres("x")), ("y", centres("y"))]:
            own = file["dimensions"].create_dataset(axis, data=np.asarray(values, np.float32))
            own.attrs.update(sample_varying=False, time_varying=axis == "time")
        for axis in "xy":
            group = file.create_group(f"boundary_conditions/{axis}_boundary")
            kind = bc if axis == "y" else "PERIODIC"
            group.attrs.update(associated_dims=[axis], associated_fields=[], bc_type=kind, sample_varying=False)
        scalar = file.create_group("scalars").create_dataset("viscosity", data=np.float32(viscosity))
        scalar.attrs.update(sample_varying=np.ndim(viscosity) > 0, time_varying=False)
        w = swap(flow.w).astype(np.float32)
        zero = np.zeros_like(w)
        fields = {"t0_fields/pressure": zero, "t0_fields/tracer": swap(flow.tracer)}
        fields["t1_fields/velocity"] = np.stack([swap(flow.u), swap(flow.v)], -1)
        if vorticity == "t2":
            fields["t2_fields/vorticity"] = np.stack([np.stack([zero, w], -1), np.stack([-w, zero], -1)], -2)
        else:
            fields["t0_fields/vorticity"] = w
        fields |= {f"t0_fields/{key}": zero for key in extra}
        for key, values in fields.items():
            field = file.create_dataset(key, data=values.astype(np.float32))
            field.attrs.update(sample_varying=True, time_varying=True, dim_varying=[True, True])


def write_pdebench(path, flow, boundaries="PERIODIC"):
    n = len(flow.w)
    with h5py.File(path, "w") as file:
        file.attrs["config"] = (
            f"NU: {NU}\ndomain_size: [{LENGTH[1]}, {LENGTH[0]}]\nvelocity_extrapolation: {boundaries}\n"
        )
        file.attrs["latestIndex"] = TIMES - 1
        own = np.stack([swap(flow.u), swap(flow.v)], -1).astype(np.float32)
        options = {"compression": "lzf", "shuffle": True, "chunks": (1, 1, *own.shape[2:])}
        file.create_dataset("velocity", data=own, **options)
        file["particles"] = swap(flow.tracer)[..., None].astype(np.float32)
        file["force"] = np.zeros((n, *own.shape[2:]), np.float32)
        file["t"] = np.tile(flow.t.astype(np.float32), (n, 1))


def write_compressible(path, flow):
    with h5py.File(path, "w") as file:
        file.attrs.update(eta=0.1, zeta=0.1, M=0.4)
        for name in ("density", "pressure", "Vx", "Vy"):
            file[name] = swap(flow.u).astype(np.float32)
        file["x-coordinate"], file["y-coordinate"], file["t-coordinate"] = centres("x"), centres("y"), flow.t


def write_groups(path, flow, channels=("velocity_x", "velocity_y")):
    with h5py.File(path, "w") as file:
        if channels:
            file.attrs["channels"] = np.array(channels, dtype=h5py.string_dtype())
        for number in range(len(flow.w)):
            group = file.create_group(f"{number:04d}")
            group["data"] = np.stack([swap(flow.u[number]), swap(flow.v[number])], -1).astype(np.float32)
            group["grid/x"], group["grid/y"], group["grid/t"] = centres("x"), centres("y"), flow.t
            group["forcing"] = number + centres("x")[:, None] + 0 * centres("y")
            group.attrs.update(viscosity=NU, drag=0.0, split=("train", "test")[number])


def write_burgers(path, flow):
    with h5py.File(path, "w") as file:
        file["tensor"], file["x-coordinate"], file["t-coordinate"] = swap(flow.u)[..., 0], centres("x"), flow.t


def write_pdearena(path, flow):
    """PhiFlow's staggered velocities on the lower faces; `x`, `t` and `dt` as its generator writes them."""
    n = len(flow.w)
    with h5py.File(path, "w") as file:
        group = file.create_group("valid")
        group["u"] = swap(flow.tracer)
        group["vx"], group["vy"] = swap(shifted(flow.u, -1, -0.5)), swap(shifted(flow.v, -2, -0.5))
        group["x"] = np.tile(np.linspace(0, LENGTH[1], CELLS[1]), (n, 1))
        group["y"] = np.tile(np.linspace(0, LENGTH[0], CELLS[0]), (n, 1))
        group["t"] = np.tile(np.linspace(0, TIMES * INTERVAL, TIMES), (n, 1))
        group["dt"], group["buo_y"] = np.full(n, INTERVAL), np.full(n, 0.0)


def write_dedalus(
    path, flow, version=3, parts=0, uneven=False, labels=("x", "y"), half=False, times=slice(None), extra=()
):
    """One trajectory at nodes that begin at -1; with `parts`, a virtual file over the parts of as many processes."""
    arrays = {"vorticity": swap(flow.w[0, times]), "u": np.stack([swap(flow.u[0, times]), swap(flow.v[0, times])], 1)}
    arrays |= {name: arrays["vorticity"] for name in extra}
    points = [nodes("x", -1.0), nodes("y", -1.0)]
    if half:
        points = [centres("x"), centres("y")]
    if uneven:
        points[1] = -np.cos(np.pi * (np.arange(CELLS[0]) + 0.5) / CELLS[0])
    folder = path.with_suffix("")
    with h5py.File(path, "w") as file:
        file.attrs.update(handler_name="snapshots", set_number=1, writes=len(flow.t[times]))
        for name in ("sim_time", "iteration"):
            file[f"scales/{name}"] = flow.t[times]
            file[f"scales/{name}"].make_scale(name)
        for label, values in zip(labels, points, strict=True):
            name = f"scales/{label}/1.0" if version == 2 else f"scales/{label}_hash_0"
            file[name] = values
            file[name].make_scale(f"{label}/1.0" if version == 2 else label)
        for name, values in arrays.items():
            if parts:
                folder.mkdir(exist_ok=True)
                layout = h5py.VirtualLayout(values.shape, values.dtype, (None, *values.shape[1:]))
                for rank, where in enumerate(np.array_split(np.arange(values.shape[-1]), parts)):
                    part, own = f"{folder.name}/{folder.name}_p{rank}.h5", values[..., where]
                    with h5py.File(path.parent / part, "a") as process:
                        task = process.create_dataset(f"tasks/{name}", data=own, maxshape=(None, *own.shape[1:]))
                        task.attrs["global_shape"] = values.shape[1:]
                    source = h5py.VirtualSource(part, f"tasks/{name}", own.shape, maxshape=(None, *own.shape[1:]))
                    at = (slice(h5py.h5s.UNLIMITED), *(slice(None),) * (values.ndim - 2))
                    layout[(*at, slice(where[0], where[-1] + 1))] = source[(*at, slice(len(where)))]
                task = file["tasks"].create_virtual_dataset(name, layout) if "tasks" in file else file.create_group(
                    "tasks").create_virtual_dataset(name, layout)  # fmt: skip
            else:
                task = file.create_dataset(f"tasks/{name}", data=values)
            task.attrs["grid_space"], task.attrs["scales"] = [True, True], [1, 1]
            task.dims[0].label = "t"
            task.dims[0].attach_scale(file["scales/sim_time"])
            for axis, label in enumerate(labels, start=values.ndim - 2):
                task.dims[axis].label = label
                task.dims[axis].attach_scale(file[f"scales/{label}/1.0" if version == 2 else f"scales/{label}_hash_0"])


def write_jax_cfd(path, flow, zarr=False):
    """Velocities on the upper faces, with the coordinates of the centres."""
    dims = ("sample", "time", "x", "y")
    dataset = xr.Dataset(
        {"u": (dims, swap(shifted(flow.u, -1, 0.5)).astype(np.float32), {"offset": [1.0, 0.5]}),
         "v": (dims, swap(shifted(flow.v, -2, 0.5)).astype(np.float32), {"offset": [0.5, 1.0]})},
        {"time": flow.t, "x": centres("x").astype(np.float32), "y": centres("y").astype(np.float32)},
        {"viscosity": NU},
    )  # fmt: skip
    dataset.to_zarr(path, consolidated=False) if zarr else dataset.to_netcdf(path, engine="netcdf4")


BELTRAMI = {"n": 16, "nu": 0.000185, "interval": 0.002}


def beltrami(times):
    """The flow of Arnold, Beltrami and Childress, which decays by exp(-ν t): (time, component, z, y, x), box of 2π."""
    z, y, x = np.meshgrid(*[np.arange(BELTRAMI["n"]) * 2 * np.pi / BELTRAMI["n"]] * 3, indexing="ij")
    a, b, c = 1.0, 0.7, 0.43
    u = np.stack([a * np.sin(z) + c * np.cos(y), b * np.sin(x) + a * np.cos(z), c * np.sin(y) + b * np.cos(x)])
    return u * np.exp(-BELTRAMI["nu"] * np.asarray(times))[:, None, None, None, None]


def write_jhtdb(
    path, flow=None, count=3, missing=False, dataset="isotropic1024coarse", n=BELTRAMI["n"], name="Velocity"
):
    """Every 64th point of the box of 1024³, at the times 1, 11, 21, ..."""
    step = 1024 // BELTRAMI["n"]
    states = beltrami(10 * BELTRAMI["interval"] * np.arange(count))[..., :n].astype(np.float32)
    with h5py.File(path, "w") as file:
        file.attrs.update(dataset=np.bytes_(dataset), x_step=step, y_step=step, z_step=step, filterWidth=1)
        for axis, size in zip("xyz", (n, BELTRAMI["n"], BELTRAMI["n"]), strict=True):
            file[f"{axis}coor"] = (np.arange(size) * step * 2 * np.pi / 1024).astype(np.float32)
        for number, state in enumerate(states):
            values = np.moveaxis(state, 0, -1).copy()
            if missing and number == count // 2:
                values[3:5] = -999.9
            file[f"{name}_{1 + 10 * number:04d}"] = values


def write_pt(path, flow, what="operator"):
    last = {"a": np.moveaxis(swap(flow.w[:, :1]), 1, -1)[..., 0], "u": np.moveaxis(swap(flow.w[:, 1:]), 1, -1)}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(values)).float() for name, values in last.items()}
    if what == "operator":
        torch.save({**tensors, "t": torch.from_numpy(flow.t[1:]).float()}, path)
    elif what == "pairs":
        torch.save({"x": tensors["a"] > 0, "y": tensors["a"]}, path)
    elif what == "object":
        torch.save({"u": tensors["u"], "made_by": SimpleNamespace(name="anyone")}, path)
    else:
        torch.save(torch.from_numpy(flow.w).half() if what == "half" else torch.from_numpy(flow.w), path)


def write_pyqg(path, flow):
    q = np.stack([flow.w[0], flow.w[0]], 1)
    xr.Dataset(
        {"q": (("time", "lev", "y", "x"), q)}, {"time": flow.t}, {"pyqg:beta": 1.5e-11, "pyqg:rd": 15e3}
    ).to_netcdf(path)


# Every format that is read: its reader, how to write a sample, and what the user has to state.
READ = {
    "file of The Well": (write_well, {}),
    "incompressible-flow file of PDEBench": (write_pdebench, {}),
    "PDEBench file of one group a trajectory": (write_groups, {}),
    "file of PDEArena": (write_pdearena, {"periodic": True}),
    "Dedalus output": (write_dedalus, {}),
    "file of JAX-CFD": (write_jax_cfd, {}),
    "cutout of JHTDB": (write_jhtdb, {}),
    "PyTorch file": (write_pt, {"viscosity": NU}),
}
# Every format that is refused whatever is in it.
REFUSED = {"file of PDEBench with another equation": write_compressible, "pyqg output": write_pyqg}
