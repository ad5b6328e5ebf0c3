"""Directives whose content comes from the code, so that no page can fall behind it."""

from __future__ import annotations

import argparse
import inspect
import os
import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class CommandHelp(SphinxDirective):
    """What `fluidsurrogate [SUBCOMMAND] --help` prints."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        from fluidsurrogate.cli.program import build_parser

        os.environ["COLUMNS"] = "88"  # argparse asks for it
        top = build_parser()
        chosen = top
        if self.arguments:
            subparsers = next(a for a in top._actions if isinstance(a, argparse._SubParsersAction))
            chosen = subparsers.choices[self.arguments[0]]
        text = chosen.format_help()
        block = nodes.literal_block(text, text)
        block["language"] = "text"
        return [block]


class ConfigKeys(SphinxDirective):
    """The keys of one table of an experiment: each with its default, and with the meaning that the page gives.

    The content has a line `key: meaning` for each key. A key that the code does not have, or one that the page leaves
    out, is a warning, and so an error under `make docs`.
    """

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        defaults = dict(defaults_of(self.arguments[0]))
        told = dict(self.told())
        place = self.get_location()
        for key in sorted(set(told) - set(defaults)):
            self.state_machine.reporter.warning(f"{place}: [{self.arguments[0]}] has no key {key!r}", line=self.lineno)
        for key in sorted(set(defaults) - set(told)):
            self.state_machine.reporter.warning(f"{place}: [{self.arguments[0]}] also has {key!r}", line=self.lineno)
        rows = [f"| `{key}` | {default} | {told.get(key, '')} |" for key, default in defaults.items()]
        return self.parsed(["| key | default | meaning |", "|---|---|---|", *rows])

    def told(self) -> Iterator[tuple[str, str]]:
        """The lines of the content; one that is indented goes on with the line before it."""
        lines: list[str] = []
        for line in self.content:
            if line.startswith(" ") and lines:
                lines[-1] += f" {line.strip()}"
            elif line.strip():
                lines.append(line.strip())
        for line in lines:
            key, _, meaning = line.partition(":")
            yield key.strip(), meaning.strip()

    def parsed(self, lines: list[str]) -> list[nodes.Node]:
        """Markdown as nodes."""
        container = nodes.container(classes=["config-keys"])
        self.state.nested_parse(StringList(lines, self.get_location()), self.content_offset, container)
        return [container]


class ListModels(SphinxDirective):
    """What `fluidsurrogate models` prints."""

    def run(self) -> list[nodes.Node]:
        from fluidsurrogate.cli.commands.models import list_models

        text = list_models()
        block = nodes.literal_block(text, text)
        block["language"] = "text"
        return [block]


class RegistryReference(SphinxDirective):
    """A table of everything registered of one kind, and the reference of each; within `eval-rst`."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        lines = [".. list-table::", "   :header-rows: 1", "", "   * - name", "     - what it is"]
        reference: list[str] = []
        for name, registered_object in registered(self.arguments[0]).items():
            found = inspect.unwrap(registered_object)
            first = " ".join((inspect.getdoc(found) or "").partition("\n\n")[0].split()).replace("|", r"\|")
            path = f"{found.__module__}.{found.__qualname__}"
            is_class = inspect.isclass(found)
            if "<locals>" in path:  # made by a function, as the plain form of a group network is
                lines += [f"   * - ``{name}``", f"     - {first}"]
                continue
            lines += [f"   * - :{'class' if is_class else 'func'}:`{name} <{path}>`", f"     - {first}"]
            reference += ["", f".. {'autoclass' if is_class else 'autofunction'}:: {path}"]
        container = nodes.container()
        self.state.nested_parse(StringList(lines + reference, self.get_location()), self.content_offset, container)
        return [container]


