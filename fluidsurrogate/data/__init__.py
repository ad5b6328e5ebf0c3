"""Datasets: opening files, checking grid, units and coordinates, and turning xarray into tensors and back.

It imports `core` and `solvers` only; everything from `evaluation` upwards may import it.
It hands out `open_data`, `to_dataset`, `to_states` and `check_matches`. `conversion` alone knows both torch and xarray.
"""
