"""The commands of `fluidsurrogate`, one file each, found by themselves.

A file has `add(commands)`, which declares the command's arguments, and sets `run`, a function of the parsed arguments
that returns the exit code. What takes time (torch, xarray) is imported inside `run`.
"""
