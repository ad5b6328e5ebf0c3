"""Is the truth of every committed experiment in the plane resolved? The solver on n cells against the solver on 2n.

    python experiments/resolution/run.py [EXPERIMENT.toml ...]      # results.json, results.md

Both start from the state on n cells after the spin-up, with the same inputs and kicks, as `fluidsurrogate generate`
does for one interval; here they go on to the end of the run, and for as many test trajectories as the experiment
lists values of a parameter. Where the viscosity is drawn from a range, it is the test trajectory with the least.
Errors are the root mean square of the difference, seen on n cells, over that of the field, the largest over the
fields. Where the flow is chaotic the two end in different states: then their statistics must agree, the means over
the run of energy and enstrophy. A trajectory that is there is not computed again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch

from fluidsurrogate.config.experiment import Experiment
from fluidsurrogate.config.stage_configs import GridConfig
from fluidsurrogate.core.files import write_json
from fluidsurrogate.simulation.resolution import RESOLVED, ResolutionSample
from fluidsurrogate.simulation.splits import SPLITS
from fluidsurrogate.simulation.trajectory_blocks import spin_up, stack_inputs
from solvers import Resampled
from solvers.spectra import enstrophy, kinetic_energy

sys.path.append(str(Path(__file__).parents[1]))
from study import one_thread, pack_results, read_result, write_report

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "results"
FILES = sorted(ROOT.rglob("*.toml"), key=lambda path: (len(path.relative_to(ROOT).parts) > 1, path))
CHAOTIC = 10.0  # a final error of more than so many times the limit: no single state can be compared


def in_the_plane(path: Path) -> bool:
    """Whether an experiment simulates a two-dimensional flow of its own."""
    experiment = Experiment.read(path)
    return len(experiment.grid.build().n) == 2 and experiment.flow.kind != "given"


def trajectories(experiment: Experiment) -> list[int]:
    """The test trajectories to follow: one for each value that a parameter lists; of a range, the least viscosity."""
    varying = experiment.flow.varying_parameters()
    if "viscosity" in varying and not isinstance(varying["viscosity"], list):
        numbers = range(experiment.data.test)
        return [min(numbers, key=lambda number: experiment.flows("test", [number])[0].viscosity)]
    return list(range(max((len(v) for v in varying.values() if isinstance(v, list)), default=1)))


def path_of(path: Path, number: int) -> Path:
    """Where the result of a trajectory is stored."""
    return RESULTS / f"{'-'.join(path.with_suffix('').relative_to(ROOT).parts)}-{number}.json"


@torch.no_grad()
def follow(experiment: Experiment, number: int) -> dict:
    """One test trajectory on n and on 2n cells to the end of the run."""
    flow, seed = experiment.flows("test", [number]), [experiment.trajectory_seed("test", number)]
    solver = experiment.build_solver()
    grid = solver.grid
    own = {
        "grid": GridConfig(n=(2 * grid.n[0], 2 * grid.n[1]), length=grid.length),
        "solver": experiment.solver.model_copy(update={"dt": None}),
    }
    finer = Resampled(experiment.model_copy(update=own).build_solver(), grid)
    inputs = stack_inputs(flow, solver)
    state = spin_up(experiment, flow[0].starts(grid, seed).to(solver.dtype), inputs, seed)
    carries = [stepper.start(state, inputs, seed) for stepper in (solver, finer)]
    states, errors, energies, enstrophies = [state[0]], [], [], []
    for _ in range(experiment.data.intervals_in(SPLITS[-1])):
        carries = [stepper.advance(c) for stepper, c in zip((solver, finer), carries, strict=True)]
        here, there = (s.state(c).double() for s, c in zip((solver, finer), carries, strict=True))
        off, size = ((x.square().mean((0, 2, 3))).sqrt() for x in (here - there, there))
        errors.append((off / size).max().item())
        energies.append([kinetic_energy(x[:, :1], grid.length).item() for x in (here, there)])
        enstrophies.append([enstrophy(x[:, :1]).item() for x in (here, there)])
        states.append(here[0].to(state))
    sample = ResolutionSample.from_states(torch.stack(states), solver, flow[0].viscosity, 1)
    means = {name: torch.tensor(v).mean(0).tolist() for name, v in
             (("energy", energies), ("enstrophy", enstrophies))}  # fmt: skip
    numbers = {"viscosity": flow[0].viscosity, "kmax_eta": sample.kmax_eta, "tail": sample.tail}
    return {"first": errors[0], "last": errors[-1], "steps": len(errors), **means, **numbers}


def table() -> str:
    """What is there, a row a trajectory."""
    head = ["experiment", "cells", "stored", "test trajectory, ν", "after 1 interval", "at the end", "intervals",
            "energy, n / 2n", "enstrophy, n / 2n", "k_max η", "last shells"]  # fmt: skip
    lines, worst = [head, ["---"] * len(head)], []
    for path in filter(in_the_plane, FILES):
        experiment = Experiment.read(path)
        for number in trajectories(experiment):
            found = read_result(path_of(path, number))
            if found is None:
                continue
            n, stored = ("×".join(map(str, g.n)) for g in (experiment.grid.build(), experiment.spec.grid))
            ratios = [f"{found[k][0] / found[k][1]:.4f}" if found[k][1] else "-" for k in ("energy", "enstrophy")]
            end = f"{found['last']:.1e}" + (" (chaotic)" if found["last"] > CHAOTIC * RESOLVED else "")
            lines.append([
                str(path.relative_to(ROOT)), n, stored, f"{number}, {found['viscosity']:.3g}", f"{found['first']:.1e}",
                end, str(found["steps"]), *ratios, f"{found['kmax_eta']:.2f}", f"{found['tail']:.0e}",
            ])  # fmt: skip
            worst.append(found["first"])
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    count = sum(error <= RESOLVED for error in worst)
    share = f"{count} of {len(worst)} trajectories within {RESOLVED:.0%}"
    return f"{text}\n\n{share} after one interval; largest {max(worst):.1e}."


def main() -> None:
    """Follow what is not there yet, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", nargs="*", type=Path, help="default: every committed experiment")
    one_thread()
    for path in parser.parse_args().experiments or filter(in_the_plane, FILES):
        experiment = Experiment.read(path)
        tree = experiment.tree()
        provenance = {key: tree[key] for key in ("seed", "dtype", "grid", "flow", "solver")}
        provenance |= {"interval": experiment.data.interval, "steps": experiment.data.intervals_in(SPLITS[-1])}
        for number in trajectories(experiment):
            to = path_of(path.resolve(), number)
            if (read_result(to) or {}).get("provenance") == provenance:
                continue
            found = follow(experiment, number)
            write_json(to, {**found, "provenance": json.loads(json.dumps(provenance))})
            said = f"{found['first']:.2e} after 1, {found['last']:.2e} after {found['steps']}"
            print(f"{path} {number}: {said}", flush=True)
    pack_results(RESULTS)
    about = "Written by `python experiments/resolution/run.py`. " + "\n".join(__doc__.strip().splitlines()[4:])
    write_report(HERE / "results.md", "Is the truth resolved?", about, table())


if __name__ == "__main__":
    main()
