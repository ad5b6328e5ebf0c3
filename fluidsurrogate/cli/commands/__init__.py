"""The commands of `fluidsurrogate`, one file each; every file in this folder becomes a command.

A file has `ORDER`, its place in the help, and a function `add(commands)`. This declares the arguments and sets the
default `run`, a function of the parsed arguments that returns the exit code. Slow packages (torch, xarray) are imported
inside `run`.
"""
