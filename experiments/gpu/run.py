"""Everything that a GPU is to show, unattended, in at most nine minutes.

    python experiments/gpu/run.py [--wheels DIR] [--out DIR] [--only PART...]
    python experiments/gpu/run.py --miniature              # all of it on the CPU, in about a minute

From a checkout, with what a machine for PyTorch has; nothing is installed. What is missing is named with the command
that downloads it elsewhere; `--wheels DIR` takes a folder of such wheels, which are unpacked for the time of the run.
Each part is a process of its own with a time limit. A part that fails or takes too long is reported, and the rest goes
on; what it has measured until then is kept. In the folder `--out`, results/ beside this file by default, it leaves

- results.md: what came of each part, and the tables, with the card's name and the date;
- log.txt: all that the parts printed.

The parts:

- solver: the solver's back ends on 256² to 2048² and 64³ to 256³ cells (`experiments/solver_speed/throughput.py`);
- steps: training and forecast steps, eager, in bfloat16, compiled, as one CUDA graph
  (`experiments/training_speed/variants.py`);
- layers: group CNNs against plain CNNs (`experiments/layer_speed/run.py`);
- demo: the demo end to end, its scores beside those of a CPU (`demo.py`);
- agreement: how far the numbers are from the CPU's (`agreement.py`);
- tests: the rest of `tests/gpu`;
- processes: one training by a process on each of two GPUs (`tests/fluidsurrogate/test_distributed.py`, by NCCL); on a
  machine with one GPU it is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from packages import PACKAGE, ROOT, SOLVER, TESTS, how_to_carry, missing, state_version, unpack

EXPERIMENTS = ROOT / "experiments"
SECONDS = 540  # for everything


@dataclass(frozen=True)
class Part:
    """One part: a command, what it needs, and how many seconds it may take on a GPU."""

    name: str
    command: tuple[str, ...]
    needs: dict[str, str]
    seconds: int
    beside: bool = False  # it is not timed, and starts beside the part after it


@dataclass
class Outcome:
    """What came of a part."""

    said: str
    seconds: float = 0.0
    log: str = ""
    table: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether it neither passed nor was left out."""
        return not self.said.startswith(("passed", "left out"))


def parts(device: str, miniature: bool) -> list[Part]:
    """All parts, the timed ones first."""
    on, small = ("--device", device), ("--quick",) * miniature
    tests = ("-m", "pytest", "-p", "no:cacheprovider", "-v", "-rfEs", "--tb=short")
    chosen = "named or forecasts_in_several_threads" if miniature else "not numbers_are_those_of_the_cpu"
    return [
        Part("solver", (str(EXPERIMENTS / "solver_speed/throughput.py"), *on, *small), SOLVER, 110),
        Part("steps", (str(EXPERIMENTS / "training_speed/variants.py"), *on, *small), PACKAGE, 110),
        Part("layers", (str(EXPERIMENTS / "layer_speed/run.py"), *on, "--rounds", "7", *small), PACKAGE, 45),
        Part("demo", (str(EXPERIMENTS / "gpu/demo.py"), *on, *small), PACKAGE, 120),
        Part("agreement", (str(EXPERIMENTS / "gpu/agreement.py"), *on, *small), TESTS, 150, beside=True),
        Part("tests", (*tests, str(ROOT / "tests/gpu"), "-k", chosen), TESTS, 150, beside=True),
        Part("processes", (*tests, str(ROOT / "tests/fluidsurrogate/test_distributed.py"), "-k",
                           "end_with_the_weights_of_one"), TESTS, 100),
    ]  # fmt: skip


class Running:
    """A part in a process of its own, with a time limit for it and all that it starts."""

    def __init__(self, part: Part, seconds: float, folder: Path, environment: dict[str, str]) -> None:
        self.part, self.began, self.seconds = part, time.monotonic(), seconds
        self.table, self.log = folder / f"{part.name}.md", folder / f"{part.name}.log"
        own = () if "pytest" in part.command else ("--out", str(self.table))
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, *part.command, *own], stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env=environment, cwd=ROOT, start_new_session=True,
            )  # fmt: skip

    def wait(self) -> Outcome:
        """Wait for the end, or end it when its time is over."""
        left = self.seconds - (time.monotonic() - self.began)
        try:
            code = self.process.wait(max(left, 0.1))
            said = "passed" if code == 0 else f"FAILED with exit code {code}"
        except subprocess.TimeoutExpired:
            said = f"FAILED: not done after {self.seconds:.0f} s"
        finally:
            self.end()
        log = self.log.read_text(encoding="utf-8", errors="replace")
        if "pytest" in self.part.command:
            said += f"; {count_tests(log)}"
        elif said.startswith("FAILED with"):
            said += f": {last_line(log)}"
        table = self.table.read_text(encoding="utf-8") if self.table.exists() else ""
        return Outcome(said, time.monotonic() - self.began, log, table)

    def end(self) -> None:
        """End the process and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def count_tests(log: str) -> str:
    """How many tests passed, failed and were skipped, from pytest's lines, also if it was stopped."""
    counted = Counter(re.findall(r"^tests/\S+::.* (PASSED|FAILED|ERROR|SKIPPED)\b", log, flags=re.MULTILINE))
    return ", ".join(f"{number} {word.lower()}" for word, number in counted.items()) or "no tests ran"


