"""What the error of a step in each shell of wavenumbers says: not resolved, or forced at random in a band."""

from __future__ import annotations

from collections.abc import Sequence

MOST_OF_ERROR = 0.9  # of its square, that the shells of a band hold
MUCH_OF_CHANGE, LITTLE_ERROR = 0.05, 0.03  # of the squared change: what the other shells must hold, and the error there

Shells = Sequence[tuple[float, float]]  # squared error and squared change of each


def share_of_last_third(shells: Shells) -> float:
    """Return how much of what changes is in the shortest third of the waves.

    Parameters
    ----------
    shells : sequence of tuple of float
        Squared error and squared change of each shell.

    Returns
    -------
    float
        The share, from 0 to 1.
    """
    changes = [change for _, change in shells]
    return sum(changes[2 * len(changes) // 3 :]) / max(sum(changes), 1e-300)


def noisy_band(shells: Shells) -> tuple[int, int] | None:
    """Return the shells that hold nearly all of the error, if the rest holds much of the change and little error.

    Parameters
    ----------
    shells : sequence of tuple of float
        Squared error and squared change of each shell.

    Returns
    -------
    tuple of int or None
        The first and the last shell of the band; None if the error is everywhere.
    """
    total_error, total_change = (sum(pair[i] for pair in shells) for i in (0, 1))
    order = sorted(range(len(shells)), key=lambda i: -shells[i][0])
    held = 0.0
    band: list[int] = []
    for i in order:
        if held >= MOST_OF_ERROR * total_error:
            break
        held, band = held + shells[i][0], [*band, i]
    rest = [shells[i] for i in range(len(shells)) if not min(band) <= i <= max(band)]
    change = sum(c for _, c in rest)
    if change > MUCH_OF_CHANGE * total_change and sum(e for e, _ in rest) < LITTLE_ERROR * change:
        return min(band), max(band)
    return None
