"""Audits of models: which symmetries one step keeps, and what a rollout conserves.

It imports `models` and what is below; `rendering` and everything above may import it.
It hands out `audit`, which returns the measurements as a Dataset, and `audit_table`, which prints them.
"""
