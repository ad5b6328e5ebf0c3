"""A bounded cache of time integrators, whose coefficients cost more than a step to compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from solvers.etdrk import Integrator

CACHE_BYTES = 2**24  # coefficients that a cache holds; to compute dropped ones again costs less than a step or two

Key = tuple[int, int]


@final
class IntegratorCache:
    """The integrators that were used last, by trajectory and number of inner steps.

    Threads may share a cache: what one of them drops another computes again. A pickle or a copy of a cache is empty.
    """

    def __init__(self) -> None:
        self.held: dict[Key, Integrator] = {}

    def __reduce__(self) -> tuple[type[IntegratorCache], tuple[()]]:
        return IntegratorCache, ()

    def __len__(self) -> int:
        return len(self.held)

    def get(self, key: Key, make: Callable[[], Integrator], room: int) -> Integrator:
        """Return an integrator, computed if it is not in the cache.

        Parameters
        ----------
        key : tuple of int
            Position of the trajectory, 0 if all share one, and its number of inner steps.
        make : callable
            Computes the integrator.
        room : int
            How many integrators the cache holds even if they take more than 16 MB.

        Returns
        -------
        Integrator
            The integrator; the cache drops those that were used longest ago.
        """
        integrator = self.held.pop(key, None)
        if integrator is None:
            integrator = make()
            most = max(room, CACHE_BYTES // integrator.nbytes)
            for oldest in list(self.held)[: max(0, len(self.held) + 1 - most)]:
                self.held.pop(oldest, None)
        self.held[key] = integrator  # at the end: the first in the cache is what was used longest ago
        return integrator
