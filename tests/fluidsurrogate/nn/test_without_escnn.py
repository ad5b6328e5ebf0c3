"""Where escnn is not installed, only what needs it is refused, in a line that says what to do."""

import sys

import pytest

from fluidsurrogate import Experiment, UsageError
from fluidsurrogate.nn.layers.escnn_import import import_escnn

HOW = "pip install joblib scipy, then pip install --no-deps escnn==1.0.11"


@pytest.fixture(autouse=True)
def _not_installed(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "escnn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "escnn", None)


def test_an_experiment_with_a_steerable_model_is_refused(toml):
    assert Experiment.read(toml)
    with pytest.raises(UsageError) as caught:
        Experiment.read(toml, ["models.o2.kind=steerable", "models.o2.frequency=7"])
    (line,) = str(caught.value).splitlines()
    assert "models.o2: kind = 'steerable' needs escnn (" in line
    assert line.endswith(HOW)


def test_no_placeholder_is_left_behind():
    before = set(sys.modules)
    with pytest.raises(ValueError, match="needs escnn"):
        import_escnn()
    assert not {name for name in set(sys.modules) - before if name.startswith("lie_learn")}
