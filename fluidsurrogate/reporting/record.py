"""What a report records of how it was made."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fluidsurrogate.core.provenance import parse_json_attribute

REPORT = "report.html"  # its name in the folder of a run
RECORD = re.compile(r'<script type="application/json" id="record">(.*?)</script>', re.DOTALL)


def recorded_in(path: Path) -> dict[str, Any] | None:
    """Read from a report what it was made from.

    Parameters
    ----------
    path : Path
        A report.

    Returns
    -------
    dict or None
        The attributes that every result records; None if there are none.
    """
    found = RECORD.search(path.read_text(encoding="utf-8", errors="replace"))
    return parse_json_attribute(found[1]) if found else None
