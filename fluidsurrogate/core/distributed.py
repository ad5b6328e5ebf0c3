"""One model trained by several processes that `accelerate launch` or torchrun has started."""

from __future__ import annotations

import logging
import os

log = logging.getLogger("fluidsurrogate")


def process_count() -> int:
    """Return the number of processes that this program was started as, to train one model together.

    Returns
    -------
    int
        1 without `accelerate launch` or torchrun.
    """
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Return whether this is the one process that writes files and logs.

    Returns
    -------
    bool
        True for a single process.
    """
    return int(os.environ.get("RANK", "0")) == 0


def wait_for_all_processes(device: str) -> None:
    """Wait until all processes have come here.

    Parameters
    ----------
    device : str
        Device of the training, such as "cpu": the first call decides over which kind of device they communicate.
    """
    if process_count() > 1:
        from accelerate import PartialState

        PartialState(cpu=device.startswith("cpu")).wait_for_everyone()


def warn_if_single_process() -> None:
    """Warn if `accelerate launch` was asked for several processes and started one.

    On CPUs it needs MPI for more, and does not say so.
    """
    asked = {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= os.environ.keys()
    if asked and "WORLD_SIZE" not in os.environ:
        log.warning("accelerate started one process, as it does on CPUs: torchrun --nproc_per_node N -m fluidsurrogate "
                    "train EXPERIMENT.toml starts N")  # fmt: skip
