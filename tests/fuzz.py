"""Random experiment files and damaged results: each is read, or refused in a few lines.

    python tests/fuzz.py --experiments 10000 --results 2000 --seed 0
    python tests/fuzz.py --repeat results 137 --seed 0    # one case again, with its traceback

Each case runs in a child forked from one warm process, with a limit of time and of memory. Success and refusal are
both fine. A traceback, a signal, a hang or a refusal of many lines is a fault.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import tomllib
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a fork keeps none of its parent's threads
# Beside this file lies `solvers`, the tests of the package of that name, which must not be taken for it.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import torch  # noqa: E402

import fluidsurrogate as fs  # noqa: E402
import fluidsurrogate.pipeline.stages  # noqa: E402
from fluidsurrogate.cli import main  # noqa: E402
from fluidsurrogate.cli.program import error_message  # noqa: E402
from fluidsurrogate.inspection.report import report  # noqa: E402
from fluidsurrogate.inspection.toml_writer import to_toml  # noqa: E402
from fluidsurrogate.pipeline.run import Run  # noqa: E402

TESTS = Path(__file__).parent
SECONDS, MEMORY, LINES, CHARACTERS = 20.0, 4 * 2**30, 11, 3000  # the limits of a case
NUMBERS = [0, 1, -1, 2, 3, 7, 16, 33, 100, 10**6, 10**12, 2**63, -(2**63), 10**30, 0.0, -0.5, 0.1, 1e-3, 1e-300, 1e-12,
           1e6, 1e20, 1e300, -1e300, float("nan"), float("inf"), float("-inf")]  # fmt: skip
TEXTS = ["", " ", "D4", "C4", "cnn", "gcnn", "fno", "decaying", "kolmogorov", "forced", "stirred", "float64", "cuda",
         "velocity", "mps", "auto", "native", "name", "../..", "~", "~nobody/x", "a::b", "hf://a/b", "/dev/null", "\0",
         "é" * 300, "\u202e\U0001f30a", "x" * 5000, "os:system", "nan"]  # fmt: skip


# -- what is done to a tree of plain data


def anything(rng: random.Random) -> object:
    """A value of any type."""
    make: list[Callable[[], object]] = [
        lambda: rng.choice(NUMBERS),
        lambda: rng.choice(TEXTS),
        lambda: rng.choice([True, False]),
        lambda: [rng.choice(NUMBERS) for _ in range(rng.choice([0, 1, 2, 2, 3, 50]))],
        lambda: {rng.choice(["n", "kind", "low", "high", "x y", "é", ""]): rng.choice([*NUMBERS, *TEXTS])},
    ]
    return rng.choice([make[0], make[0], *make])()


def places(tree: object, found: list | None = None) -> list[tuple]:
    """Every key of a tree, with what holds it."""
    found = [] if found is None else found
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        found.append((tree, key))
        places(value, found)
    return found


def change_tree(tree: dict, rng: random.Random) -> None:
    """One change: a value replaced, scaled or moved; a key dropped, misspelt or new."""
    holder, key = rng.choice(places(tree) or [(tree, "new")])
    value = holder[key] if isinstance(holder, list) else holder.get(key)
    match rng.randrange(8):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[rng.choice([f"{key}s", key[:-1], rng.choice(TEXTS)])] = holder.pop(key)
        case 2 if isinstance(holder, dict):
            holder[rng.choice(["kind", "n", "path", "init", "members", "new", rng.choice(TEXTS)])] = anything(rng)
        case 3 if isinstance(value, int | float):
            holder[key] = value * rng.choice([-1, 2, 0.5, 1.0, 10, 1000, 1e-9])
        case 4:
            other, at = rng.choice(places(tree))
            holder[key] = copy.deepcopy(other[at])
        case _:
            holder[key] = anything(rng)


def change_bytes(data: bytes, rng: random.Random) -> bytes:
    """One change: bits flipped, a part cut out, doubled or overwritten, or all of it replaced."""
    at, size = rng.randrange(len(data) + 1), rng.choice([1, 1, 2, 8, 64, 4096])
    noise = rng.randbytes(size)
    match rng.randrange(8):
        case 0 | 1 | 2:
            flipped = bytearray(data)
            for i in [rng.randrange(len(data)) for _ in range(size if data else 0)]:
                flipped[i] ^= 1 << rng.randrange(8)
            return bytes(flipped)
        case 3:
            return data[:at]
        case 4:
            return data[:at] + data[at + size :]
        case 5:
            return data[:at] + noise + data[at + rng.choice([0, size]) :]
        case 6:
            return data[:at] + data[at : at + size] * rng.choice([2, 100]) + data[at:]
        case _:
            deep = [b"[" * 100_000, b"a = " + b"[" * 5000, b'{"a":' * 5000]
            other = [data.decode("latin-1").encode("utf-16"), data.replace(b"\n", b"\r"), b"\xef\xbb\xbf" + data]
            return rng.choice([b"", noise, *deep, *other])


# -- the cases: what is made, then what is done with it


def experiment_case(rng: random.Random, folder: Path, sources: list[str]) -> Callable[[], None]:
    """An experiment file with a few changes, which is read and looked at as `generate` does before it begins."""
    text, path = rng.choice(sources), folder / "experiment.toml"
    if rng.random() < 0.75:
        tree = tomllib.loads(text)
        if rng.random() < 0.9 and isinstance(tree.get("grid"), dict):
            tree["grid"] |= {"n": 32} if isinstance(tree["grid"]["n"], int) else {"n": [32, 64]}  # for speed
            tree["grid"].pop("store", None)
        for _ in range(rng.choice([1, 1, 2, 4])):
            change_tree(tree, rng)
        path.write_text(to_toml(tree).replace("NaN", "nan").replace("Infinity", "inf"), "utf-8", "surrogatepass")
    else:
        path.write_bytes(change_bytes(text.encode(), rng))

    def use() -> None:
        os.chdir(folder)
        experiment = fs.Experiment.read(path)
        pipeline = Run(experiment, folder / "run")
        for name in experiment.models:
            pipeline.provenance(f"models/{name}")
        experiment.build_solver()

    return use


def result_case(rng: random.Random, folder: Path, run: Path) -> Callable[[], None]:
    """A run of which a few files are damaged, which is looked at, opened, read and loaded."""
    shutil.copytree(run, copied := folder / "run")
    target = rng.choice(["data.zarr", "data.zarr", "models/small-d4", "models/small-cnn", "forecasts.nc", "scores.nc"])
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        if files := files_in(copied / target):
            damage(rng.choice(files), rng, copied)

    def use() -> None:
        path, refused = copied / target, None
        looks = [lambda: report(fs.info(path)), lambda: report(fs.info(copied))]
        looks += [lambda: fs.load(path)] if target.startswith("models") else [lambda: fs.open_data(path).load()]
        for look in looks:
            try:
                look()
            except (fs.UsageError, OSError) as error:
                refused = error
        if refused is not None:
            raise refused

    return use


def files_in(path: Path) -> list[Path]:
    """A file, or all the files in a folder: no links, and nothing that links lead to."""
    if path.is_symlink():
        return []
    inside = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
    return sorted(p for p in [path, *inside] if p.is_file() and not p.is_symlink())


def damage(file: Path, rng: random.Random, run: Path) -> None:
    """Damage one file: its bytes, its JSON, or what it is."""
    assert file.resolve().is_relative_to(run.resolve())
    kind = rng.randrange(10)
    if kind < 4 and file.suffix == ".json":
        try:
            tree = json.loads(file.read_text())
            change_tree(tree, rng)
            file.write_text(json.dumps(tree, ensure_ascii=rng.random() < 0.5), "utf-8", "surrogatepass")
            return
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            pass  # damaged before
    if kind < 7:
        file.write_bytes(change_bytes(file.read_bytes(), rng))
        return
    data = file.read_bytes()
    file.unlink()
    match rng.randrange(5):
        case 0:
            file.mkdir()
        case 1:
            file.symlink_to(rng.choice([file, run, run / "nowhere", Path("/dev/null"), run / "scores.csv", Path("/")]))
        case 2:
            file.with_name(rng.choice(["other", "é", f"{file.name}.moved"])).write_bytes(data)
        case 3:
            shutil.copy(rng.choice(files_in(run)), file)


# -- running them


def in_child(case: Callable[[], None]) -> str:
    """Run a case in a fork; what it says: "" for success, "refused: …", or "fault: …"."""
    began = time.monotonic()
    readable, writable = os.pipe()
    if (child := os.fork()) == 0:
        os.close(readable)
        said = os.fdopen(writable, "wb")
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        said.write(outcome(case).encode("utf-8", "replace"))
        said.close()
        os._exit(0)
    os.close(writable)
    said, deadline = b"", began + SECONDS
    try:
        while select.select([readable], [], [], max(0.0, deadline - time.monotonic()))[0]:
            if not (part := os.read(readable, 2**16)):
                break
            said += part
        else:
            os.kill(child, signal.SIGKILL)
            said = f"fault: no answer in {SECONDS:g} s".encode()
    finally:
        os.close(readable)
        _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and not said.startswith(b"fault"):
        return f"fault: signal {os.WTERMSIG(status)}"
    return said.decode("utf-8", "replace")


def outcome(case: Callable[[], None]) -> str:
    """Success, a refusal of a few lines, or a fault, with its traceback."""
    try:
        case()
    except (fs.UsageError, OSError) as error:  # what the command line prints
        text = error_message(error)
        kind = "refused" if len(text.splitlines()) <= LINES and len(text) <= CHARACTERS else "fault: a long refusal"
        return f"{kind}: {text}"
    except BaseException:
        return f"fault: {traceback.format_exc()}"
    return ""


def base_run(folder: Path) -> Path:
    """A run of the miniature: what is damaged."""
    run = folder / "run"
    steps = ["--set", "train.steps=2", "--set", "data.steps=2", "--set", "train.unroll=1", "--set", "train.workers=1"]
    code = main(["run", str(TESTS / "miniature.toml"), "--out", str(run), *steps])
    assert code == 0
    return run


def fuzz(experiments: int, results: int, seed: int, repeat: tuple[str, int] | None = None) -> list[str]:
    """Run all the cases; a line for each fault."""
    torch.set_num_threads(1)
    sources = [path.read_text() for path in sorted(TESTS.parent.glob("experiments/**/*.toml"))]
    sources += [(TESTS / "miniature.toml").read_text()] * 3
    with tempfile.TemporaryDirectory() as name:
        run = base_run(Path(name))
        result_case(random.Random(0), Path(tempfile.mkdtemp(dir=name)), run)  # imports all that it needs
        makers = {
            "experiments": lambda rng, folder: experiment_case(rng, folder, sources),
            "results": lambda rng, folder: result_case(rng, folder, run),
        }
        for path in (run / "data.zarr", run / "forecasts.nc", run / "models" / "small-d4"):
            report(fs.info(path))
        fs.load(run / "models" / "small-d4")
        plan = [(kind, i) for kind, n in (("experiments", experiments), ("results", results)) for i in range(n)]
        faults, counts, began = [], Counter[str](), time.monotonic()
        for done, (kind, number) in enumerate([repeat] if repeat else plan):
            with tempfile.TemporaryDirectory(dir=name) as folder:
                case = makers[kind](random.Random(f"{seed} {kind} {number}"), Path(folder))
                said = outcome(case) if repeat else in_child(case)
            what = said.partition(":")[0] or "read"
            counts[f"{kind} {what}"] += 1
            if repeat or what == "fault":
                faults.append(f"{kind} {number} --seed {seed}: {said if repeat else said[-1500:]}")
                print(faults[-1], flush=True)
            if done % 500 == 499:
                print(f"{done + 1} of {len(plan)}, {(time.monotonic() - began) / (done + 1):.3f} s each", flush=True)
        print(", ".join(f"{what} {count}" for what, count in sorted(counts.items())))
    return faults


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--experiments", type=int, default=10000)
    options.add_argument("--results", type=int, default=2000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--repeat", nargs=2, metavar=("KIND", "NUMBER"), help="one case again: experiments 12")
    given = options.parse_args()
    again = (given.repeat[0], int(given.repeat[1])) if given.repeat else None
    sys.exit(bool(fuzz(given.experiments, given.results, given.seed, again)) and not again)
