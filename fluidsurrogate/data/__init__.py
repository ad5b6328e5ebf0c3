"""Datasets: reading files, checking grid, fields, units and times, and converting between xarray and tensors.

The package imports `core` and `solvers` only; everything from `evaluation` upwards may import it. Its entry points are
`open_data`, `to_dataset`, `to_states` and `check_matches`. `conversion` is the one module that knows torch and xarray.
"""
