"""What the pages show works: Python blocks run, command lines parse, experiment tables are valid, named files exist.

Blocks of the kind ```python run, those of a page one after the other, in a folder that holds a small demo: the same
models and names as in `experiments/demo.toml`, on fewer cells and with fewer steps. A block of the kind
```{code-block} python is shown only.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import torch

import fluidsurrogate as fs
from fluidsurrogate.cli import main
from fluidsurrogate.cli.program import build_parser

pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[2]
PAGES = sorted(p for p in (ROOT / "docs").rglob("*.md") if not {"figures", "notebooks", "generated"} & set(p.parts))
FENCE = re.compile(r"^```(?P<kind>[\w{}-]*)(?P<rest>[^\n]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
# What would take long, in the words of a page and in those of the test.
SHORTER = {
    "fs.calibrate(model)": "fs.calibrate(model, starts=20, steps=2, members=3)",
    "10_000": "40",
    "keep_every=100": "keep_every=10",
    "torch.randn(1, 1, 32, 32)\nafter = folded": "torch.randn(1, 1, 16, 16)\nafter = folded",
    "fine = Grid.square(64)": "fine = Grid.square(24)",
    "torch.zeros(1, 1, 64, 64)": "torch.zeros(1, 1, 24, 24)",
}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT / "docs"))


def blocks(page: Path, kind: str) -> list[str]:
    """The blocks of a page of one kind, as they stand."""
    return [match["text"] for match in FENCE.finditer(page.read_text(encoding="utf-8")) if match["kind"] == kind]


def with_blocks(kind: str) -> list:
    return [pytest.param(page, id=name_of(page)) for page in PAGES if blocks(page, kind)]


@pytest.mark.parametrize("page", [p for p in with_blocks("python") if "extending" not in p.id])
def test_python_blocks_run(page, demo, monkeypatch):
    monkeypatch.chdir(demo)
    torch.manual_seed(0)
    names: dict[str, object] = {"__name__": "page"}
    for number, block in enumerate(blocks(page, "python")):
        for long, short in SHORTER.items():
            block = block.replace(long, short)
        exec(compile(block, f"{name_of(page)}, block {number}", "exec"), names)


def test_nothing_is_made_shorter_in_vain():
    """Every replacement of the test is of something that a page says."""
    said = "".join(block for page in PAGES for block in blocks(page, "python"))
    assert not [long for long in SHORTER if long not in said]


def commands(page: Path) -> list[list[str]]:
    """The command lines of a page, each behind a dollar sign."""
    lines = [line for block in blocks(page, "console") for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines), f"{name_of(page)}: a command begins with $"
    return [shlex.split(line[2:], comments=True) for line in lines]


def parses(arguments: list[str]) -> bool:
    """Whether the command takes these arguments; --version and --help end it well."""
    try:
        build_parser().parse_args(arguments)
    except SystemExit as stopped:
        return not stopped.code
    return True


@pytest.mark.parametrize("page", with_blocks("console"))
def test_commands_are_right(page):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for words in commands(page):
        program, *arguments = words
        if program == "torchrun":
            program, arguments = "fluidsurrogate", arguments[arguments.index("fluidsurrogate") + 1 :]
        if program == "fluidsurrogate":
            assert parses(arguments), f"{name_of(page)}: {shlex.join(words)}"
        elif program == "make":
            assert set(arguments) <= set(targets), words
        elif program == "python":
            assert (ROOT / arguments[0]).is_file() or arguments[:1] == ["-m"], words
        else:
            assert program in ("pip", "git", "cd", "pytest", "source"), words
            named = [extra for word in arguments for extra in re.findall(r"\[([\w,]+)\]", word)]
            assert {name for extra in named for name in extra.split(",")} <= set(extras), words


@pytest.mark.parametrize("page", with_blocks("toml"))
def test_tables_are_valid(page):
    """A block is laid over the demo, table by table, of which it may show a part."""
    for block in blocks(page, "toml"):
        tree = tomllib.loads((ROOT / "experiments" / "demo.toml").read_text(encoding="utf-8"))
        for key, value in tomllib.loads(block).items():
            over = tree.get(key)
            other_flow = key == "flow" and value.get("kind") != over["kind"]
            if isinstance(value, dict) and isinstance(over, dict) and key != "models" and not other_flow:
                over.update(value)
            else:
                tree[key] = value
        fs.Experiment.from_tree(tree, name_of(page))


@pytest.mark.parametrize("page", [pytest.param(page, id=name_of(page)) for page in PAGES])
def test_named_files_exist(page):
    named = re.findall(
        r"`((?:experiments|tests|docs|solvers|fluidsurrogate)/[\w./-]*)`", page.read_text(encoding="utf-8")
    )
    named += re.findall(r"`python ((?:experiments|docs)/[\w./]+\.py)", page.read_text(encoding="utf-8"))
    assert not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize("page", [pytest.param(page, id=name_of(page)) for page in PAGES])
def test_no_line_is_a_comment(page):
    """MyST takes a line that begins with % for a comment: "10\\n% of the steps" would lose its end."""
    assert not re.findall(r"^ *%.*", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_command_line_says_its_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert fs.__version__ in capsys.readouterr().out
