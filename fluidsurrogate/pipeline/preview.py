"""Draw a first picture while networks are still training: the truth and the forecast of the best network so far."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import final

import torch

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.files import atomic_write, read_json, write_json
from fluidsurrogate.core.seeding import preserving_random_state
from fluidsurrogate.data.conversion import to_dataset
from fluidsurrogate.models.surrogate import Surrogate
from fluidsurrogate.rendering.preview import draw_preview
from fluidsurrogate.simulation.rollout import rollout
from fluidsurrogate.training.windows import InMemoryTrajectories

PREVIEW = "preview.png"
SECONDS = 20.0  # at least, between two pictures of one training
INTERVALS = 8  # forecast in the picture, if the trajectories are that long


@final
class Preview:
    """Draws `preview.png` after a validation with better weights, if no other network of the run is better.

    Parameters
    ----------
    out : Path
        The folder of the run.
    """

    def __init__(self, out: Path) -> None:
        self.picture, self.note, self.drawn = out / PREVIEW, out / ".preview.json", -SECONDS

    def __call__(self, surrogate: Surrogate, valid: InMemoryTrajectories, step: int, error: float) -> None:
        """Draw the forecast of the first validation trajectory with the current weights.

        Parameters
        ----------
        surrogate : Surrogate
            The surrogate in training.
        valid : InMemoryTrajectories
            The validation trajectories.
        step : int
            Number of training steps so far.
        error : float
            The validation nRMSE with the current weights.
        """
        if time.monotonic() - self.drawn < SECONDS or not error < self._best_of_others(surrogate):
            return
        self.drawn = time.monotonic()
        steps = min(INTERVALS, valid.states.shape[1] - 1)
        truth = valid.states[:1, : steps + 1]
        inputs = {name: value[:1].to(surrogate.device) for name, value in valid.inputs.items()}
        with suppress(OSError, UsageError, ValueError), torch.no_grad(), preserving_random_state(surrogate.device):
            forecast = rollout(surrogate, truth[:, 0].to(surrogate.device), steps, inputs).cpu()
            spec, name = surrogate.stored, str(surrogate.about.get("name", "network"))
            title = f"{name} after {step} training steps, {steps} intervals ahead (validation nRMSE {error:.3f})"
            with atomic_write(self.picture) as beside:
                draw_preview(to_dataset(spec, truth), to_dataset(spec, forecast), title, beside)
            write_json(self.note, {"name": name, "error": error})

    def _best_of_others(self, surrogate: Surrogate) -> float:
        """Return the validation error of the network in the picture; infinite without one, or if it is this network."""
        try:
            note = read_json(self.note)
            return float("inf") if note is None or note["name"] == surrogate.about.get("name") else float(note["error"])
        except (UsageError, KeyError, TypeError, ValueError):
            return float("inf")
