"""Experiments: one TOML file, read into one frozen tree of validated configs.

`Experiment` is the root of the tree. It builds the grid, the flow, the solvers and the networks that the file
describes. The package imports `core`, `data`, `evaluation`, `nn` and `solvers`; packages from `simulation` upwards
import it.
"""
