"""Progress of long work: a bar on a terminal, an occasional line anywhere else."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from typing import final

from tqdm import tqdm

log = logging.getLogger("fluidsurrogate")
LINE_EVERY = 15.0  # seconds


@final
class Progress:
    """`with Progress(total, "generate", "trajectory") as progress: progress.update(8, "note")`."""

    def __init__(self, total: int, label: str, unit: str, done: int = 0, silent: bool = False) -> None:
        self.total, self.label, self.unit, self.n, self.initial = total, label, unit, done, done
        self.began = self.said = time.monotonic()
        self.bar = None
        self.silent = silent
        if sys.stderr.isatty() and not silent and log.isEnabledFor(logging.INFO):
            # A terminal that does not know its width says 0, on which tqdm would draw nothing.
            width = shutil.get_terminal_size((80, 24)).columns
            self.bar = tqdm(total=total, desc=label, unit=f" {unit}", initial=done, ncols=width)

    def update(self, n: int, note: str = "") -> None:
        """`n` more units are done."""
        self.n += n
        if self.bar is not None:
            self.bar.set_postfix_str(note, refresh=False)
            self.bar.update(n)
        elif not self.silent and time.monotonic() - self.said > LINE_EVERY:
            self.said = time.monotonic()
            done, elapsed = self.n - self.initial, self.said - self.began
            left = elapsed * (self.total - self.n) / max(done, 1)
            rate = done / elapsed
            log.info(f"  {self.label} {self.n}/{self.total} {self.unit}, {rate:.3g}/s, {left:.0f} s left  {note}")

    def skip(self, n: int) -> None:
        """`n` units were done before this run began."""
        self.n, self.initial = self.n + n, self.initial + n
        if self.bar is not None:
            self.bar.initial = self.initial
            self.bar.n = self.n

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.bar is not None:
            self.bar.close()
        done, elapsed = self.n - self.initial, time.monotonic() - self.began
        if done and exc[0] is None and not self.silent:
            log.info(f"  {self.label}: {done} {self.unit} in {elapsed:.1f} s, {done / elapsed:.3g}/s")
