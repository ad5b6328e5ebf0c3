"""`python -m fluidsurrogate`."""

import sys

from fluidsurrogate.cli import main

if __name__ == "__main__":
    sys.exit(main())
