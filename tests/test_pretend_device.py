"""No path of the package mixes devices, or computes on the CPU unasked: `device_checks.py` on a pretend device.

The checks run in another process, because the device stays in the process that installs it. To run some of them
by hand: `python tests/test_pretend_device.py NAME...`
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import pretend_device
import pytest
import torch
from matplotlib.layout_engine import ConstrainedLayoutEngine

if __name__ == "__main__":
    pretend_device.install()  # before the package asks which devices there are

from device_checks import CHECKS, KOLMOGOROV, SQUARE, Device

pytestmark = pytest.mark.skipif(not pretend_device.IS_POSSIBLE, reason="this torch takes no devices written in Python")

# Too long for every run, and mostly covered by others of the same kind: in every run are each architecture, flow, loss
# and strategy of training, and the miniature from its data to its scores. They take some forty seconds of a core.
SLOW = {name for name in CHECKS if name.startswith(("training, loss", "training_goes_on", "generation, "))}
SLOW |= {"training, a scalar", "training, velocity", "whole_run, two", "rollouts, velocity"}
SLOW |= {"calibration_and_members, hybrid"}
SLOW -= {"generation, inputs"}


def outcomes_of(names):
    """What each check raised, None where it passed."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, __file__, *names], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def quick():
    return outcomes_of([*(name for name in CHECKS if name not in SLOW), *CONTROLS])


@pytest.fixture(scope="module")
def slow():
    return outcomes_of(sorted(SLOW))


@pytest.mark.parametrize("name", [name for name in CHECKS if name not in SLOW])
def test_numbers_are_those_of_the_cpu(quick, name):
    assert quick[name] is None, quick[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SLOW))
def test_numbers_are_those_of_the_cpu_slow(slow, name):
    assert slow[name] is None, slow[name]


# -- controls: what the checks must find


def leave_a_table_on_the_cpu(device, folder):
    """A solver one of whose tables is not on its device."""
    solver = KOLMOGOROV.flow.solver(SQUARE, interval=0.1, device=device.name)
    solver._equation._advection = solver._equation._advection.cpu()
    solver(device.of(KOLMOGOROV.anything(SQUARE)))


def make_a_tensor_on_the_cpu(device, folder):
    """A step whose result is computed on the CPU and copied to the device."""
    with device.only_there():
        device.of(torch.zeros(3))


def draw_with_a_generator_of_the_cpu(device, folder):
    torch.randn(3, device=device.name, generator=torch.Generator())


def wait_for_it(device, folder):
    x = device.of(torch.zeros(3))
    with device.without_traffic():
        float(x.sum())


def send_something_unasked(device, folder):
    """A list as an index, which is no computation on the CPU, but a copy to the device."""
    x = device.of(torch.zeros(3))
    with device.without_traffic():
        x[[0, 2]]


def read_its_memory(device, folder):
    device.of(torch.zeros(3)).numpy()


CONTROLS = {
    "leave_a_table_on_the_cpu": "expected all tensors on one device, but found pretend:0 and cpu",
    "make_a_tensor_on_the_cpu": "zeros computed a tensor of shape (3,) on the CPU",
    "draw_with_a_generator_of_the_cpu": "expected a generator on pretend",
    "wait_for_it": "the host waits for ['_local_scalar_dense']",
    "send_something_unasked": "the host waits for ['index']",
    "read_its_memory": "can't convert pretend:0 device type tensor to numpy",
}


@pytest.mark.parametrize("name", CONTROLS)
def test_controls_fail(quick, name):
    assert CONTROLS[name] in str(quick[name])


def main():
    """Run checks on the pretend device, and print what they raised."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    ConstrainedLayoutEngine.execute = lambda self, figure: {}  # as in conftest.py: pictures are drawn, not arranged
    device, outcomes = Device(pretend_device.NAME, pretend_device.only_there, pretend_device.counting), {}
    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            try:
                (CHECKS.get(name) or globals()[name])(device, Path(folder))
                outcomes[name] = None
            except Exception:
                outcomes[name] = traceback.format_exc()
    sys.stdout.write("\n" + json.dumps(outcomes) + "\n")


if __name__ == "__main__":
    main()
