"""Figures of results, one module each: comparisons, scores, audits and previews as PNG files.

The package imports `evaluation`, `data` and `core`; `reporting` and everything above may import it. Its entry points
are `draw_comparison`, `draw_scores`, `draw_audit` and `draw_preview`.
"""
