"""Every public object is documented in full."""

import inspect

import pytest

import fluidsurrogate.nn as nn

# Each may go without an example, a list of related names and an extended summary.
MAY_MISS = {"EX01", "SA01", "ES01"}


def test_there_are_examples():
    for example in (nn.GroupConv, nn.GroupPool, nn.LiftingConv, nn.Network, nn.architecture):
        assert "\nExamples\n" in inspect.getdoc(example)


def public():
    """The documented names, and the methods and properties of the classes among them."""
    for name in nn.__all__:
        value = getattr(nn, name)
        if inspect.isfunction(value):
            yield name
        elif inspect.isclass(value):
            yield name
            kinds = (property, staticmethod, classmethod)
            members = vars(value).items()
            yield from (
                f"{name}.{n}" for n, v in members if n[0] != "_" and (inspect.isfunction(v) or type(v) in kinds)
            )


@pytest.mark.parametrize("name", public())
def test_docstrings_are_numpydoc(name):
    validate = pytest.importorskip("numpydoc.validate", reason="pip install numpydoc").validate
    found = validate(f"fluidsurrogate.nn.{name}")["errors"]
    assert not [error for error in found if error[0] not in MAY_MISS]
