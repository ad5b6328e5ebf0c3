"""Shapes are checked under test: every annotation with an array of jaxtyping in both packages, by beartype."""

import gc
import os
import shutil
import zlib
from pathlib import Path

gc.disable()  # imports and collection make millions of objects that stay: `pytest_collection_finish` sets them aside

import shape_checks  # noqa: E402

shape_checks.install()

import pytest  # noqa: E402
import torch  # noqa: E402
from filelock import FileLock  # noqa: E402

import fluidsurrogate as fs  # noqa: E402
from fluidsurrogate.cli import main  # noqa: E402

torch.set_num_threads(1)

MINIATURE = Path(__file__).with_name("miniature.toml")


def pytest_addoption(parser):
    parser.addoption("--part", default="0/1", help="keep one part of the chosen tests: 0/2 is the first half of two")


def pytest_collection_modifyitems(config, items):
    part, parts = map(int, config.getoption("part").split("/"))
    left_out = [item for item in items if zlib.crc32(item.nodeid.encode()) % parts != part]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def pytest_collection_finish(session):
    """Garbage is collected from here on, without a look at what the imports and the collection made."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def make_layout():
    """Every picture is drawn, but matplotlib does not search for its layout, which takes two thirds of the time.

    Gives the function that does, for `picture_layout`. Commands that run in a process of their own have their layout.
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    original = ConstrainedLayoutEngine.execute
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConstrainedLayoutEngine, "execute", lambda self, figure: {})
        yield original


@pytest.fixture
def picture_layout(make_layout, monkeypatch):
    """Pictures get their layout, as they do for users: for the tests that look at pictures."""
    monkeypatch.setattr("matplotlib.layout_engine.ConstrainedLayoutEngine.execute", make_layout)


@pytest.fixture(scope="session")
def _miniature_data():
    return fs.generate(MINIATURE).load()


@pytest.fixture
def miniature_data(_miniature_data):
    """The miniature's data: a copy, to do anything with."""
    return _miniature_data.copy(deep=True)


@pytest.fixture
def toml(tmp_path):
    """A miniature experiment as a file."""
    path = tmp_path / "miniature.toml"
    shutil.copy(MINIATURE, path)
    return path


@pytest.fixture
def experiment(toml):
    """The miniature experiment."""
    return fs.Experiment.read(toml)


@pytest.fixture(scope="session")
def trained(_miniature_data):
    """The miniature's data, and its models as they come out of training."""
    data = _miniature_data.copy(deep=True)
    return data, fs.train(MINIATURE, data)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of a whole run of the miniature, one for all workers: copy it before you change it."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "finished"
    with FileLock(shared / "finished.lock"):
        if not (folder / "scores.csv").exists():
            assert main(["run", str(MINIATURE), "--out", str(folder)]) == 0
    return folder
