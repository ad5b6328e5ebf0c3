"""The pages for contributors name what is there: packages in their order, paths, make targets, checks."""

import ast
import os
import re
from pathlib import Path

import pytest
import yaml
from test_structure import LAYERS

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
PAGES = ("CONTRIBUTING.md", "SECURITY.md")


def recipe(target):
    """The commands of a make target."""
    (found,) = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    return [line.strip() for line in found.splitlines()]


def is_defined(name):
    """Whether a file has a class, function or method of that name, given as "path/to/file.py::Class.method"."""
    path, _, dotted = name.partition("::")
    if not (ROOT / path).is_file():
        return False
    body = ast.parse((ROOT / path).read_text()).body
    for part in dotted.split("."):
        found = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == part]
        if not found:
            return False
        body = found[0].body if isinstance(found[0], ast.ClassDef) else []
    return True


def test_hooks_are_the_checks_of_make():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook["entry"] for repository in config["repos"] for hook in repository["hooks"]]
    assert hooks == [command.replace("$(BIN)", ".venv/bin") for command in recipe("check")]


def test_the_map_has_the_packages_in_their_order():
    names = re.findall(r"^\| `((?:solvers|fluidsurrogate)[\w.]*)` \|", CONTRIBUTING, re.MULTILINE)
    level = {name: i for i, layer in enumerate(LAYERS) for name in layer}
    assert set(names) == set(level)
    assert [level[name] for name in names] == sorted(level[name] for name in names)


@pytest.mark.parametrize("page", PAGES)
def test_paths_are_there(page):
    text = (ROOT / page).read_text()
    named = re.findall(r"`((?:solvers|fluidsurrogate|tests|docs|experiments|notebooks|\.ci)/[\w./-]*)`", text)
    named += re.findall(r"\]\((?!https:)([^)#]+)\)", text)
    missing = [path for path in named if not (ROOT / path).exists() and "NAME" not in path]
    assert len(named) > 3
    assert not missing


def test_names_in_the_code_are_there():
    rows = re.findall(r"^\| (.*::.*) \|$", CONTRIBUTING, re.MULTILINE)
    assert len(rows) >= 25
    assert not [name for row in rows for name in re.findall(r"`([^`]*::[^`]*)`", row) if not is_defined(name)]


@pytest.mark.parametrize("name", [
    "solvers/nowhere.py::Grid", "solvers/grid.py::Grids", "solvers/grid.py::max_modes",
    "solvers/grid.py::Grid.resample", "solvers/grid.py::torch", "solvers/grid.py::",
])  # fmt: skip
def test_a_name_that_is_not_there_is_found(name):
    """The control: no such file or name, a method without its class, a function in a class, an import, no name."""
    assert is_defined("solvers/grid.py::Grid.max_modes")
    assert not is_defined(name)


def test_the_site_shows_the_table():
    page = (ROOT / "docs" / "concepts" / "code.md").read_text()
    begin, end = (re.search(rf':{option}: "(.*)"', page)[1] for option in ("start-after", "end-before"))
    assert CONTRIBUTING.count(begin) == CONTRIBUTING.count(end) == 1
    shown = CONTRIBUTING.partition(begin)[2].partition(end)[0]
    assert shown.count("::") == CONTRIBUTING.partition("## Find it in the code")[2].count("::") - 1  # but `file::name`


def test_make_targets_are_there():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    steps = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    texts = [CONTRIBUTING, (ROOT / ".ci" / "run").read_text(), *steps]
    named = {name for text in texts for name in re.findall(r"\bmake (?:PYTHON=\S+ )?([a-z][a-z-]+)", text)}
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    assert {"check", "test", "test-wheel"} <= named & targets
    assert {name for name in named if name.startswith(("test", "install", "check", "dist", "docs"))} <= targets


def test_the_changelog_keeps_its_form():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert text.startswith("# Changelog\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE)[0] == "[Unreleased]"
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_scripts_of_ci_can_be_executed():
    scripts = sorted((ROOT / ".ci").iterdir())
    assert [path.name for path in scripts] == ["run", "test_wheel"]
    assert all(os.access(path, os.X_OK) for path in scripts)
