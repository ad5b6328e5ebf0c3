"""Trained models: the surrogate as a stepper, its step and normalisation, its files and its calibration.

It imports `simulation` and the packages below it; `training`, `auditing` and all packages above may import it.
The main entry points are `Surrogate`, `load`, `save`, `forecast` and `calibrate`.
"""
