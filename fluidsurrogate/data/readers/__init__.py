"""Readers of data files, one file a format: each opens a file or folder lazily as an xarray Dataset.

A new format is one new file in this folder that calls `register_reader`; it is found by itself, and the tests in
`tests/fluidsurrogate/test_readers.py` run over it. `open_data` picks the reader by what the file or folder contains.
"""

from fluidsurrogate.core.registration import import_submodules
from fluidsurrogate.data.readers.facts import Facts
from fluidsurrogate.data.readers.opening import as_dataset, log_changes, open_data
from fluidsurrogate.data.readers.registry import READERS, Reader, find_reader, register_reader

import_submodules(__name__, __path__)

__all__ = ["READERS", "Facts", "Reader", "as_dataset", "find_reader", "log_changes", "open_data", "register_reader"]
