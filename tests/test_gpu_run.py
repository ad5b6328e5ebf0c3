"""The one command for a GPU: what it does about parts that fail and packages that are missing; all of it on a CPU."""

import importlib.util
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest

GPU = Path(__file__).parents[1] / "experiments/gpu"


@pytest.fixture(scope="module")
def command():
    """The script as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(GPU))
        spec = importlib.util.spec_from_file_location("gpu_run", GPU / "run.py")
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "gpu_run", module)
        spec.loader.exec_module(module)
        yield module


def outcome(command, folder, script, seconds=30.0):
    part = command.Part("part", ("-c", script), {}, 60)
    return command.Running(part, seconds, folder, dict(os.environ)).wait()


def test_a_part_that_fails_says_why_and_keeps_its_table(command, tmp_path):
    script = "import sys, pathlib; pathlib.Path(sys.argv[2]).write_text('# Rows'); raise ValueError('no such kernel')"
    failed = outcome(command, tmp_path, script)
    assert failed.said == "FAILED with exit code 1: ValueError: no such kernel"
    assert failed.is_failure
    assert failed.table == "# Rows"
    text = command.report("a card", {"one": failed, "two": command.Outcome("passed")}, 3, ["zarr"])
    assert "| one | FAILED with exit code 1: ValueError: no such kernel | " in text
    assert "| two | passed | 0 |" in text
    assert "Missing here: zarr." in text
    assert "## Rows" in text


def test_a_part_that_takes_too_long_is_ended_with_all_that_it_started(command, tmp_path):
    pid = tmp_path / "pid"
    child = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    script = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    began = time.monotonic()
    stopped = outcome(command, tmp_path, script, seconds=3.0)
    assert stopped.said == "FAILED: not done after 3 s"
    assert time.monotonic() - began < 30
    if pid.exists():
        time.sleep(0.5)
        number = int(pid.read_text())
        assert not psutil.pid_exists(number) or psutil.Process(number).status() == psutil.STATUS_ZOMBIE


def test_tests_are_counted_from_what_was_printed_until_then(command):
    log = (
        "tests/gpu/test_gpu.py::test_a[kolmogorov, x] PASSED [ 1%]\ntests/gpu/test_gpu.py::test_b FAILED  [ 2%]\n"
        "tests/gpu/test_gpu.py::test_c PASSED [ 3%]\ntests/gpu/test_gpu.py::test_d "
    )
    assert command.count_tests(log) == "2 passed, 1 failed"
    assert command.count_tests("") == "no tests ran"


def make_wheel(folder, name, files):
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


def test_wheels_are_unpacked_if_they_fit(command, tmp_path):
    from packages import how_to_carry, missing, unpack

    wheels, site = tmp_path / "wheels", tmp_path / "site"
    wheels.mkdir()
    files = {"carried_along/__init__.py": "x = 3", "carried-1.data/purelib/carried_beside.py": "y = 4",
             "carried-1.data/scripts/carried": "", "carried-1.dist-info/METADATA": ""}  # fmt: skip
    make_wheel(wheels, "carried-1-py3-none-any.whl", files)
    make_wheel(wheels, "other-1-cp27-cp27m-win32.whl", {"other.py": ""})
    make_wheel(wheels, "odd.whl", {"odd.py": ""})
    assert missing({"carried_along": "carried", "sys": "sys"}) == ["carried"]
    assert unpack(wheels, site) == ["odd.whl", "other-1-cp27-cp27m-win32.whl"]
    assert {path.name for path in site.iterdir()} == {"carried_along", "carried_beside.py", "carried-1.dist-info"}
    assert how_to_carry(["carried"]).endswith("-d wheels carried")


def test_a_checkout_says_its_version(command, tmp_path):
    from packages import state_version

    state_version(tmp_path)
    script = (
        f"from importlib.metadata import distributions as d; print([x.version for x in d(path=[{str(tmp_path)!r}])])"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "['0.1.0']"


def test_every_dependency_is_looked_for(command):
    import tomllib

    from packages import PACKAGE

    project = tomllib.loads((GPU.parents[1] / "pyproject.toml").read_text())["project"]
    names = {dependency.partition(">")[0].lower().replace("-", "_") for dependency in project["dependencies"]}
    assert names <= {name.lower().replace("-", "_") for name in PACKAGE.values()}


def test_mistakes_are_one_line(tmp_path):
    for arguments, said in [(["--only", "nothing"], "unknown part 'nothing'; one of solver, steps"),
                            (["--wheels", str(tmp_path)], "there is no wheel in")]:  # fmt: skip
        done = subprocess.run(
            [sys.executable, GPU / "run.py", "--miniature", *arguments], capture_output=True, text=True
        )
        assert done.returncode == 2
        assert said in done.stderr.splitlines()[-1]


# The part `processes` is a test that is run beside this one: it is left to the full sweep.
BUT_PROCESSES = ("solver", "steps", "layers", "demo", "agreement", "tests")


@pytest.mark.parametrize(
    "only", [BUT_PROCESSES, pytest.param((), marks=pytest.mark.slow)], ids=["but processes", "all"]
)
def test_all_of_it_on_the_cpu(tmp_path, only):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, GPU / "run.py", "--miniature", "--out", tmp_path / "out"]
    command += ["--only", *only] if only else []
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    log = (tmp_path / "out/log.txt").read_text()
    assert done.returncode == 0, done.stdout + done.stderr + log[-3000:]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.md", "log.txt"}
    text = (tmp_path / "out/results.md").read_text()
    lines = text.splitlines()
    for part in ("solver", "steps", "layers", "demo", "agreement"):
        assert any(line.startswith(f"| {part} | passed | ") for line in lines), text
    assert any(line.startswith("| tests | passed; ") and "passed" in line[16:] for line in lines), text
    assert only or any(line.startswith("| processes | passed; 1 passed | ") for line in lines), text
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    assert sum(row[:1] == ["32 × 32"] for row in cells) == 8
    assert all(float(row[4]) > 0 and float(row[5]) > 0 for row in cells if row[0] == "32 × 32")
    assert {row[1] for row in cells if row[0] == "gunet over D4"} == {"eager", "bfloat16", "as it would be recorded"}
    assert {"truth", "persistence", "small-d4", "small-cnn"} <= {row[0] for row in cells}
    assert sum(row[-1] == "passed" and len(row) == 5 for row in cells) == 4  # the checks of the agreement
