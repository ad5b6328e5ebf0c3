"""`fluidsurrogate models`: list the architectures and their options, or the pretrained models."""

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
    models = commands.add_parser("models", help=about, description=about)
    models.set_defaults(run=run)
    models.add_argument("--pretrained", action="store_true", help="list the pretrained models of this package instead")


def run(arguments: argparse.Namespace) -> int:
    """Print all architectures, or all pretrained models.

    Parameters
    ----------
    arguments : argparse.Namespace
        The parsed command line.

    Returns
    -------
    int
        The exit code: 0.
    """
    sys.stdout.write(list_pretrained() if arguments.pretrained else list_models())
    return 0


def list_pretrained() -> str:
    """List the pretrained models: what each one steps, on which grid, and its inputs.

    Returns
    -------
    str
        A line for each model.
    """
    from fluidsurrogate.core.paths import PRETRAINED_PREFIX
    from fluidsurrogate.models.model_files import read_metadata
    from fluidsurrogate.models.pretrained import model_folder, pretrained_names

    lines = []
    for address in (f"{PRETRAINED_PREFIX}{name}" for name in pretrained_names()):
        metadata = read_metadata(model_folder(address))
        spec = metadata.spec
        fields, inputs = (" and ".join(field.name for field in group) for group in (spec.fields, spec.inputs))
        lines.append(
            f"{address}: {fields} on {' × '.join(map(str, spec.grid.n))} cells, a step every {spec.interval:g}; "
            f"inputs: {inputs or 'none'}"
        )
    return "\n".join(lines) + "\n"


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
