"""Basic tools that know nothing of fluids: errors, progress bars, seeds, processes, paths and files on disk.

Every other package may import it; it imports none of them.
It hands out `UsageError`, `derive_seed`, `run_jobs`, and functions that write files in one piece.
"""
