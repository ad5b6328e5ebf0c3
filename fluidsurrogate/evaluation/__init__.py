"""Judging forecasts: diagnostics, metrics, ensemble metrics, comparison, conservation and equivariance.

It imports `core`, `data` and `solvers`, never a network; everything from `config` upwards may import it.
It hands out `compare`, the tables `METRICS` and `ENSEMBLE_METRICS`, and `equivariance_error`.
"""
