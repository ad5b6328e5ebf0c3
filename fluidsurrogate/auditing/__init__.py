"""Audits of trained models: which symmetries they keep and what their rollouts conserve.

It imports `models` and what is below; `rendering` and everything above may import it.
It hands out `audit`, the Dataset that it returns, and the table of that.
"""
