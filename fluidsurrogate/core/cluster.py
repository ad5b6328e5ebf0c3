"""Work on a Dask cluster: connect to it, run numbered tasks on its workers, and count what is done."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from fluidsurrogate.core.errors import UsageError
from fluidsurrogate.core.jobs import without_main_module
from fluidsurrogate.core.progress import Progress
from fluidsurrogate.core.provenance import package_versions, processor_name

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger("fluidsurrogate")
LOCAL_PREFIX = "local:"  # "local:4" means four workers on this machine
CONNECT_SECONDS = 10
RETRIES = 2  # of a task that failed otherwise than by UsageError, such as by a storage that did not answer
MISSING = "--dask needs the package distributed: pip install 'fluidsurrogate[dask]'"


@contextmanager
def connected(scheduler: str | Client) -> Iterator[Client]:
    """Connect to a Dask cluster, or start one on this machine, while the block runs.

    Parameters
    ----------
    scheduler : str or distributed.Client
        The address of a scheduler, such as "tcp://10.0.0.1:8786"; "local:N" for N workers of one thread on this
        machine; or a client that is connected already.

    Yields
    ------
    distributed.Client
        The client, which is closed at the end if it was made here.

    Raises
    ------
    UsageError
        If the package `distributed` is not installed, the text is neither, or no scheduler answers.
    """
    try:
        import dask.config
        from distributed import Client, LocalCluster
    except ImportError:
        raise UsageError(MISSING) from None
    if not isinstance(scheduler, str):
        if not isinstance(scheduler, Client):
            raise UsageError(
                f"dask must be an address, 'local:N' or a distributed.Client (got {type(scheduler).__name__})"
            )
        yield scheduler
        return
    with _quiet():
        if scheduler.startswith(LOCAL_PREFIX):
            count = scheduler.removeprefix(LOCAL_PREFIX)
            if not count.isdecimal() or int(count) < 1:
                raise UsageError(f"--dask {scheduler}: expected local:N with a number of workers N, as in local:2")
            with (
                without_main_module(),  # a user's script needs no `if __name__ == "__main__"`
                dask.config.set({"distributed.worker.profile.enabled": False}),  # it samples a hundred times a second
                LocalCluster(n_workers=int(count), threads_per_worker=1, dashboard_address=":0") as cluster,
                Client(cluster) as client,
            ):
                yield client
            return
        if ":" not in scheduler:
            raise UsageError(
                f"--dask {scheduler}: expected the address of a scheduler, as in tcp://10.0.0.1:8786, or local:N"
            )
        try:
            client = Client(scheduler, timeout=CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            reason = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise UsageError(
                f"no Dask scheduler answers at {scheduler} ({reason[:100]}): start one with `dask scheduler`, and its "
                "workers with `dask worker ADDRESS --nthreads 1`"
            ) from None
        with client:
            yield client


@contextmanager
def _quiet() -> Iterator[None]:
    """Let Dask log warnings only, while the block runs: by default it logs each connection."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(max(before, logging.WARNING))
    try:
        yield
    finally:
        logger.setLevel(before)


def run_tasks(
    client: Client,
    work: Callable[..., dict[str, Any]],
    counts: Mapping[int, int],
    arguments: tuple[Any, ...],
    name: str,
    progress: Progress,
    on_done: Callable[[int, dict[str, Any]], None],
) -> None:
    """Run numbered tasks on the workers of a cluster, and wait for all of them.

    A task whose worker dies is run again by another worker. The key of a task is made of its name and number: a client
    that resumes the work joins tasks that are still running, in place of starting them twice.

    Parameters
    ----------
    client : distributed.Client
        The cluster.
    work : callable
        Called as `work(number, *arguments)` on a worker.
    counts : mapping of int to int
        The numbers of the tasks, and how much each adds to the progress. The first ones are started first.
    arguments : tuple
        What all tasks share; an element may be a future.
    name : str
        What the keys of the tasks begin with.
    progress : Progress
        Is updated.
    on_done : callable
        Called as `on_done(number, result)` for each task, in the order in which they end.

    Raises
    ------
    UsageError
        If a task raised it, a task has killed several workers, or the scheduler is gone.
    """
    from distributed import as_completed

    wait_for_worker(client)
    numbers = {
        client.submit(_run, work, number, *arguments, key=f"{name}-{number}", pure=False, retries=RETRIES): number
        for number in counts
    }
    try:
        for future in as_completed(numbers):
            number = numbers[future]
            on_done(number, _result(future, f"block {number}"))
            workers = len(client.nthreads())
            progress.update(counts[number], f"{workers} worker{'s' * (workers != 1)}")
    except BaseException:
        with suppress(Exception):
            client.cancel(list(numbers))
        raise


def run_task(client: Client, work: Callable[..., Any], *arguments: Any) -> Any:
    """Run one task on any worker and return its result.

    Parameters
    ----------
    client : distributed.Client
        The cluster.
    work : callable
        Called as `work(*arguments)`.
    *arguments : object
        Its arguments.

    Returns
    -------
    object
        Its result.

    Raises
    ------
    UsageError
        As in `run_tasks`.
    """
    wait_for_worker(client)
    return _result(client.submit(_run, work, *arguments, pure=False, retries=RETRIES), "the first task")


def wait_for_worker(client: Client) -> None:
    """Wait until a cluster has a worker, however long that takes: jobs may have to queue.

    Parameters
    ----------
    client : distributed.Client
        The cluster.
    """
    if not client.nthreads():
        log.info("  waiting for the first worker of the Dask cluster")
        client.wait_for_workers(1)


def describe_machine() -> dict[str, Any]:
    """Describe the machine of a worker, as far as the last bits of a result depend on it.

    Returns
    -------
    dict
        "versions" of packages and "processor".

    Raises
    ------
    UsageError
        If the worker runs several tasks at a time: threads of torch are set for a whole process.
    """
    from distributed import get_worker

    threads = get_worker().state.nthreads
    if threads != 1:
        raise UsageError(f"a worker of the Dask cluster has {threads} threads: start each with one, "
                         "`dask worker ADDRESS --nthreads 1`, and as many workers as cores")  # fmt: skip
    return {"versions": package_versions(), "processor": processor_name()}


def check_versions(versions: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Check that a worker has the versions of the packages that a result records.

    Parameters
    ----------
    versions : mapping of str to str
        Those of the worker.
    expected : mapping of str to str
        Those of the client.

    Raises
    ------
    UsageError
        If they differ.
    """
    if different := [key for key in expected if versions.get(key) != expected[key]]:
        shown = ", ".join(f"{key} {versions.get(key)}, not {expected[key]}" for key in different)
        raise UsageError(f"a worker of the Dask cluster has {shown}: install the same versions on all machines")


def _run(work: Callable[..., Any], *arguments: Any) -> tuple[str, Any]:
    """Run a task on a worker. What the user can do something about is returned, so that it is not tried again."""
    try:
        return "done", work(*arguments)
    except UsageError as error:
        return "refused", str(error)


def _result(future: Any, what: str) -> Any:
    """Return the result of a task; UsageError if it was refused or lost."""
    from distributed import CancelledError, KilledWorker

    try:
        kind, value = future.result()
    except KilledWorker:
        raise UsageError(f"{what} has killed several workers of the Dask cluster, perhaps by taking more memory than "
                         "they have: give them more, or smaller blocks (data.block, --batch)") from None  # fmt: skip
    except (CancelledError, TimeoutError):
        raise UsageError("the scheduler of the Dask cluster is gone, or has dropped the work; the same command "
                         "continues from here") from None  # fmt: skip
    if kind == "refused":
        raise UsageError(value)
    return value