def last_line(log: str) -> str:
    """The last line that is not empty, shortened."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return lines[-1][:160].replace("|", "/") if lines else "it printed nothing"


def describe_machine(device: str, environment: dict[str, str]) -> tuple[str, int]:
    """The card with its memory, driver and torch; and the number of cards."""
    script = (
        "import torch; c = torch.cuda; n = c.device_count() if c.is_available() else 0; "
        "p = c.get_device_properties(0) if n else None; "
        "print(n, f'{p.name}, {p.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}' if n else 'no GPU', "
        "f'torch {torch.__version__}', sep='|')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"torch cannot be used here: {last_line(done.stderr)}")
    count, card, version = done.stdout.strip().split("|")
    if device == "cpu":
        card = f"{os.cpu_count()} CPU cores, as a trial of these scripts"
    elif not int(count):
        raise SystemExit("there is no CUDA device: --miniature runs all of it on the CPU")
    return f"{card}, {version}, Python {platform.python_version()}", int(count)


def report(machine: str, outcomes: dict[str, Outcome], seconds: float, lacking: list[str]) -> str:
    """The text of results.md."""
    lines = ["# On a GPU", "", f"`python experiments/gpu/run.py`, {datetime.date.today()}, {machine}; {seconds:.0f} s.",
             "", "| part | outcome | seconds |", "|---|---|---|"]  # fmt: skip
    lines += [f"| {name} | {one.said} | {one.seconds:.0f} |" for name, one in outcomes.items()]
    if lacking:
        lines += ["", f"Missing here: {', '.join(lacking)}."]
    for one in outcomes.values():
        if one.table:
            lines += ["", re.sub(r"^#", "##", one.table.strip(), flags=re.MULTILINE)]
    failed = [
        line for one in outcomes.values() for line in one.log.splitlines() if line.startswith(("FAILED ", "ERROR "))
    ]
    if failed:
        lines += ["", "## Tests that failed", "", *(f"- `{line[:200]}`" for line in failed)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the parts, and write results.md and log.txt; exit with 1 if a part failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"), help="folder for the results")
    parser.add_argument("--wheels", type=Path, help="folder of wheels that are missing here")
    parser.add_argument("--only", nargs="+", metavar="PART", help="these parts only")
    parser.add_argument("--seconds", type=float, help=f"for everything: {SECONDS} on a GPU, an hour for the miniature")
    parser.add_argument("--miniature", action="store_true", help="all of it on the CPU, as small as it gets")
    arguments = parser.parse_args()
    device = "cpu" if arguments.miniature else "cuda"
    total = arguments.seconds or (3600 if arguments.miniature else SECONDS)
    every = parts(device, arguments.miniature)
    if arguments.only and (unknown := set(arguments.only) - {part.name for part in every}):
        parser.error(f"unknown part {sorted(unknown)[0]!r}; one of {', '.join(part.name for part in every)}")
    if arguments.wheels is not None and not any(arguments.wheels.glob("*.whl")):
        parser.error(f"there is no wheel in {arguments.wheels}")
    patience = 10 if arguments.miniature else 1  # the limits are for a GPU, and continuous integration may be slow
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder, site = Path(temporary), Path(temporary) / "site"
        refused = unpack(arguments.wheels, site) if arguments.wheels else []
        state_version(site)
        sys.path[1:1] = [str(site)]
        for name in refused:
            print(f"{name} is not for this Python: left out")
        lacking = missing(TESTS)
        if lacking:
            print(f"missing here: {', '.join(lacking)}. On a machine with a registry:\n  {how_to_carry(lacking)}\n"
                  "then give --wheels wheels")  # fmt: skip
        path = os.pathsep.join(filter(None, [str(ROOT), str(site), os.environ.get("PYTHONPATH")]))
        environment = os.environ | {"PYTHONPATH": path, "FLUIDSURROGATE_TEST_DEVICE": device}
        if arguments.miniature:
            environment["OMP_NUM_THREADS"] = "1"
        machine, cards = describe_machine(device, environment)
        outcomes: dict[str, Outcome] = {}
        running: list[Running] = []

        def finish(one: Running) -> None:
            outcomes[one.part.name] = found = one.wait()
            print(f"{one.part.name}: {found.said} ({found.seconds:.0f} s)", flush=True)
            write(arguments.out, report(machine, outcomes, time.monotonic() - began, lacking), outcomes)

        try:
            for part in every:
                if arguments.only and part.name not in arguments.only:
                    continue
                left = total - (time.monotonic() - began)
                if needed := missing(part.needs):
                    outcomes[part.name] = Outcome(f"left out: {', '.join(needed)} missing")
                elif part.name == "processes" and device == "cuda" and cards < 2:
                    outcomes[part.name] = Outcome("left out: it needs two GPUs")
                elif left < 10:
                    outcomes[part.name] = Outcome("left out: no time was left")
                else:
                    running.append(Running(part, min(part.seconds * patience, left), folder, environment))
                    if not part.beside:
                        while running:
                            finish(running.pop(0))
            while running:
                finish(running.pop(0))
        finally:
            for one in running:
                one.end()
        outcomes = {part.name: outcomes[part.name] for part in every if part.name in outcomes}
        write(arguments.out, report(machine, outcomes, time.monotonic() - began, lacking), outcomes)
    print(arguments.out / "results.md")
    sys.exit(any(one.is_failure for one in outcomes.values()))


def write(out: Path, text: str, outcomes: dict[str, Outcome]) -> None:
    """Write both files, in one piece each."""
    out.mkdir(parents=True, exist_ok=True)
    log = "".join(f"======== {name}\n{one.log}\n" for name, one in outcomes.items())
    for name, content in (("results.md", text), ("log.txt", log)):
        beside = out / f"{name}.partial"
        beside.write_text(content, encoding="utf-8")
        beside.replace(out / name)


if __name__ == "__main__":
    main()
