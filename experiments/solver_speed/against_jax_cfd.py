"""The classical solver against jax-cfd 0.2.1 (Kochkov et al. 2021, doi:10.1073/pnas.2101784118), float32.

    pip install jax-cfd exponax
    python experiments/solver_speed/against_jax_cfd.py      # writes against_jax_cfd.md beside itself

Its spectral vorticity solver with its best scheme, Crank–Nicolson and Runge–Kutta 4, jit and vmap, against ours with
ETDRK4, on the flow of `run.py`, interleaved: microseconds of one step, and the wall-clock time in which each reaches
t = 1 with a relative error of 1e-3 or 1e-5 with its own longest step that does it. Its grid is node-centred or
cell-centred alike, since the flow is unforced.
"""

from __future__ import annotations

import datetime
from importlib.metadata import version
from pathlib import Path

import torch
from run import COUNTS, ERRORS, VISCOSITY, interleaved, ours, start, table, threads_for

from solvers import Grid


def theirs(n: int, steps: int, state: torch.Tensor):
    """Advance the spectra of `state` by one time unit in `steps` steps."""
    import jax
    from jax_cfd.base.grids import Grid as TheirGrid
    from jax_cfd.spectral import equations, time_stepping

    side = Grid.square(n).length[0]
    equation = equations.NavierStokes2D(VISCOSITY, TheirGrid((n, n), domain=((0, side), (0, side))), smooth=True)
    step = time_stepping.crank_nicolson_rk4(equation, 1 / steps)
    one = lambda w: jax.lax.fori_loop(0, steps, lambda _, v: step(v), w)  # noqa: E731
    compiled = jax.jit(jax.vmap(one))
    spectra = jax.numpy.fft.rfftn(jax.numpy.asarray(state[:, 0].mT.numpy()), axes=(1, 2))  # its first axis is x
    return lambda: compiled(spectra).block_until_ready()


def error_of(result, n: int, reference: torch.Tensor) -> float:
    """Of the first trajectory."""
    if not isinstance(result, torch.Tensor):
        result = torch.fft.irfft2(torch.tensor(result.__array__()), s=(n, n)).mT
    return float((result.reshape(-1, n, n)[0].double() - reference[0, 0]).norm() / reference.norm())


def main() -> None:
    """Measure, print, and write against_jax_cfd.md."""
    rows, every = [], torch.get_num_threads()
    for n in (64, 128, 256):
        for batch in (1, 16):
            torch.set_num_threads(threads_for(n, batch))
            state = start(n, batch)
            single = state.float()
            reference = ours(n, 4, 1600, state[:1], "cpu")()
            makers = {
                "ours": lambda m, n=n, s=single: ours(n, 4, m, s, "cpu"),
                "theirs": lambda m, n=n, s=single: theirs(n, m, s),
            }
            steps = max(4, min(64, 2**22 // (n * n * batch)))
            step = interleaved({name: make(steps) for name, make in makers.items()}, 7)
            row = [f"{n}", f"{batch}", *(f"{1e6 * step[name] / steps:.0f}" for name in makers)]
            row += [f"{step['theirs'] / step['ours']:.1f}"]
            for bound in ERRORS:
                counts = {
                    name: next((m for m in COUNTS if error_of(make(m)(), n, reference) <= bound), None)
                    for name, make in makers.items()
                }
                runs = {name: makers[name](m) for name, m in counts.items() if m}
                took = interleaved(runs, 5)
                row += [" / ".join(str(counts[name] or "none") for name in makers)]
                row += [f"{took['theirs'] / took['ours']:.1f}" if len(took) == 2 else "-"]
            rows.append(row)
            print(*row, flush=True)
    torch.set_num_threads(every)
    header = ["n", "batch", "ours [µs a step]", "jax-cfd [µs a step]", "ratio"]
    header += [part for bound in ERRORS for part in (f"steps to {bound:g}, ours / jax-cfd", "time, jax-cfd / ours")]
    packages = ", ".join(f"{p} {version(p)}" for p in ("torch", "jax-cfd", "jax"))
    text = (
        f"# Against jax-cfd\n\n{datetime.date.today()}, {every} cores of an x86-64 CPU, {packages}; float32. "
        f"What is measured, and how: `against_jax_cfd.py`.\n\n{table(header, rows)}\n"
    )
    print(text)
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
