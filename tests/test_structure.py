"""Imports run one way, read off the code."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def offenders(folder: str, banned: set[str], exempt: set[str] = frozenset()) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path.name not in exempt
        for name in imports(path)
        if any(name == b or name.startswith(f"{b}.") for b in banned)
    ]


def test_solvers_know_torch_and_numpy_only():
    assert not offenders("solvers", {"fluidsurrogate", "xarray", "zarr", "netCDF4", "pydantic", "pandas", "accelerate"})


def test_networks_see_tensors_only():
    assert not offenders("fluidsurrogate/nn", {"xarray", "pandas", "numpy", "pydantic", "fluidsurrogate.config"})


@pytest.mark.parametrize(
    "module", ["metrics.py", "ensemble_metrics.py", "comparison.py", "plots.py", "audit_report.py"]
)
def test_scores_see_xarray_only(module):
    assert not {"torch", "solvers"} & {name.partition(".")[0] for name in imports(ROOT / "fluidsurrogate" / module)}


def test_one_module_turns_tensors_into_xarray():
    """Whatever else imports both packages passes Datasets to `dataset.py` or takes them from it."""
    both = {
        path.name
        for path in (ROOT / "fluidsurrogate").glob("*.py")
        if {"torch", "xarray"} <= imports(path)
        and ".values" in path.read_text()
        and "torch.from_numpy" in path.read_text()
    }
    assert both == {"dataset.py"}


def test_library_does_not_print_or_unpickle():
    for path in [*(ROOT / "fluidsurrogate").rglob("*.py"), *(ROOT / "solvers").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in {"print", "eval", "exec", "torch.load", "pickle.load", "pickle.loads"}, path


def test_the_checks_can_fail():
    """The control: the tests themselves import what the solvers must not."""
    assert offenders("tests", {"fluidsurrogate"})
