"""The command line, `fluidsurrogate COMMAND ...`: one file for each command in `commands/`.

`main` is the entry point. The package imports all others, but only inside functions, so that help and errors come at
once. No other package imports it.
"""

from fluidsurrogate.cli.program import main

__all__ = ["main"]
