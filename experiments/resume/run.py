"""Killed at fifty random moments, does a training end with the same bits?

    python experiments/resume/run.py        # results.md

Two networks are trained with everything that is drawn or carried along: order of the data, augmentation, noise, an
averaged copy of the weights, push-forward, batches in parts. One run is left alone; the other is sent SIGKILL at random
moments, fifty times, and started again each time by the same command. Then every file of both is compared.
"""

from __future__ import annotations

import logging
import multiprocessing
import random
import tempfile
from pathlib import Path

import fluidsurrogate as fs
from fluidsurrogate.core.files import write_text
from fluidsurrogate.core.locks import folder_lock
from fluidsurrogate.pipeline.pipeline import run_stages
from fluidsurrogate.pipeline.run import Run
from fluidsurrogate.training.windows import InMemoryTrajectories  # noqa: F401 (imported before the forks, which then start at once)

HERE = Path(__file__).parent
EXPERIMENT = HERE.parents[1] / "tests" / "miniature.toml"
KILLS, LONGEST = 50, 1.0  # seconds until a kill, at the most
OVERRIDES = [
    "train.steps=1200", "train.valid_every=50", "train.checkpoint_every=10", "train.average=0.99", "train.noise=0.1",
    "train.accumulate=2", "train.unroll=[1, 2]", "train.push_forward=1", "train.unroll_fraction=0.5",
    "models.small-d4.augment=D4",
]  # fmt: skip
FORK = multiprocessing.get_context("fork")


def train(out: Path) -> None:
    """The stage `train` of the command line."""
    with folder_lock(out):
        run_stages(Run(fs.Experiment.read(EXPERIMENT, OVERRIDES), out), "train")


def contents(out: Path) -> dict[str, bytes]:
    """Every file of the models."""
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted((out / "models").rglob("*")) if p.is_file()}


def main() -> None:
    logging.getLogger("fluidsurrogate").setLevel(logging.ERROR)
    draw, moments = random.Random(0), []
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        for out in (whole, killed):
            fs.generate(fs.Experiment.read(EXPERIMENT, OVERRIDES), out)
        train(whole)
        while True:
            process = FORK.Process(target=train, args=(killed,))
            process.start()
            process.join(draw.uniform(0.02, LONGEST) if len(moments) < KILLS else None)
            if process.exitcode is not None:
                if process.exitcode:
                    raise SystemExit(f"a resumed run failed after {len(moments)} kills")
                break
            process.kill()
            process.join()
            moments.append(sum(1 for _ in (killed / "models").glob("*/config.json")))
        a, b = contents(whole), contents(killed)
    same = a == b
    verdict = "Every byte is the same." if same else "THE FILES DIFFER: " + ", ".join(n for n in a if a[n] != b.get(n))
    write_text(
        HERE / "results.md",
        f"""# Killed {len(moments)} times

`python experiments/resume/run.py`: two networks, 1,200 steps each, checkpoints every 10; SIGKILL after a random time of
up to {LONGEST:g} s: {moments.count(0)} times while the first network trained, {moments.count(1)} while the second did.
Compared are all {len(a)} files of both: {", ".join(sorted({Path(name).name for name in a}))}.

**{verdict}**
""",
    )
    raise SystemExit(not same)


if __name__ == "__main__":
    main()
