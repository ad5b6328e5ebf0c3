"""`fluidsurrogate models`: the architectures and their options."""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import textwrap

ORDER = 1


def add(commands) -> None:
    """Declare the command."""
    about = "the kinds of models, their options and the defaults of these"
    commands.add_parser("models", help=about, description=about).set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print every architecture."""
    sys.stdout.write(list_models())
    return 0


def list_models() -> str:
    """Each architecture, what it is, and its options as a TOML file would set them."""
    from fluidsurrogate.config.flow_and_model_configs import ModelConfig
    from fluidsurrogate.nn import ARCHITECTURES
    from fluidsurrogate.nn.registry import options_of

    lines = []
    for kind, build in sorted(ARCHITECTURES.items()):
        what = (inspect.getdoc(build) or "").partition("\n\n")[0]
        lines.append(textwrap.fill(f"{kind}: {what}", 100, subsequent_indent="  "))
        options = options_of(build).values()
        said = [p.name if p.default in (None, p.empty) else f"{p.name} = {json.dumps(p.default)}" for p in options]
        lines.append(textwrap.fill(", ".join(said), 100, initial_indent="    ", subsequent_indent="    "))
    common = ", ".join(key for key in ModelConfig.model_fields if key != "kind")
    lines.append(f"  every kind: {common}")
    return "\n".join(lines) + "\n"
