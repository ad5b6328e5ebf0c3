"""The structure of the code: imports run one way, no circle, and no module hides a public name."""

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

import fluidsurrogate

ROOT = Path(__file__).parents[1]

# From low to high. A module imports its own package and those above it in this list, also inside functions. Packages
# on one line do not import each other.
LAYERS = (
    ("solvers",),
    ("fluidsurrogate.core",),
    ("fluidsurrogate.data", "fluidsurrogate.nn"),
    ("fluidsurrogate.evaluation",),
    ("fluidsurrogate.config",),
    ("fluidsurrogate.simulation",),
    ("fluidsurrogate.models",),
    ("fluidsurrogate.training", "fluidsurrogate.auditing"),
    ("fluidsurrogate.rendering",),
    ("fluidsurrogate.explaining",),
    ("fluidsurrogate.reporting",),
    ("fluidsurrogate.pipeline",),
    ("fluidsurrogate.inspection",),
    ("fluidsurrogate.api",),
    ("fluidsurrogate.cli",),
)


def imports(path: Path) -> set[str]:
    """Every name that a file imports, inside functions too, except what only a type checker sees."""
    tree, found = ast.parse(path.read_text()), set()
    unseen = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def modules() -> dict[str, Path]:
    paths = [*(ROOT / "solvers").rglob("*.py"), *(ROOT / "fluidsurrogate").rglob("*.py")]
    return {module_name(path): path for path in sorted(paths)}


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def layer_of(name: str) -> int | None:
    return next((i for i, layer in enumerate(LAYERS) if any(is_within(name, p) for p in layer)), None)


