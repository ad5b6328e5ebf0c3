"""The report: finished runs as one HTML page with tables, charts and an animation, which needs no network.

The package imports `rendering`, `auditing`, `models` and everything below; `pipeline` and everything above may import
it. Its entry point is `report`, in `fluidsurrogate/reporting/report.py`; the template, the style and the script of the
page are in `fluidsurrogate/reporting/page/`.
"""
