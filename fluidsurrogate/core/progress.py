"""Progress of long work: a bar on a terminal, an occasional log line anywhere else."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from typing import final

from tqdm import tqdm

log = logging.getLogger("fluidsurrogate")
SECONDS_BETWEEN_LINES = 15.0


@final
class Progress:
    """Progress of long work, used as a context: `with Progress(total, "generate", "trajectories") as progress: ...`.

    Parameters
    ----------
    total : int
        Units of work.
    label : str
        What the work is.
    unit : str
        What is counted.
    done : int, default 0
        Units that were done before.
    silent : bool, default False
        Whether nothing is shown.
    """

    def __init__(self, total: int, label: str, unit: str, done: int = 0, silent: bool = False) -> None:
        self.total, self.label, self.unit, self.done, self.initial = total, label, unit, done, done
        self.start_time = self.last_line = time.monotonic()
        self.bar = None
        self.silent = silent
        if sys.stderr.isatty() and not silent and log.isEnabledFor(logging.INFO):
            # A terminal that does not know its width says 0, on which tqdm would draw nothing.
            width = shutil.get_terminal_size((80, 24)).columns
            self.bar = tqdm(total=total, desc=label, unit=f" {unit}", initial=done, ncols=width)

    def update(self, n: int, note: str = "") -> None:
        """Count units of work that are done.

        Parameters
        ----------
        n : int
            How many more.
        note : str, default ""
            What to show beside the count.
        """
        self.done += n
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(n)
        elif not self.silent and time.monotonic() - self.last_line > SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            done, elapsed = self.done - self.initial, self.last_line - self.start_time
            left = elapsed * (self.total - self.done) / max(done, 1)
            rate = done / elapsed
            log.info(f"  {self.label} {self.done}/{self.total} {self.unit}, {rate:.3g}/s, {left:.0f} s left  {note}")

    def skip(self, n: int) -> None:
        """Count units of work that were done before this run began, and say nothing about its rate.

        Parameters
        ----------
        n : int
            How many.
        """
        self.done, self.initial = self.done + n, self.initial + n
        if self.bar is not None:
            self.bar.initial = self.initial
            self.bar.n = self.done

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.bar is not None:
            self.bar.close()
        done, elapsed = self.done - self.initial, time.monotonic() - self.start_time
        if done and exc[0] is None and not self.silent:
            log.info(f"  {self.label}: {done} {self.unit} in {elapsed:.1f} s, {done / elapsed:.3g}/s")
