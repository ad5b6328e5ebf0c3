"""Trained models: the surrogate as a stepper, its step and normalisation, its files, its calibration.

It imports `simulation` and what is below; `training`, `auditing` and everything above may import it.
It hands out `Surrogate`, `load` and `calibrate`.
"""
