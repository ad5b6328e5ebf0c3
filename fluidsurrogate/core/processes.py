"""Several models trained at a time, one process each; or one model by several processes."""

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

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.progress import Progress

log = logging.getLogger("fluidsurrogate")
# A network of the demo does some 240,000 cells a second on a core, forwards and backwards; to start a process takes
# several seconds, and pays where all the work takes more than some 12.
PROCESS_CELLS = 3_000_000
STEP_CELLS = 5_000  # what a step costs however few cells it is of
Job = tuple[Any, ...]
# A job gets its arguments and a function to report (steps done, note) with.
Work = Callable[..., None]


def run_jobs(work: Work, jobs: dict[str, Job], workers: int, total: int, label: str) -> None:
    """Run `work(*job, report)` for every job, at most `workers` at a time; the first failure stops the others.

    With one worker in this process, else in fresh ones, which end by themselves if this one dies.
    """
    with Progress(total * len(jobs), label, "steps", silent=not is_main_process()) as progress:
        if workers == 1 or len(jobs) == 1:
            for name, job in jobs.items():
                work(*job, _Reporter(progress, name))
        else:
            _run_in_processes(work, jobs, workers, progress)


class _Reporter:
    """Turns "steps done so far" of one job into progress of all."""

    def __init__(self, progress: Progress, name: str) -> None:
        self.progress, self.name, self.done = progress, name, -1

    def __call__(self, done: int, note: str) -> None:
        if self.done < 0:
            self.done = done - 1
            self.progress.skip(self.done)  # what an interrupted run had done says nothing of the rate
        self.progress.update(done - self.done, f"{self.name}: {note}" if note else "")
        self.done = done


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
                running[name] = context.Process(target=_child, args=(work, name, job, messages, level), name=name)
                with without_main(), _deaf_to_ctrl_c():
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
                raise _failure(name, kind, value)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.join()


def _failure(name: str, kind: str, value: Any) -> Exception:
    """The exception that a child's last message stands for."""
    if kind == "usage":
        return UsageError(value)
    return OSError(*value) if kind == "os" else RuntimeError(f"{label_of(name)} failed:\n{value}")


def _next_message(messages: Any, running: dict[str, Any]) -> tuple[str, str, Any] | None:
    """What a child says within a second; UsageError where one died without a word (killed, out of memory)."""
    for name, process in running.items():
        if process.exitcode not in (None, 0):
            raise UsageError(f"{label_of(name)} died (exit {process.exitcode}); the same command goes on from here")
    try:
        return messages.get(timeout=1.0)
    except queue.Empty:
        return None


@contextmanager
def without_main() -> Iterator[None]:
    """Fresh processes started in here do not run the user's script again, of which they need nothing: it needs no
    `if __name__ == "__main__"`."""
    main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes started in here inherit that they ignore Ctrl-C: it reaches the parent, which ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def label_of(name: str) -> str:
    """How a job is called in messages."""
    return f"the training of {name!r}"


class _Forwarding(logging.Handler):
    """Sends what a child logs to the parent, whose handlers are the user's."""

    def __init__(self, name: str, messages: Any) -> None:
        super().__init__()
        self.job, self.messages = name, messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.put((self.job, "log", (record.levelno, record.getMessage())))


def _child(work: Work, name: str, job: Job, messages: Any, level: int) -> None:
    def report(done: int, note: str) -> None:
        parent = parent_process()
        if parent is None or not parent.is_alive():
            os._exit(1)  # an orphan would go on writing beside the run that resumes
        messages.put((name, "progress", (done, note)))

    log.addHandler(_Forwarding(name, messages))
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


def processes() -> int:
    """How many processes `accelerate launch` or torchrun started this program as, to train one model together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def warn_of_one_process() -> None:
    """A line where `accelerate launch` was asked for several processes and started one: on CPUs it needs MPI for more,
    and does not say so."""
    asked = {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= os.environ.keys()
    if asked and "WORLD_SIZE" not in os.environ:
        log.warning("accelerate started one process, as it does on CPUs: torchrun --nproc_per_node N -m fluidsurrogate "
                    "train EXPERIMENT.toml starts N")  # fmt: skip


def is_main_process() -> bool:
    """True in the one of them that writes and speaks."""
    return int(os.environ.get("RANK", "0")) == 0


def wait_for_all(device: str) -> None:
    """Until all of them are here; the first call says on which kind of device they are to meet."""
    if processes() > 1:
        from accelerate import PartialState

        PartialState(cpu=device.startswith("cpu")).wait_for_everyone()


def available_workers(requested: int, threads: int, steps: int, cells: int) -> int:
    """As many workers as asked for, but no more than the cores can feed; and one where all the work, so many steps of
    a network on so many cells each, is done before a process would have started."""
    if steps * (STEP_CELLS + cells) < PROCESS_CELLS:
        return 1
    return max(1, min(requested, (os.cpu_count() or 1) // threads))
