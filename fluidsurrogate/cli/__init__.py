"""The command line, `fluidsurrogate COMMAND ...`: one file a command in `commands/`.

It imports everything else, late, so that it answers at once; nothing imports it.
It hands out `main`.
"""

from fluidsurrogate.cli.program import main

__all__ = ["main"]
