"""Basic tools that know nothing of fluids: errors, paths, files, locks, seeds, devices, processes and progress bars.

Every other package may import this one; it imports none of them. Its entry points are `UsageError`, `derive_seed`,
`run_jobs`, and functions that write files and folders so that they are complete or absent, never half written.
"""
