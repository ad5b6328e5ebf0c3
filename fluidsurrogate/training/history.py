"""The history of a training: curve.csv, curves.png and, if asked for, TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import atomic_write, write_text

HistoryRow = Mapping[str, float]  # step, loss, learning_rate, valid_nrmse_first_step, valid_nrmse
HISTORY_FILE, HISTORY_FIGURE, TENSORBOARD_FOLDER = "curve.csv", "curves.png", "tensorboard"


def history_csv(history: Sequence[HistoryRow]) -> str:
    """Return the history of a training as CSV.

    Parameters
    ----------
    history : sequence of mapping of str to float
        A row for each validation: step, loss, learning_rate, valid_nrmse_first_step, valid_nrmse.

    Returns
    -------
    str
        A header and a line for each row; empty if there is none.
    """
    if not history:
        return ""
    lines = [",".join(history[0]), *(",".join(f"{value:.8g}" for value in row.values()) for row in history)]
    return "\n".join(lines) + "\n"


def write_history(history: Sequence[HistoryRow], folder: Path, title: str) -> None:
    """Write curve.csv and curves.png to a folder.

    Parameters
    ----------
    history : sequence of mapping of str to float
        A row for each validation.
    folder : Path
        The folder.
    title : str
        Title of the picture.
    """
    write_text(folder / HISTORY_FILE, history_csv(history))
    with atomic_write(folder / HISTORY_FIGURE) as beside:
        plot_history(history, beside, title)


def plot_history(history: Sequence[HistoryRow], path: Path, title: str) -> None:
    """Plot training loss, validation error and learning rate against the training step.

    The validation error is shown after the first interval and over the whole rollout.

    Parameters
    ----------
    history : sequence of mapping of str to float
        A row for each validation.
    path : Path
        The PNG file to write.
    title : str
        Title of the picture.
    """
    from matplotlib.figure import Figure  # imported late, because the import is slow

    figure = Figure(figsize=(10, 3.2), layout="constrained")
    panels = figure.subplots(1, 3)
    step = [row["step"] for row in history]

    def values(name: str) -> np.ndarray:
        found = np.array([row[name] for row in history])
        return np.where(np.isfinite(found), found, np.nan)

    panels[0].plot(step, values("loss"), color="#0072b2")
    panels[0].set(yscale="log", title="training loss")
    over_rollout = values("valid_nrmse")
    panels[1].plot(step, values("valid_nrmse_first_step"), color="#56b4e9", label="first step")
    panels[1].plot(step, over_rollout, color="#d55e00", label="whole rollout")
    if np.isfinite(over_rollout).any():
        best = int(np.nanargmin(over_rollout))
        panels[1].plot(step[best], over_rollout[best], "o", color="#d55e00", label="kept")
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


def is_out_of_patience(history: Sequence[HistoryRow], patience: int) -> bool:
    """Return whether so many validations in a row were no better than the best one before them.

    Parameters
    ----------
    history : sequence of mapping of str to float
        A row for each validation.
    patience : int
        Number of validations; 0 for no early stopping.

    Returns
    -------
    bool
        Whether training should stop.
    """
    scores = [row["valid_nrmse"] for row in history]
    return bool(patience and scores) and len(scores) - 1 - int(np.argmin(scores)) >= patience


def describe_row(row: HistoryRow) -> str:
    """Describe a row of the history in a few words, for the progress bar.

    Parameters
    ----------
    row : mapping of str to float
        The row of a validation.

    Returns
    -------
    str
        Loss, validation error (after the first interval and over the rollout) and learning rate.
    """
    return (
        f"loss {row['loss']:.3g}, valid nRMSE {row['valid_nrmse_first_step']:.3f} / {row['valid_nrmse']:.3f}, "
        f"learning rate {row['learning_rate']:.1g}"
    )


@final
class TensorBoardWriter:
    """Writer of the history as TensorBoard scalars.

    Parameters
    ----------
    folder : Path
        The folder of the model.
    first : int
        The training step from which a run goes on; later records of an interrupted run are dropped.

    Raises
    ------
    UsageError
        If TensorBoard is not installed.
    """

    def __init__(self, folder: Path, first: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UsageError('train.tensorboard needs TensorBoard: pip install "fluidsurrogate[tensorboard]"') from None
        self.writer = SummaryWriter(str(folder / TENSORBOARD_FOLDER), purge_step=first + 1)

    def add(self, row: HistoryRow) -> None:
        """Write one row.

        Parameters
        ----------
        row : mapping of str to float
            The row of a validation.
        """
        for name, value in row.items():
            if name != "step":
                self.writer.add_scalar(name, value, int(row["step"]))
        self.writer.flush()
