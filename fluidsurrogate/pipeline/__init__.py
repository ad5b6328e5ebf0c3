"""The stages of an experiment: generate, train, rollout, compare, report.

`STAGES` lists them; the command line, resumption and the help texts derive from it. `run_stages` runs them for a `Run`,
an experiment with its folder. The package imports every package but `inspection`; `inspection`, `api` and `cli` may
import it.
"""
