"""Running several jobs side by side, one process each, such as the trainings of several models."""

from __future__ import annotations

import logging
import multiprocessing
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import parent_process
from types import ModuleType
from typing import Any

from fluidsurrogate.core.distributed import is_main_process
from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.progress import Progress

log = logging.getLogger("fluidsurrogate")
# A network of the demo does some 240,000 cells a second on a core, forwards and backwards; to start a process takes
# several seconds, and pays where all the work takes more than some 12.
MIN_CELLS_FOR_PROCESSES = 3_000_000
OVERHEAD_CELLS = 5_000  # cells whose computation takes as long as what a step costs besides its cells
Job = tuple[Any, ...]
Work = Callable[..., None]


def run_jobs(work: Work, jobs: dict[str, Job], workers: int, total: int, label: str) -> None:
    """Run a function for every job, several at a time; the first failure stops the others.

    Parameters
    ----------
    work : callable
        Called as `work(*arguments, report)` for each job; `report(steps_done, note)` shows its progress.
    jobs : dict
        Arguments of each job by its name.
    workers : int
        Most jobs at a time. With one worker, or one job, the work is done in this process, else in fresh processes,
        which end by themselves if this one dies.
    total : int
        Steps of one job.
    label : str
        What the progress bar is called.

    Raises
    ------
    UsageError
        If a job raised it, or if a process died without a message (killed, out of memory).
    OSError
        If a job raised it.
    RuntimeError
        If a job in another process raised anything else, with its traceback.
    """
    with Progress(total * len(jobs), label, "steps", silent=not is_main_process()) as progress:
        if workers == 1 or len(jobs) == 1:
            for name, job in jobs.items():
                work(*job, _Reporter(progress, name))
        else:
            _run_in_processes(work, jobs, workers, progress)


def choose_worker_count(requested: int, threads: int, steps: int, cells: int) -> int:
    """Return how many processes to use for training several models.

    Parameters
    ----------
    requested : int
        Most processes.
    threads : int
        Threads of each process.
    steps, cells : int
        Steps of all the work, and cells of each.

    Returns
    -------
    int
        As many as requested, but no more than 3/2 of what fills the cores: three jobs that share two cores end sooner
        than two followed by a third that leaves a core idle. One if all the work is done before a process would have
        started.
    """
    if steps * (OVERHEAD_CELLS + cells) < MIN_CELLS_FOR_PROCESSES:
        return 1
    return max(1, min(requested, 3 * (os.cpu_count() or 1) // (2 * threads)))


@contextmanager
def without_main_module() -> Iterator[None]:
    """Let processes that are started in the block not run the user's script again.

    They need nothing of it, and the script needs no `if __name__ == "__main__"`.

    Yields
    ------
    None
        While processes may be started.
    """
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class _Reporter:
    """Turns "steps done so far" of one job into progress of all jobs."""

    def __init__(self, progress: Progress, name: str) -> None:
        self.progress, self.name, self.done = progress, name, -1

    def __call__(self, done: int, note: str) -> None:
        if self.done < 0:
            self.done = done - 1
            self.progress.skip(self.done)  # steps of an interrupted run say nothing about the rate of this one
        self.progress.update(done - self.done, f"{self.name}: {note}" if note else "")
        self.done = done


class _ForwardingHandler(logging.Handler):
    """Sends what a child process logs to its parent, whose handlers are the user's."""

    def __init__(self, name: str, messages: Any) -> None:
        super().__init__()
        self.job, self.messages = name, messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.put((self.job, "log", (record.levelno, record.getMessage())))


def _run_in_processes(work: Work, jobs: dict[str, Job], workers: int, progress: Progress) -> None:
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    waiting, level = list(jobs.items()), log.getEffectiveLevel()
    running: dict[str, Any] = {}
    reporters = {name: _Reporter(progress, name) for name in jobs}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                name, job = waiting.pop(0)
                running[name] = context.Process(target=_run_job, args=(work, name, job, messages, level), name=name)
                with without_main_module(), _ignoring_ctrl_c():
                    running[name].start()
            message = _next_message(messages, running)
            if message is None:
                continue
            name, kind, value = message
            if kind == "progress":
                reporters[name](*value)
            elif kind == "log":
                log.log(*value)
            elif kind == "done":
                running.pop(name).join()
            else:
                raise _error_of_job(name, kind, value)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.join()


def _run_job(work: Work, name: str, job: Job, messages: Any, level: int) -> None:
    """Run one job in a child process, and send its progress, log lines and end to the parent."""

    def report(done: int, note: str) -> None:
        parent = parent_process()
        if parent is None or not parent.is_alive():
            os._exit(1)  # an orphan would go on writing beside the run that resumes
        messages.put((name, "progress", (done, note)))

    log.addHandler(_ForwardingHandler(name, messages))
    log.setLevel(level)
    log.propagate = False
    try:
        work(*job, report)
    except UsageError as error:
        messages.put((name, "usage", str(error)))
    except OSError as error:
        messages.put((name, "os", (error.errno, error.strerror or str(error), error.filename)))
    except Exception:
        messages.put((name, "error", traceback.format_exc()))
    else:
        messages.put((name, "done", None))


def _next_message(messages: Any, running: dict[str, Any]) -> tuple[str, str, Any] | None:
    """Return the next message of a child within a second; raise UsageError if one died without a message."""
    for name, process in running.items():
        if process.exitcode not in (None, 0):
            raise UsageError(f"{_description(name)} died (exit {process.exitcode}); the same command resumes it")
    try:
        return messages.get(timeout=1.0)
    except queue.Empty:
        return None


def _error_of_job(name: str, kind: str, value: Any) -> Exception:
    """Return the exception that a child's last message stands for."""
    if kind == "usage":
        return UsageError(value)
    return OSError(*value) if kind == "os" else RuntimeError(f"{_description(name)} failed:\n{value}")


def _description(name: str) -> str:
    return f"the training of {name!r}"


@contextmanager
def _ignoring_ctrl_c() -> Iterator[None]:
    """Let processes that are started in the block ignore Ctrl-C: it reaches the parent, which ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
