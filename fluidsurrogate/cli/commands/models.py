"""`fluidsurrogate models`: list the architectures and their options."""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import textwrap

ORDER = 1


def add(commands) -> None:
    """Declare the command and its arguments.

    Parameters
    ----------
    commands : argparse subparsers
        Where commands are declared.
    """
    about = "list the kinds of models, with their options and defaults"
    commands.add_parser("models", help=about, description=about).set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print all architectures.

    Parameters
    ----------
    arguments : argparse.Namespace
        The parsed command line.

    Returns
    -------
    int
        The exit code: 0.
    """
    sys.stdout.write(list_models())
    return 0


def list_models() -> str:
    """List the architectures: what each one is, and its options as a TOML file sets them.

    Returns
    -------
    str
        The list, wrapped to 100 characters a line.
    """
    from fluidsurrogate.config.flow_and_model_configs import ModelConfig
    from fluidsurrogate.nn import ARCHITECTURES
    from fluidsurrogate.nn.registry import options_of

    lines = []
    for kind, build in sorted(ARCHITECTURES.items()):
        summary = (inspect.getdoc(build) or "").partition("\n\n")[0]
        lines.append(textwrap.fill(f"{kind}: {summary}", 100, subsequent_indent="  "))
        options = options_of(build).values()
        keys = [p.name if p.default in (None, p.empty) else f"{p.name} = {json.dumps(p.default)}" for p in options]
        lines.append(textwrap.fill(", ".join(keys), 100, initial_indent="    ", subsequent_indent="    "))
    common = ", ".join(key for key in ModelConfig.model_fields if key != "kind")
    lines.append(f"  every kind: {common}")
    return "\n".join(lines) + "\n"
