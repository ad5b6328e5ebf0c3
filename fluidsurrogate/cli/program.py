"""The program: parse the command line, run one command, and turn errors into one line and an exit code."""

from __future__ import annotations

import argparse
import codecs
import errno
import importlib
import logging
import os
import pkgutil
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path

from fluidsurrogate.cli import commands
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.paths import as_path

PLAIN = "fluidsurrogate-plain"  # how characters are written that a terminal's encoding does not have
PLAINLY = {"±": "+-", "×": "x", "≤": "<=", "≥": ">=", "→": "->", "−": "-", "…": "...", "–": "-", "²": "^2", "⁺": "+"}


def write_plainly(error: UnicodeError) -> tuple[str, int]:
    """Codec error handler: a plain spelling of the characters that cannot be encoded, else a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAINLY.get(character, "?") for character in error.object[error.start : error.end]), error.end


codecs.register_error(PLAIN, write_plainly)


class Parser(argparse.ArgumentParser):
    """One line on stderr and exit code 2, without the usage text before it."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser() -> Parser:
    """Return the grammar of the command line, made of all commands."""
    top = Parser(prog="fluidsurrogate", description="Simulate, learn, forecast, compare.")
    top.add_argument("--version", action="version", version=f"fluidsurrogate {version('fluidsurrogate')}")
    subparsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    found = [importlib.import_module(f"{commands.__name__}.{m.name}") for m in pkgutil.iter_modules(commands.__path__)]
    for command in sorted(found, key=lambda module: module.ORDER):
        command.add(subparsers)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0 done, 1 a claimed symmetry fails, 2 bad input, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a notebook's is none
            stream.reconfigure(errors=PLAIN)
    arguments = parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("fluidsurrogate").setLevel(logging.INFO)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # what Zarr was about to write when it was interrupted
    try:
        return run(arguments)
    except (UsageError, OSError) as error:
        sys.stderr.write(f"fluidsurrogate: {explain(error)}\n")
        return 2
    except KeyboardInterrupt:
        again = "the same command without --force" if getattr(arguments, "force", False) else "the same command"
        sys.stderr.write(f"fluidsurrogate: interrupted; {again} goes on from here\n")
        return 130


def explain(error: Exception) -> str:
    """What a user needs to know of an error that is no fault of the program."""
    if not isinstance(error, OSError):
        return str(error)
    what = f"{error.strerror or error}: {error.filename}" if error.filename else str(error.strerror or error)
    return f"{what}; make room, the same command goes on from here" if error.errno == errno.ENOSPC else what


def run(arguments: argparse.Namespace) -> int:
    """Run what the parsed command line asks for and return the exit code."""
    for key, value in vars(arguments).items():
        if isinstance(value, Path):
            setattr(arguments, key, as_path(value))
    allow_code = getattr(arguments, "allow_code", None)
    permission: AbstractContextManager[None] = nullcontext()
    if allow_code is not None:
        from fluidsurrogate.nn import allowing_code

        if allow_code and os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())  # as `python -m` does; processes that train get a copy
        permission = allowing_code(allow_code)
    with permission:
        return arguments.run(arguments)