def registered(kind: str) -> dict[str, Any]:
    """The functions or classes of a registry, by name."""
    from fluidsurrogate.evaluation.ensemble_metrics import ENSEMBLE_METRICS
    from fluidsurrogate.evaluation.metrics import METRICS
    from fluidsurrogate.nn import ARCHITECTURES
    from fluidsurrogate.nn.losses import LOSSES
    from solvers import FLOWS

    registries: dict[str, Any] = {
        "metrics": {name: found.function for name, found in METRICS.items()},
        "ensemble_metrics": {name: found.function for name, found in ENSEMBLE_METRICS.items()},
        "losses": LOSSES,
        "architectures": ARCHITECTURES,
        "flows": FLOWS[2],
        "flows_3d": FLOWS[3],
    }
    return dict(registries[kind])


class ListDiagnostics(SphinxDirective):
    """Every registered diagnostic with its long name and units."""

    def run(self) -> list[nodes.Node]:
        from fluidsurrogate.evaluation.diagnostics import DIAGNOSTICS

        rows = ["| name | what it is | units | needs |", "|---|---|---|---|"]
        for name, found in DIAGNOSTICS.items():
            about = getattr(found, "field", found)  # a field has a spec, a number or spectrum its own words
            needs = getattr(found, "needs", None) or ""
            rows.append(f"| `{name}` | {about.long_name} | {about.units} | {needs} |")
        container = nodes.container()
        self.state.nested_parse(StringList(rows, self.get_location()), self.content_offset, container)
        return [container]


def defaults_of(table: str) -> Iterator[tuple[str, str]]:
    """The keys of a table of an experiment with their defaults, as TOML would write them."""
    from fluidsurrogate.config import experiment, flow_and_model_configs, parameter_sampling, solver_configs
    from fluidsurrogate.config import stage_configs as stages

    configs: dict[str, Any] = {
        "experiment": experiment.Experiment,
        "grid": stages.GridConfig,
        "data": stages.DataConfig,
        "train": stages.TrainConfig,
        "compare": stages.CompareConfig,
        "solver": solver_configs.SolverConfig,
        "models.NAME.solver": solver_configs.CoarseSolverConfig,
        "models.NAME": flow_and_model_configs.ModelConfig,
        "range": parameter_sampling.Range,
    }
    if table.startswith("flow "):
        config = flow_and_model_configs.config_of_kind("flow", table.partition(" ")[2])
    else:
        config = configs[table]
    for key, field in config.model_fields.items():
        if field.is_required():
            yield key, "required"
        else:
            yield key, written(field.get_default(call_default_factory=True))


def written(value: Any) -> str:
    """A default in a cell of a table."""
    from pydantic import BaseModel

    if value is None or isinstance(value, BaseModel) or value in ({}, ()):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, tuple):
        return f"`[{', '.join(f'{v:g}' if isinstance(v, float) else str(v) for v in value)}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


NUMBER = r"[\d.,]+(?:e[-+]?\d+)?"
WHOLE = re.compile(rf"({NUMBER} ± {NUMBER}|[\d.]+e[-+]\d+)")


def keep_numbers_whole(app: Sphinx, doctree: nodes.document) -> None:
    """No line break within 1e-05 or 0.3 ± 0.1 in a table."""
    for entry in doctree.findall(nodes.entry):
        for text in list(entry.findall(nodes.Text)):
            parts = WHOLE.split(text)
            if len(parts) > 1:
                pieces = [
                    nodes.inline("", part, classes=["nowrap"]) if i % 2 else nodes.Text(part)
                    for i, part in enumerate(parts)
                    if part
                ]
                text.parent[text.parent.index(text) : text.parent.index(text) + 1] = pieces


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.connect("doctree-read", keep_numbers_whole)
    app.add_directive("command-help", CommandHelp)
    app.add_directive("config-keys", ConfigKeys)
    app.add_directive("registry-reference", RegistryReference)
    app.add_directive("list-diagnostics", ListDiagnostics)
    app.add_directive("list-models", ListModels)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
