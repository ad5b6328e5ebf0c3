"""Scores of forecasts against the truth, one file a metric: functions of two xarray Datasets, by trajectory and time.

A new metric is one new file in this folder with a function under `@metric(...)`; it is found by itself, `fs.compare`
and experiments take its name, and the tests in `tests/fluidsurrogate/test_metrics.py` run over it.

In the equations f is the forecast, t the truth, and ⟨·⟩ the mean over the cells of the box and, for a vector, over its
components. For several fields the score is the mean of the scores of the fields, unless said otherwise. Scores are
computed in double precision.

What is compared:

- **Same places and times.** A metric refuses a forecast that does not have the truth's trajectories, times, places and
  units. Two times are the same if they are no further apart than a thousandth of the interval, two places a thousandth
  of a cell, however large the coordinate is. Rounding of the stored type is allowed too, up to a hundredth of the
  interval: single precision counts in steps of 8 near 10⁸, so a clock in quarters of a second must be double precision
  there and is refused otherwise. Dates (`datetime64`) are compared as dates, times must increase, and labels of
  trajectories, numbers or text, are the same or not. `cftime` dates are refused: count in seconds instead.
- **Even, increasing axes and units.** Spectra, and everything else that is computed from the vorticity, need y and x
  that increase evenly, in metres if they have units. A decreasing axis is refused, because a field that is turned
  without its axis is another flow; `sortby` turns both.
- **The start.** The first time is the start. It belongs to both Datasets and enters no mean over times. `fs.compare`
  warns if no forecast is at the truth there (nRMSE ≤ 10⁻³): without the start, the first forecast would be taken for
  it.
- **A forecast that is not finite** at some time has infinite error and correlation 0 there.
- **A truth that is not finite** has no score there: errors, correlations and the means that they enter are NaN, and
  `fs.compare` warns about the truth, not about the forecast. A correlation time ends, as a lower bound, before the
  first unknown time.
- **A truth at rest.** 0/0 is 0 in every error, because nothing is missed, and x/0 is infinite: in `nrmse`, the spectral
  errors, `crps`, `ensemble_spread` and `mean_drift`. (`vrmse` has its 10⁻⁷ for that case; `spread_skill`, a ratio of
  two such quotients, leaves out the rms of a truth at rest.) Two fields without fluctuations have correlation 1, one
  with and one without have correlation 0.
"""

from fluidsurrogate.core.registration import import_submodules
from fluidsurrogate.evaluation.metrics.registry import METRICS, Metric, metric

import_submodules(__name__, __path__)

__all__ = ["METRICS", "Metric", "metric"]
