"""The examples in the docstrings run."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / "fluidsurrogate").rglob("*.py"))
    if ">>>" in path.read_text()
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    """In an empty folder, from which `experiments/` is seen as from the repository's root."""
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    assert [test for test in doctest.DocTestFinder().find(module) if test.examples]
    assert doctest.testmod(module).failed == 0


def test_main_entry_points_have_examples():
    assert {"fluidsurrogate.auditing.audit", "fluidsurrogate.inspection.info"} <= set(MODULES)
