"""What a check says, and where it is kept: one small JSON file a check, a table from all of them."""

from __future__ import annotations

import datetime
import json
import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

HERE = Path(__file__).parent
FOLDER = HERE / "results"
PACKAGES = ("torch", "numpy", "scipy", "exponax", "jax")


@dataclass(frozen=True)
class Row:
    """One line of the table; `passed` None: reported, nothing to pass."""

    check: str
    reference: str
    target: str
    measured: str
    passed: bool | None = None


def below(check: str, reference: str, bound: float, value: float) -> Row:
    """A number that must not exceed a bound."""
    return Row(check, reference, f"≤ {bound:.0e}", f"{value:.1e}", value <= bound)


def within(check: str, reference: str, expected: float, tolerance: float, value: float, digits: int = 5) -> Row:
    """A number that must lie within a relative tolerance of another."""
    error = value / expected - 1
    target = f"{expected:.{digits}f} within {100 * tolerance:g} %"
    return Row(check, reference, target, f"{value:.{digits}f} ({100 * error:+.4f} %)", abs(error) <= tolerance)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """‖a − b‖ / ‖b‖, the largest over the components, each relative to its own norm."""
    return float(((a - b).square().sum((0, -2, -1)) / b.square().sum((0, -2, -1))).sqrt().max())


def path_of(name: str) -> Path:
    """The file of a check."""
    return FOLDER / f"{name}.json"


def write(name: str, title: str, rows: list[Row], seconds: float) -> None:
    """Beside its name, then renamed."""
    held = {
        "title": title, "date": str(datetime.date.today()), "seconds": round(seconds, 1),
        "versions": {"python": platform.python_version()} | {p: v for p in PACKAGES if (v := _version(p))},
        "rows": [asdict(row) | {"passed": None if row.passed is None else bool(row.passed)} for row in rows],
    }  # fmt: skip
    FOLDER.mkdir(exist_ok=True)
    path = path_of(name)
    path.with_suffix(".part").write_text(json.dumps(held, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(path.with_suffix(".part"), path)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def table(names: list[str]) -> str:
    """results.md of the checks that have been made."""
    held = {name: json.loads(path_of(name).read_text(encoding="utf-8")) for name in names if path_of(name).exists()}
    rows = [row for one in held.values() for row in one["rows"]]
    judged = [row["passed"] for row in rows if row["passed"] is not None]
    short = [row["check"] for row in rows if row["passed"] is False]
    packages = ", ".join(f"{k} {v}" for k, v in next(iter(held.values()))["versions"].items()) if held else ""
    text = (
        "# Verification of the solver\n\nMade by `run.py`; what is measured and how is in the module of each check. "
        f"float64 unless said. {packages}.\n\n{sum(judged)} of {len(judged)} targets are met, "
        f"{len(rows) - len(judged)} numbers are reported without one."
    )
    text += f" Short: {'; '.join(short)}.\n" if short else "\n"
    for name, one in held.items():
        text += f"\n## {one['title']}\n\n`run.py --only {name}`, {one['date']}, {one['seconds']:g} s\n\n"
        text += "| check | reference | target | measured | verdict |\n| --- | --- | --- | --- | --- |\n"
        for row in one["rows"]:
            verdict = {True: "met", False: "**short**", None: "reported"}[row["passed"]]
            cells = [str(row[key]).replace("|", r"\|") for key in ("check", "reference", "target", "measured")]
            text += f"| {' | '.join([*cells, verdict])} |\n"
    missing = [name for name in names if name not in held]
    return text + (f"\nNot made yet: {', '.join(missing)}.\n" if missing else "")
