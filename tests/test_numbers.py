"""Every measured number in the README and the documentation is in a result of a study that the text names.

A number counts as measured if it has decimals or an exponent, or is a percentage or a multiple ("8 times"), outside
code, formulas and links. It must be found, rounded as the text rounds it, in the tables of a study that is named near
it: in its paragraph, else in its section, else on its page. What was found (finding.md) is such a text too, and founds
nothing. Numbers that no study measures (limits, defaults, definitions) stand in NOT_MEASURED, with the reason.
"""

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXPERIMENTS = ROOT / "experiments"
PAGES = [
    ROOT / "README.md",
    ROOT / "experiments" / "README.md",
    *sorted(EXPERIMENTS.glob("*/finding.md")),
    *(path for path in sorted((ROOT / "docs").rglob("*.md")) if "api" not in path.parts and path.stem != "changelog"),
]
# A grid (32², 3 × 3), a date, a version, a name with digits or an exponent of a power is no measurement.
NUMBER = re.compile(
    r"(?<![\w.,^/·²³-])(?P<value>\d[\d,]*\.\d+(?:e[+-]?\d+)?|\d+e[+-]?\d+|\d[\d,]*)(?!\.?\d|\w|,\d|²|³|-\w)"
    r"(?P<unit>\s?%|\s+times\b)?"
)
NOT_TEXT = re.compile(
    r"^```.*?^```|^:::\{.*?$|^\$\$.*?\$\$|`[^`\n]*`|\$[^$\n]*\$|https?://\S+|doi:\S+|arXiv:\S+|\d+ × \d+( × \d+)?"
    r"|[νκμε] ?= ?[\d.e-]+|Python [≥\d., and]+|\d{4}-\d\d-\d\d|n = [\d, ]+",
    re.DOTALL | re.MULTILINE,
)
STUDY = re.compile(r"experiments/([a-z0-9_]+)|(?:/studies/|<)([a-z0-9_]+)|\{doc\}`([a-z0-9_]+)`|\]\(([a-z0-9_]+)/")
OF_PAGE = {"README.md": ["demo"], "first_run.md": ["demo"], "what_did_it_learn.md": ["explain"]}  # beside what is named
NUMERAL = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
# Numbers of a page that no study measures, and why.
NOT_MEASURED: dict[str, tuple[str, set[str]]] = {
    "calibration.md": ("definitions", {"0.9", "0.5", "90 %"}),
    "index.md": ("what an error bound means", {"90 %"}),
    "reader.md": ("a limit", {"0.01"}),
    "audit.md": ("printed by the commands that the page shows, and limits",
                 {"8e-7", "8 %", "15 %", "7 %", "0.07 %", "185 %", "1e-4", "1e-10"}),
    "check_data.md": ("measured by the check that the page describes, on files of other packages, and its limits",
                      {"0.0002", "0.60", "1.29", "0.127", "0.0009", "0.56", "0.0000", "1.79", "0.30", "0.31", "1.85",
                       "1.1", "0.10", "0.53", "4.9", "0.105", "0.142", "0.01", "999.9", "9.97e36", "10 %", "1 %"}),
    "choose.md": ("a tolerance", {"1e-5"}),
    "explain.md": ("definitions", {"1.5", "90 %"}),
    "generate.md": ("arithmetic: twice the cells in space; a limit", {"16 times", "5 %"}),
    "own_data.md": ("a version of a format, and a code for missing values", {"7.3", "999.9"}),
    "first_forecast.md": ("what the page's code prints", {"21 times", "1e-6", "90 %", "0.5"}),
    "forecast.md": ("ratios of rows of tables, and a limit",
                    {"1.1", "1.3 times", "3.8", "6.4 times", "4.6", "7.8 times", "0.27 times", "0.14", "0.22 times",
                     "0.6", "5 %"}),
    "long_rollouts.md": ("ratios of rows of the table", {"1.7 times", "18 %"}),
    "other_grid.md": ("ratios of rows of the table", {"1.1", "1.3 times", "3.8", "7.8 times"}),
    "other_grid/finding.md": ("ratios of rows of the table",
                              {"1.1", "1.3 times", "3.8", "6.4 times", "4.6", "7.8 times", "0.27\ntimes", "0.14",
                               "0.22 times"}),
    "published_benchmark/finding.md": ("the target", {"1.5 %"}),
    "stability/finding.md": ("ratios of rows of the table", {"6 %", "18 %", "16 %", "1.7 times"}),
    "energy_budget.md": ("the least and the most of the table, as a percentage", {"6 %", "10 %"}),
    "cheaper_networks/finding.md": ("measured before the C++ was written", {"42.9", "7.5", "32.3"}),
    "explain/finding.md": ("in the result files of each network", {"0.69", "0.23"}),
    "hybrid/finding.md": ("ratio of times before and after the finer choice", {"1.6 times"}),
    "hybrid_3d/finding.md": ("of runs that the table does not show, and a ratio of two rows", {"4.1", "0.6 %"}),
    "three_dimensions/finding.md": ("a number of the table with one more digit; printed by the command that is named",
                                     {"0.504", "1 %", "0.37 %", "0.10 %"}),
    "install.md": ("an angle", {"22.5"}),
    "training_speed.md": ("a ratio of two rows of the table", {"0.70"}),
    "uncertainty.md": ("a ratio of two rows of the table", {"33 %"}),
}  # fmt: skip


