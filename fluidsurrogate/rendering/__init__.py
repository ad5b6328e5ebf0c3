"""Pictures of results: comparisons, scores and audits as PNG files.

It imports `evaluation`, `data` and `core`; `pipeline` and everything above may import it.
It hands out `draw_comparison`, `draw_scores` and `draw_audit`.
"""
