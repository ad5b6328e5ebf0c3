"""Experiments: one TOML file, read into one frozen tree of checked configs.

It imports `core`, `data`, `evaluation`, `nn` and `solvers`; everything from `simulation` upwards may import it.
It hands out `Experiment`, which builds the grid, the flow, the solver and the networks that the file describes.
"""