def wrong_way(name: str, imported: set[str]) -> list[str]:
    """What a module imports that is not below it."""
    own = layer_of(name)
    package = next(p for p in LAYERS[own] if is_within(name, p))
    return [
        f"{name} imports {other}"
        for other in sorted(imported)
        if (layer := layer_of(other)) is not None and not is_within(other, package) and layer >= own
    ]


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Modules that import each other, directly or by others."""
    reach = {name: set(others) for name, others in graph.items()}
    for middle in graph:
        for others in reach.values():
            if middle in others:
                others |= reach[middle]
    return sorted({tuple(sorted(m for m in graph if m in reach[name] and name in reach[m])) for name in graph
                   if name in reach[name]})  # fmt: skip


def import_graph() -> dict[str, set[str]]:
    known = modules()
    graph = {}
    for name, path in known.items():
        # A package's `__init__` that gathers its modules is behind whoever imports the package, not beside them.
        graph[name] = {other for other in imports(path) if other in known and other != name}
        graph[name] -= {other for other in graph[name] if is_within(name, other)}
    return graph


def test_imports_run_one_way():
    assert not [fault for name, path in modules().items() if layer_of(name) is not None
                for fault in wrong_way(name, imports(path))]  # fmt: skip


def test_every_module_has_a_layer():
    top = {"fluidsurrogate", "fluidsurrogate.__main__"}
    assert {name for name in modules() if layer_of(name) is None} <= top


def test_no_circle():
    assert not circles(import_graph())


def test_the_order_can_be_broken():
    """The control: an import upwards, one inside a function, and a circle are found."""
    assert wrong_way("fluidsurrogate.core.files", {"fluidsurrogate.config.experiment", "solvers.grid"}) == [
        "fluidsurrogate.core.files imports fluidsurrogate.config.experiment"
    ]
    assert wrong_way("fluidsurrogate.nn.layers", {"fluidsurrogate.data.conversion"})
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [("a", "b", "c")]


def test_deferred_imports_are_seen(tmp_path):
    (tmp_path / "deferred.py").write_text("def f():\n    from fluidsurrogate.cli import main\n    return main\n")
    assert "fluidsurrogate.cli" in imports(tmp_path / "deferred.py")


def test_no_module_hides_a_public_name():
    """Once imported, a submodule is an attribute of its package: it must not replace what the package exports."""
    code = (
        "import importlib, pkgutil, sys\n"
        "import fluidsurrogate, fluidsurrogate.nn, solvers, solvers.flows\n"
        "packages = [fluidsurrogate, fluidsurrogate.nn, solvers]\n"
        "before = [{name: getattr(p, name) for name in p.__all__} for p in packages]\n"
        "for top in (fluidsurrogate, solvers):\n"
        "    for module in pkgutil.walk_packages(top.__path__, top.__name__ + '.'):\n"
        "        if not module.name.endswith('__main__'):\n"
        "            importlib.import_module(module.name)\n"
        "changed = [n for p, b in zip(packages, before) for n, v in b.items() if getattr(p, n) is not v]\n"
        "sys.exit(', '.join(changed) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_everything_public_is_there():
    assert sorted(fluidsurrogate.__all__) == fluidsurrogate.__all__
    for name in fluidsurrogate.__all__:
        assert getattr(fluidsurrogate, name) is not None


def test_every_package_says_what_it_is():
    for name, path in modules().items():
        if path.name == "__init__.py":
            said = ast.get_docstring(ast.parse(path.read_text()))
            assert len(said or "") > 60, name


def code_lines(path: Path) -> int:
    """Lines of a module without its docstrings."""
    text = path.read_text()
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = [
        node.body[0]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None
    ]
    return len(text.splitlines()) - sum(d.end_lineno - d.lineno + 1 for d in docstrings)


def test_modules_are_short():
    lengths = {name: code_lines(path) for name, path in modules().items()}
    assert not {name: n for name, n in lengths.items() if n > 320}
    assert statistics.median(lengths.values()) <= 130


def offenders(folder: str, banned: set[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in imports(path)
        if any(is_within(name, b) for b in banned)
    ]


def test_solvers_know_torch_and_numpy_only():
    assert not offenders("solvers", {"xarray", "zarr", "netCDF4", "pydantic", "pandas", "accelerate"})


def test_networks_see_tensors_only():
    assert not offenders("fluidsurrogate/nn", {"xarray", "pandas", "numpy", "pydantic"})


@pytest.mark.parametrize(
    "pattern",
    [
        "evaluation/metrics/*.py",
        "evaluation/ensemble_metrics/*.py",
        "evaluation/comparison.py",
        "evaluation/score_tables.py",
        "rendering/*.py",
        "auditing/report.py",
        "explaining/report.py",
        "reporting/*.py",
    ],
)
def test_scores_see_xarray_only(pattern):
    paths = list((ROOT / "fluidsurrogate").glob(pattern))
    assert paths
    for path in paths:
        assert not {"torch", "solvers"} & {name.partition(".")[0] for name in imports(path)}, path


def test_one_module_turns_tensors_into_xarray():
    """Whatever else imports both packages passes Datasets to `data/conversion.py` or takes them from it."""
    both = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "fluidsurrogate").rglob("*.py")
        if {"torch", "xarray"} <= imports(path)
        and ".values" in path.read_text()
        and "torch.from_numpy" in path.read_text()
    }
    assert both == {"fluidsurrogate/data/conversion.py"}


UNSAFE = {"print", "eval", "exec", "torch.load", "pickle.load", "pickle.loads"}


def unsafe_calls(text: str) -> list[str]:
    """The calls in a source text that print or unpickle; each ends in "weights only" if it says so literally."""
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    found = []
    for call in calls:
        literal = any(k.arg == "weights_only" and isinstance(k.value, ast.Constant) and k.value.value is True
                      for k in call.keywords)  # fmt: skip
        allowing = any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in call.keywords)
        if ast.unparse(call.func) in UNSAFE or allowing:
            found.append(ast.unparse(call.func) + (", weights only" if literal else ""))
    return found


def test_library_does_not_print_or_unpickle():
    """One call of `torch.load`, that of the reader of PyTorch files, and that with a literal `weights_only=True`."""
    found = {name: calls for name, path in modules().items() if (calls := unsafe_calls(path.read_text()))}
    assert found == {"fluidsurrogate.data.readers.pytorch_tensors": ["torch.load, weights only"]}


def test_unpickling_is_seen():
    """The control: without the literal, or with a variable in its place, a call is unsafe."""
    assert unsafe_calls("torch.load(path)") == ["torch.load"]
    assert unsafe_calls("torch.load(path, weights_only=safe)") == ["torch.load"]
    assert unsafe_calls("np.load(path, allow_pickle=True)") == ["np.load"]
    assert not unsafe_calls("np.load(path, allow_pickle=False)")


def test_the_checks_can_fail():
    """The control: the tests themselves import what the solvers must not."""
    assert offenders("tests", {"xarray"})
