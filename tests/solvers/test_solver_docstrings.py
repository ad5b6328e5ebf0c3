"""The examples in the docstrings run, and an override without a docstring takes over that of what it overrides."""

import doctest
import importlib
import pkgutil

import pytest

import solvers
from solvers.docstrings import InheritDocstrings

MODULES = [solvers.__name__, *(m.name for m in pkgutil.walk_packages(solvers.__path__, f"{solvers.__name__}."))]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    found = {test.name for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples}
    assert {"solvers.grid.Grid", "solvers.navier_stokes_2d.NavierStokes2D", "solvers.symmetry.act"} <= found


def test_docstrings_are_inherited():
    class Base(InheritDocstrings):
        def method(self):
            """Do it."""

        @classmethod
        def made(cls):
            """Make one."""

        @property
        def value(self):
            """A value."""

        def own(self):
            """Do it in general."""

    class Middle(Base):
        def method(self):
            pass

    class Leaf(Middle):
        def method(self):
            pass

        @classmethod
        def made(cls):
            pass

        @property
        def value(self):
            pass

        def own(self):
            """Do it in particular."""

        def new(self):
            pass

    said = (Leaf.method.__doc__, Leaf.made.__doc__, Leaf.value.__doc__, Leaf.own.__doc__, Leaf.new.__doc__)
    assert said == ("Do it.", "Make one.", "A value.", "Do it in particular.", None)
