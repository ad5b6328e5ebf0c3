"""The record of a training: curve.csv, curves.png and, where asked for, TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import atomic_write, write_text

Row = Mapping[str, float]  # step, loss, learning_rate, valid_nrmse_first_step, valid_nrmse
CURVE, FIGURE, EVENTS = "curve.csv", "curves.png", "tensorboard"


def curve_csv(curve: Sequence[Row]) -> str:
    """The training curve as CSV."""
    if not curve:
        return ""
    lines = [",".join(curve[0]), *(",".join(f"{value:.8g}" for value in row.values()) for row in curve)]
    return "\n".join(lines) + "\n"


def write_curve(curve: Sequence[Row], folder: Path, title: str) -> None:
    """curve.csv and curves.png in a folder."""
    write_text(folder / CURVE, curve_csv(curve))
    with atomic_write(folder / FIGURE) as beside:
        draw_curves(curve, beside, title)


def draw_curves(curve: Sequence[Row], path: Path, title: str) -> None:
    """Training loss, validation error at the first step and over the rollout, and learning rate, against the step."""
    from matplotlib.figure import Figure  # imported late, as whatever takes its time

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    panels = figure.subplots(1, 3)
    step = [row["step"] for row in curve]

    def values(name: str) -> np.ndarray:
        found = np.array([row[name] for row in curve])
        return np.where(np.isfinite(found), found, np.nan)

    panels[0].plot(step, values("loss"), color="#0072b2")
    panels[0].set(yscale="log", title="training loss")
    whole = values("valid_nrmse")
    panels[1].plot(step, values("valid_nrmse_first_step"), color="#56b4e9", label="first step")
    panels[1].plot(step, whole, color="#d55e00", label="whole rollout")
    if np.isfinite(whole).any():
        best = int(np.nanargmin(whole))
        panels[1].plot(step[best], whole[best], "o", color="#d55e00", label="kept")
    panels[1].set(yscale="log", title="validation nRMSE")
    panels[1].legend(frameon=False)
    panels[2].plot(step, values("learning_rate"), color="#009e73")
    panels[2].set(title="learning rate", ylim=(0, None))
    for axis in panels:
        axis.set_xlabel("training step")
        axis.grid(alpha=0.25, which="major")
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    figure.savefig(path, dpi=110, format="png")


@final
class Events:
    """The curve's rows as TensorBoard scalars in a folder, from the step on at which a run goes on."""

    def __init__(self, folder: Path, first: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UsageError('train.tensorboard needs TensorBoard: pip install "fluidsurrogate[tensorboard]"') from None
        self.writer = SummaryWriter(str(folder / EVENTS), purge_step=first + 1)

    def add(self, row: Row) -> None:
        """One more row."""
        for name, value in row.items():
            if name != "step":
                self.writer.add_scalar(name, value, int(row["step"]))
        self.writer.flush()
