"""The figures of the study: curves, the chart, and equivariance errors by wavenumber."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path

import numpy as np
from networks import COUNTS, MAIN, MODELS

sys.path.append(str(Path(__file__).parents[1]))
from study import tenth

COLOURS = dict(zip(MODELS, ("#d55e00", "#e69f00", "#0072b2", "#999999", "#56b4e9", "#cc79a7", "#009e73", "#000000",
                            "#8c510a", "#dfc27d", "#35978f"), strict=True))  # fmt: skip


def draw_curves(found: dict, path: Path) -> None:
    """Draw ten-step error against the number of trajectories."""
    from matplotlib.figure import Figure

    panels = [("isotropic", "same", "isotropic data"), ("layered", "same", "jets along x"),
              ("layered", "turned", "the same, tests turned by 90°")]  # fmt: skip
    figure = Figure(figsize=(11, 4), layout="constrained")
    for axis, (kind, test, title) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
        for number, name in enumerate(MODELS):
            counts = [count for count in COUNTS if (kind, count, name, 1.0) in found]
            values = [[tenth(r, test) for r in found[kind, count, name, 1.0].values()] for count in counts]
            if not counts:
                continue
            at = np.array(counts) * 2 ** (0.035 * (number - 5))
            style = {"ls": "-", "lw": 1.8} if name in MAIN else {"ls": "none", "marker": ".", "ms": 7}
            axis.errorbar(at, [np.mean(v) for v in values], [np.std(v) for v in values], label=name,
                          color=COLOURS[name], capsize=2, **style)  # fmt: skip
        axis.set(xscale="log", yscale="log", title=title, xlabel="training trajectories")
        axis.set_xticks(COUNTS, [str(count) for count in COUNTS])
        axis.minorticks_off()
        axis.set_yticks([0.1, 0.2, 0.5, 1.0, 2.0], ["0.1", "0.2", "0.5", "1", "2"])
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("nRMSE after ten steps")
    figure.axes[-1].legend(frameon=False, fontsize=7.5, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=130)


def draw_chart(found: dict, path: Path) -> None:
    """Draw data × anisotropy → the ratio of errors of `gcnn` and the better of the plain networks."""
    from matplotlib.figure import Figure

    rows = [("isotropic", "same", "isotropic"), ("layered", "same", "jets, tested as seen"),
            ("layered", "turned", "jets, tested turned")]  # fmt: skip
    figure = Figure(figsize=(7.6, 3.1), layout="constrained")
    axis = figure.subplots()
    values = np.full((len(rows), len(COUNTS)), np.nan)
    for (i, (kind, test, _)), (j, count) in product(enumerate(rows), enumerate(COUNTS)):
        errors = {name: np.mean([tenth(r, test) for r in found[kind, count, name, 1.0].values()])
                  for name in MAIN if (kind, count, name, 1.0) in found}  # fmt: skip
        if len(errors) == len(MAIN):
            best = min(("cnn", "cnn, augmented"), key=lambda name: errors[name])
            values[i, j] = errors["gcnn"] / errors[best]
            label = f"{values[i, j]:.2f} ×\n{best}'s"
            axis.text(j, i, label, ha="center", va="center", fontsize=8, color="black")
    shown = axis.imshow(np.log2(values), cmap="RdBu_r", vmin=-1.2, vmax=1.2, aspect="auto", alpha=0.8)
    shown.cmap.set_bad("0.9")
    axis.set_xticks(range(len(COUNTS)), [str(count) for count in COUNTS])
    axis.set_yticks(range(len(rows)), [label for *_, label in rows])
    axis.set(xlabel="training trajectories", title="Ten-step error of the D4 network over that of the better plain one")
    axis.title.set_fontsize(10)
    figure.savefig(path, dpi=130)


def draw_wavenumbers(found: dict, path: Path) -> None:
    """Draw the equivariance error by wavenumber, before and after training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axis, kind in zip(figure.subplots(1, 2, sharey=True), ("isotropic", "layered"), strict=True):
        for name in MODELS:
            if results := found.get((kind, 8, name, 1.0)):
                for key, line in (("equivariance_error_before_by_wavenumber", ":"),
                                  ("equivariance_error_by_wavenumber", "-")):  # fmt: skip
                    mean = np.exp(np.mean([np.log(np.maximum(r[key], 1e-8)) for r in results.values()], axis=0))
                    axis.plot(range(1, len(mean) + 1), mean, line, color=COLOURS[name],
                              label=name if line == "-" else None, lw=1.3)  # fmt: skip
        axis.set(yscale="log", xlabel="wavenumber", title=f"{kind}, 8 trajectories")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("equivariance error (dotted: untrained)")
    figure.axes[-1].legend(frameon=False, fontsize=7.5, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=130)
