"""Judging forecasts: diagnostics, metrics, ensemble metrics, comparison, conservation and equivariance.

The package imports `core`, `data` and `solvers`, never a network; everything from `config` upwards may import it.
Its entry points are `compare`, `equivariance_error`, and the registries `METRICS`, `ENSEMBLE_METRICS` and
`DIAGNOSTICS`, each filled by the files of its own folder.
"""
