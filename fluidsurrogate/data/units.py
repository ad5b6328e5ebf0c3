"""Whether two spellings of a unit mean the same: "s-1", "1/s", "s^-1" and "Hz" do, "h-1" does not."""

from __future__ import annotations

import re
from collections import Counter

DIMENSIONLESS = {"", "1", "-", "none", "dimensionless", "nondimensional", "non-dimensional"}
SPELLINGS = {
    "s": "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s",
    "m": "m", "meter": "m", "meters": "m", "metre": "m", "metres": "m",
    "K": "K", "kelvin": "K", "degK": "K",
}  # fmt: skip
NUMBERS = {"1", "rad", "radian", "radians"}
SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
TOKEN = re.compile(r"\s*([*/·.]?)\s*([A-Za-z]+|1(?![\d.]))\s*\^?([-+]?\d+)?")


def units_compatible(found: str, expected: str) -> bool:
    """Return whether a unit is the expected one in another spelling, or says that the numbers have no unit.

    Parameters
    ----------
    found, expected : str
        Products and quotients of units as udunits reads them: "m s-1", "m/s".

    Returns
    -------
    bool
        True for a dimensionless `found`, too: such numbers are taken to be in the expected unit. Prefixes and
        factors ("km", "h") make another unit.

    Examples
    --------
    >>> from fluidsurrogate.data.units import units_compatible
    >>> units_compatible("1/s", "s-1"), units_compatible("h-1", "s-1")
    (True, False)
    """
    return (
        found.strip().lower() in DIMENSIONLESS
        or found == expected
        or _powers_of_base_units(found) == _powers_of_base_units(expected)
    )


def _powers_of_base_units(text: str) -> dict[str, int] | str:
    """Return the powers of the base units, as udunits reads products and quotients; the text if it is neither."""
    rest, powers = text.translate(SUPERSCRIPTS).replace("**", "^").strip(), Counter[str]()
    while rest:
        token = TOKEN.match(rest)
        if token is None:
            return text
        sign, name, power = token.groups()
        exponent = int(power or 1) * (-1 if sign == "/" else 1)
        if name == "Hz":
            name, exponent = "s", -exponent
        if name not in NUMBERS:
            powers[SPELLINGS.get(name, name)] += exponent
        rest = rest[token.end() :].strip()
    return {name: power for name, power in powers.items() if power}
