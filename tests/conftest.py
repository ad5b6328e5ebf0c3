"""Shapes are checked under test: every annotation of jaxtyping in both packages, by beartype."""

import shutil
from pathlib import Path

from jaxtyping import install_import_hook

# An int is a float, as everywhere in typed Python.
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
install_import_hook(["solvers", "fluidsurrogate"], CHECKER)

import pytest  # noqa: E402
import torch  # noqa: E402

import fluidsurrogate as fs  # noqa: E402
from fluidsurrogate.cli import main  # noqa: E402

torch.set_num_threads(1)

MINIATURE = Path(__file__).with_name("miniature.toml")


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
def trained():
    """The miniature's data, and its models as they come out of training."""
    data = fs.generate(MINIATURE)
    return data, fs.train(MINIATURE, data)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of a whole run of the miniature: copy it before you change it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main(["run", str(MINIATURE), "--out", str(folder)]) == 0
    return folder
