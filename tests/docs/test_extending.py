"""The examples of the pages on extending: each is one new file in a copy of the packages, and is used from there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "extending").glob("*.md"))
FILE = re.compile(
    r"^```\{code-block\} python\n:caption: (?P<path>\S+\.py)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITH_FILE = [pytest.param(page, id=page.stem) for page in PAGES if FILE.search(page.read_text(encoding="utf-8"))]

# The tests that run over everything registered, and the name of the example in them.
CONTRACTS = {
    "flow": ("tests/solvers/test_flows.py", "vortex_array"),
    "metric": ("tests/fluidsurrogate/test_metrics.py", "peak_error"),
    "loss": ("tests/fluidsurrogate/test_losses.py", "log_cosh"),
    "architecture": ("tests/fluidsurrogate/nn/test_contract.py", "shallow"),
    "reader": ("tests/fluidsurrogate/test_readers.py", "NumPy"),
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A copy of both packages with the files of all pages in it."""
    folder = tmp_path_factory.mktemp("packages")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("solvers", "fluidsurrogate"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for page in PAGES:
        for match in FILE.finditer(page.read_text(encoding="utf-8")):
            path = folder / match["path"]
            assert path.parent.is_dir(), f"{page.name}: there is no folder {path.parent}"
            assert not path.exists(), f"{page.name}: {match['path']} is there already"
            path.write_text(match["text"].lstrip("\n"), encoding="utf-8")
    return folder


def run(packages: Path, demo: Path, *command: str) -> subprocess.CompletedProcess:
    """A Python program of its own: what registers itself does so before anything else is imported."""
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, cwd=demo, env=environment, check=False
    )


def test_there_is_a_page_for_each_kind():
    assert {page.stem for page in PAGES} == {
        "index", "architecture", "flow", "loss", "metric", "reader", "stage",
    }  # fmt: skip
    assert len(WITH_FILE) == len(PAGES) - 1


@pytest.mark.parametrize("page", WITH_FILE)
def test_example_works(page, packages, demo):
    blocks = "\n".join(BLOCK.findall(page.read_text(encoding="utf-8")))
    assert blocks
    done = run(packages, demo, "-c", f"import torch\ntorch.set_num_threads(1)\n{blocks}")
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.docs
@pytest.mark.parametrize("page", CONTRACTS)
def test_example_keeps_the_contract(page, packages):
    """The tests of all flows, metrics, … find the example by themselves, and it passes them."""
    for part in ("tests", "experiments", "pyproject.toml"):
        if not (packages / part).exists():
            (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, packages / part)
    path, name = CONTRACTS[page]
    done = run(packages, packages, "-m", "pytest", "-q", "-p", "no:cacheprovider", path, "-k", name)
    assert done.returncode == 0, done.stdout[-3000:]


def test_example_is_needed(demo):
    """The control: without its new file an example fails."""
    (page,) = (page for page in PAGES if page.stem == "loss")
    blocks = "\n".join(BLOCK.findall(page.read_text(encoding="utf-8")))
    assert run(ROOT, demo, "-c", blocks).returncode != 0


def test_examples_are_clean(packages):
    """They pass the linter, as every file of the package does."""
    files = [packages / m["path"] for page in PAGES for m in FILE.finditer(page.read_text(encoding="utf-8"))]
    settings = ["--config", str(ROOT / "pyproject.toml")]
    for check in (["check", *settings], ["format", "--check", *settings]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check, *files], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout
