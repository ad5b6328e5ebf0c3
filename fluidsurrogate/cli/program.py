"""The program: parse the command line, run one command, and turn errors into a one-line message and an exit code."""

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

ASCII_FALLBACK = "fluidsurrogate-plain"  # the codec error handler for characters that a terminal cannot show
ASCII_SPELLINGS = {
    "±": "+-", "×": "x", "≤": "<=", "≥": ">=", "→": "->", "−": "-", "…": "...", "–": "-", "²": "^2", "⁺": "+",
}  # fmt: skip


def spell_in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that cannot be encoded by an ASCII spelling, or else a question mark: a codec error handler.

    Parameters
    ----------
    error : UnicodeError
        The error of the codec.

    Returns
    -------
    replacement : str
        The replacement of the characters.
    position : int
        Where encoding continues.

    Raises
    ------
    UnicodeError
        If the error is not about encoding.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(ASCII_SPELLINGS.get(character, "?") for character in characters), error.end


codecs.register_error(ASCII_FALLBACK, spell_in_ascii)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line on stderr and exit code 2, without the usage text before it."""

    def error(self, message: str):
        """Print an error and exit."""
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line from all commands.

    Returns
    -------
    argparse.ArgumentParser
        The parser.
    """
    top = _Parser(
        prog="fluidsurrogate",
        description="Simulate incompressible flow, train surrogates of it, forecast, and compare the forecasts.",
    )
    top.add_argument("--version", action="version", version=f"fluidsurrogate {version('fluidsurrogate')}")
    subparsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    found = [importlib.import_module(f"{commands.__name__}.{m.name}") for m in pkgutil.iter_modules(commands.__path__)]
    for command in sorted(found, key=lambda module: module.ORDER):
        command.add(subparsers)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        The exit code: 0 if done, 1 if a symmetry that a model claims does not hold, 2 for wrong input, 130 if
        interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a notebook's stream is not
            stream.reconfigure(errors=ASCII_FALLBACK)
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("fluidsurrogate").setLevel(logging.INFO)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # Zarr's unfinished writes after an interruption
    try:
        return run(arguments)
    except (UsageError, OSError) as error:
        sys.stderr.write(f"fluidsurrogate: {error_message(error)}\n")
        return 2
    except KeyboardInterrupt:
        again = "the same command without --force" if getattr(arguments, "force", False) else "the same command"
        sys.stderr.write(f"fluidsurrogate: interrupted; {again} continues from here\n")
        return 130


def error_message(error: Exception) -> str:
    """Return the message for an error that is not a bug of the program.

    Parameters
    ----------
    error : Exception
        A UsageError or an OSError.

    Returns
    -------
    str
        The message, with what to do.
    """
    if not isinstance(error, OSError):
        return str(error)
    message = f"{error.strerror or error}: {error.filename}" if error.filename else str(error.strerror or error)
    return (
        f"{message}; free some space: the same command continues from here" if error.errno == errno.ENOSPC else message
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command of a parsed command line.

    Parameters
    ----------
    arguments : argparse.Namespace
        The parsed command line.

    Returns
    -------
    int
        The exit code.
    """
    for key, value in vars(arguments).items():
        if isinstance(value, Path):
            setattr(arguments, key, as_path(value))
    allow_code = getattr(arguments, "allow_code", None)
    permission: AbstractContextManager[None] = nullcontext()
    if allow_code is not None:
        from fluidsurrogate.nn import allowing_code

        if allow_code and os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())  # as `python -m` does; worker processes inherit it
        permission = allowing_code(allow_code)
    with permission:
        return arguments.run(arguments)
