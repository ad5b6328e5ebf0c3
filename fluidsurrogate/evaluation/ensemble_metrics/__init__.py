"""Scores of ensembles, forecasts with a dimension `member`, one file a metric: functions of two xarray Datasets.

A new metric is one new file in this folder with a function under `@ensemble_metric()`; it is found by itself,
`fs.compare` and experiments take its name, and the tests in `tests/fluidsurrogate/test_ensemble_metrics.py` run over
it.

The M perturbed members f_m make up the ensemble: those that a boolean coordinate `perturbed` names, or, for a forecast
without that coordinate, all. f̄ is their mean, t the truth, and ⟨·⟩ the mean over the box as in
`fluidsurrogate.evaluation.metrics`, whose rules on what is compared hold here too. The metrics there score the
unperturbed member or, if the forecast does not say which that is, f̄. Scores are NaN where the truth is not finite.
"""

from fluidsurrogate.core.registration import import_submodules
from fluidsurrogate.evaluation.ensemble_metrics.registry import ENSEMBLE_METRICS, EnsembleMetric, ensemble_metric

import_submodules(__name__, __path__)

__all__ = ["ENSEMBLE_METRICS", "EnsembleMetric", "ensemble_metric"]