def numbers_of(text):
    """The numbers of a text; those of a column of percentages, and those with a sign of their own, as fractions too.

    A spread (what follows ±) is no result.
    """
    lines, percent = re.sub(r"±\s*[\d.e+-]+", "", text).splitlines(), []
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        cells = line.split("|")
        if len(cells) > 1 and re.fullmatch(r"[|\s:-]+", after):
            percent = ["%" in cell for cell in cells]  # the head of a table
        for number, cell in enumerate(cells):
            is_percentage = len(cells) == len(percent) and percent[number]
            for found in NUMERAL.finditer(cell):
                value = abs(float(found.group().replace(",", "")))
                yield value
                if is_percentage or cell[found.end() :].lstrip().startswith("%"):
                    yield value / 100


@cache
def results_of(study):
    """All numbers in the tables and settings of a study."""
    found = set()
    for path in (EXPERIMENTS / study).rglob("*"):
        if path.suffix in (".md", ".csv", ".toml") and path.name != "README.md":
            text, finding = path.read_text(encoding="utf-8"), path.with_name("finding.md")
            if finding.exists():  # prose, which founds nothing
                text = text.replace(finding.read_text(encoding="utf-8").strip(), "")
            numbers = set(numbers_of(text))
            found |= numbers | ({1e3 * number for number in numbers} if path.suffix == ".csv" else set())  # s as ms
    return found


def studies_named(text):
    """The studies that a text links to."""
    names = {name for groups in STUDY.findall(text) for name in groups if name}
    return {name for name in names if (EXPERIMENTS / name).is_dir()}


def measured(text):
    """The numbers of a text that count as measured, each with its value and half a unit of its last digit."""
    for found in NUMBER.finditer(NOT_TEXT.sub(" ", text)):
        value, unit = found["value"].replace(",", ""), (found["unit"] or "").strip()
        if not unit and not set(".e") & set(value):
            continue
        mantissa, _, exponent = value.partition("e")
        decimals = len(mantissa.partition(".")[2]) - int(exponent or 0)
        scale = 0.01 if unit == "%" else 1.0
        yield found.group().strip(), float(value) * scale, 0.5 * 10.0**-decimals * scale


def paragraphs(page):
    """Each paragraph of a page with the section that it is in."""
    text = re.sub(r"^```(?!\{include).*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for section in re.split(r"^(?=#)", text, flags=re.MULTILINE):
        for paragraph in re.split(r"\n\s*\n|\n(?=- )|\n(?=\| )", section):
            yield paragraph, section, text


def unfounded(page):
    """The measured numbers of a page that no result near them holds."""
    excused = {
        number
        for name in (page.name, f"{page.parent.name}/{page.name}")
        for number in NOT_MEASURED.get(name, ("", set()))[1]
    }
    own = {page.stem} if page.parent.name == "studies" else {page.parent.name}
    for paragraph, section, text in paragraphs(page):
        near = next((named for part in (paragraph, section, text) if (named := studies_named(part))), set())
        near = near | set(OF_PAGE.get(page.name, [])) | own
        near = {study for study in near if (EXPERIMENTS / study).is_dir()}
        known = set().union(*map(results_of, near))
        for said, value, half in measured(paragraph):
            if said in excused:
                continue
            if not any(abs(value - number) <= half * (1 + 1e-9) for number in known):
                yield f"{said!r} is in no result of {', '.join(sorted(near)) or 'a study'}: {paragraph.strip()[:100]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_answer_is_missing(page):
    assert not re.findall(r"[A-Z_]*ANSWER[A-Z_]*", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_measured_number_is_in_a_result(page):
    found = list(unfounded(page))
    assert not found, "\n".join(found)


def test_fractions_are_of_percentages_only():
    table = "| a [%] | b |\n| --- | --- |\n| 41 ± 3 | 42 |\n\nIt is 43 % of 44."
    assert set(numbers_of(table)) == {41, 0.41, 42, 43, 0.43, 44}


def test_a_number_that_no_study_has_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("The error is 0.9173 times as large ([study](experiments/resume/results.md)), or 3 times.\n")
    assert len(list(unfounded(page))) >= 1
