"""Whether two spellings of a unit mean the same: "s-1", "1/s", "s^-1" and "Hz" do, "h-1" is another."""

from __future__ import annotations

import re
from collections import Counter

NONE = {"", "1", "-", "none", "dimensionless", "nondimensional", "non-dimensional"}
SPELLINGS = {
    "s": "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s",
    "m": "m", "meter": "m", "meters": "m", "metre": "m", "metres": "m",
    "K": "K", "kelvin": "K", "degK": "K",
}  # fmt: skip
NUMBERS = {"1", "rad", "radian", "radians"}
SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
TOKEN = re.compile(r"\s*([*/·.]?)\s*([A-Za-z]+|1(?![\d.]))\s*\^?([-+]?\d+)?")


def agree(said: str, expected: str) -> bool:
    """True where `said` is `expected` in another spelling, or says that the numbers have no unit of their own."""
    return said.strip().lower() in NONE or said == expected or _powers(said) == _powers(expected)


def _powers(text: str) -> dict[str, int] | str:
    """The powers of the base units, as udunits reads products and quotients; the text where it is something else."""
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
