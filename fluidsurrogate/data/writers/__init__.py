"""Writers of other programs' data formats, one file a format: what `fluidsurrogate export` writes.

A new format is one new file in this folder that calls `register_writer`; it is found by itself, and the tests in
`tests/fluidsurrogate/test_writers.py` run over it.
"""

from fluidsurrogate.core.registration import import_submodules
from fluidsurrogate.data.writers.exporting import export_data
from fluidsurrogate.data.writers.registry import WRITERS, Writer, register_writer

import_submodules(__name__, __path__)

__all__ = ["WRITERS", "Writer", "export_data", "register_writer"]
