"""The stages of an experiment: generate, train, rollout, compare.

It imports every package but `inspection`; `inspection`, `api` and `cli` may import it.
It hands out `Pipeline` and the list of stages, from which command line, resumption and help derive.
"""
