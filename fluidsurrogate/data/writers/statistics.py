"""Mean, standard deviation and RMS of arrays that arrive in parts."""

from __future__ import annotations

from typing import final

import numpy as np


@final
class RunningStatistics:
    """Statistics of all values so far, for each component, in double precision.

    Parts are merged with the formula of Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for
    computing sample variances", Stanford STAN-CS-79-773 (1979), which does not cancel.

    Examples
    --------
    >>> import numpy as np
    >>> from fluidsurrogate.data.writers.statistics import RunningStatistics
    >>> statistics = RunningStatistics()
    >>> for part in ([1.0, 2.0], [3.0, 6.0]):
    ...     statistics.add(np.array(part), n_components=0)
    >>> float(statistics.mean), round(float(statistics.std), 3), round(float(statistics.rms), 3)
    (3.0, 1.871, 3.536)
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: np.ndarray = np.zeros(())
        self._squares: np.ndarray = np.zeros(())  # sum of the squared deviations from the mean

    def add(self, values: np.ndarray, n_components: int) -> None:
        """Take in further values.

        Parameters
        ----------
        values : ndarray
            Any shape.
        n_components : int
            The number of last axes that count components and are kept apart.
        """
        values = values.astype(np.float64).reshape(-1, *values.shape[values.ndim - n_components :])
        count, mean = len(values), values.mean(0)
        squares = ((values - mean) ** 2).sum(0)
        total, apart = self.count + count, mean - self.mean
        self._squares = self._squares + squares + apart**2 * (self.count * count / total)
        self.mean = np.asarray(self.mean + apart * (count / total))
        self.count = total

    @property
    def std(self) -> np.ndarray:
        """The standard deviation: the root of the mean squared deviation from the mean."""
        return np.asarray(np.sqrt(self._squares / self.count))

    @property
    def rms(self) -> np.ndarray:
        """The root of the mean square."""
        return np.asarray(np.sqrt(self._squares / self.count + self.mean**2))
