"""What a core does at most, and a process that keeps one busy."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from solvers import backends


def peak() -> float:
    """Floating-point operations a second of one core in float32, by `peak.cpp`; 0 if there is no compiler."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ["-O3", "-march=native", "-std=c++17", f"-I{Path(backends.__file__).parent}"]
        try:
            source = Path(__file__).with_name("peak.cpp")
            subprocess.run(["g++", *flags, str(source), "-o", f"{folder}/peak"], check=True)
        except OSError:
            return 0.0
        return float(subprocess.run([f"{folder}/peak"], check=True, capture_output=True, text=True).stdout)


@contextmanager
def spinning() -> Iterator[None]:
    """While another process occupies a core."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.2)
        yield
    finally:
        process.kill()
        process.wait()
