"""The report: it says what the files say, loads nothing, and no name in it can become markup or code."""

import base64
import json
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import plotly.graph_objects
import pytest
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate.cli import main
from fluidsurrogate.data.netcdf_files import write_netcdf
from fluidsurrogate.evaluation.score_tables import summary
from fluidsurrogate.pipeline.run import DATA
from fluidsurrogate.pipeline.stages.compare import SCORES
from fluidsurrogate.pipeline.stages.rollout import FORECASTS
from fluidsurrogate.reporting import animation, run_results
from fluidsurrogate.reporting.charts import front
from fluidsurrogate.reporting.report import script_json
from fluidsurrogate.reporting.tables import verdict

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}"
LIMIT = 10e6


class Page(HTMLParser):
    """What a page loads, its tables, and the JSON that it holds."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.loaded, self.tags, self.tables, self.json, self.text = [], [], [], [], []
        self._stack = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self._stack.append((tag, given))
        self.loaded += [given[key] for key in ("src", "srcset", "data", "poster", "action") if key in given]
        self.loaded += [given["href"]] if tag in ("link", "image", "use", "base") else []
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        while self._stack and self._stack.pop()[0] != tag:
            pass

    def handle_data(self, data):
        inside = {tag for tag, _ in self._stack}
        if self._stack and self._stack[-1][0] == "script":
            about = self._stack[-1][1]
            if about.get("type") == "application/json":
                self.json.append((about.get("data-for") or about["id"], json.loads(data)))
        elif "style" not in inside:
            self.text.append(data)
        if inside & {"th", "td"} and "table" in inside:
            self.tables[-1][-1][-1] += data.strip()

    def charts(self):
        return {name.removeprefix("chart-"): value for name, value in self.json if name.startswith("chart-")}


def read(path):
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def calibrated(finished, tmp_path_factory):
    """A run with members, so that its models are calibrated, and with an audit."""
    folder = tmp_path_factory.mktemp("calibrated") / "run"
    shutil.copytree(finished, folder)
    for name in ("scores.nc", "report.html"):
        (folder / name).unlink()
    toml = Path(__file__).parents[1] / "miniature.toml"
    options = ["--set", "compare.members=3", "--set", "compare.calibration_starts=20"]
    assert main(["run", str(toml), *options, "--out", str(folder)]) == 0
    result = fs.audit(fs.load(folder / "models" / "small-d4"), states=fs.open_data(folder / "data.zarr").load())
    write_netcdf(result, folder / "models" / "small-d4" / "audit.nc")
    fs.report(folder)
    return folder


def test_the_stage_makes_it(finished):
    """A run ends with it, and `info` knows it."""
    path = finished / "report.html"
    assert path.exists()
    found = fs.info(path)
    assert found["kind"] == "report"
    assert found["made"]["again"].startswith("yes")
    assert found["made"]["fingerprint_holds"]
    assert "report" in {result["kind"] for result in fs.info(finished)["results"]}


def test_names_of_results_are_those_of_the_stages():
    assert (run_results.DATA, run_results.FORECASTS, run_results.SCORES) == (DATA, FORECASTS, SCORES)


def test_scores_are_those_of_the_file(finished):
    page, scores = read(finished / "report.html"), xr.load_dataset(finished / "scores.nc")
    expected = summary(scores)
    table = next(t for t in page.tables if "ms a step" in t[0])
    assert table[0] == ["source", *expected.columns]
    assert table[1:] == [[name, *row] for name, row in zip(expected.index, expected.values.tolist(), strict=True)]
    drawn = {t["name"]: t for t in page.charts()["nrmse"]["data"] if "name" in t}
    assert set(drawn) == {*map(str, scores["source"].values)} - {"truth"}
    for name, trace in drawn.items():
        assert np.allclose(trace["x"], scores["time"][1:])
        assert np.allclose(trace["y"], scores["nrmse"].sel(source=name)[1:], rtol=1e-4)
    spectrum = {t["name"]: t for t in page.charts()["spectrum-end"]["data"]}
    assert np.allclose(spectrum["truth"]["y"], scores["energy_spectrum"].sel(source="truth")[-1], rtol=1e-4)


def test_figures_are_valid(calibrated):
    """Plotly itself checks each figure; the colours of the page, which it does not know, are replaced."""
    charts = read(calibrated / "report.html").charts()
    assert {
        "nrmse",
        "correlation",
        "energy",
        "spectrum-end",
        "front",
        "bound",
        "coverage",
        "horizon",
        "history",
    } <= set(charts)
    for chart in charts.values():
        plain = json.loads(json.dumps(chart).replace('"@ink"', '"black"').replace('"@muted"', '"grey"'))
        plotly.graph_objects.Figure(plain)
    with pytest.raises(ValueError, match="Invalid"):  # the control
        plotly.graph_objects.Figure({"data": [{"type": "scatter", "mode": "no such mode"}]})


def test_what_was_run_is_said(calibrated):
    text = " ".join(read(calibrated / "report.html").text)
    for part in ("decaying", "viscosity 0.02", "16 x 16 cells", "6 trajectories: 3 train, 1 valid, 2 test", "torch 2.",
                 "resolution of the truth", "threads of torch", "seed 1", "Audit of small-d4"):  # fmt: skip
        assert part in text, part


def test_uncertainty_is_said(calibrated):
    page, scores = read(calibrated / "report.html"), xr.load_dataset(calibrated / "scores.nc")
    table = next(t for t in page.tables if "stated coverage" in t[0])
    assert [row[0] for row in table[1:]] == ["small-d4", "small-cnn"]
    share = float(scores["bound_coverage"].sel(source="small-cnn")[1:].mean())
    assert table[2][1:3] == ["90%", f"{share:.1%}"]


def test_frames_are_the_forecasts(finished):
    """Decoded as the page does it, and their errors against NumPy."""
    forecasts = xr.load_dataset(finished / "forecasts.nc")
    film = dict(read(finished / "report.html").json)["frames"]
    shape = (len(film["trajectories"]), len(film["sources"]), len(film["times"]), *film["cells"])
    levels = np.frombuffer(base64.b64decode(film["levels"]), np.uint8).reshape(shape).astype(float)
    limits = np.array(film["limits"])[:, None, None, None, None]
    truth = forecasts["vorticity"].sel(source="truth").values
    assert np.allclose(limits.ravel(), np.abs(truth).max((1, 2, 3)), rtol=1e-3)
    fields = forecasts["vorticity"].sel(source=film["sources"]).transpose("trajectory", "source", ...).values
    clipped = np.clip(fields, -limits, limits)
    assert np.abs((levels - 127) / 127 * limits - clipped).max() <= 0.51 * limits.max() / 127
    norm = np.linalg.norm
    errors = norm(fields - truth[:, None], axis=(3, 4)) / norm(truth, axis=(2, 3))[:, None]
    assert np.allclose(np.array(film["nrmse"], dtype=float), errors, rtol=5e-3, atol=1e-12)
    assert film["colours"][0][2] > film["colours"][0][0]  # blue is negative
    assert len(film["colours"]) == 255


def test_a_large_field_is_made_small(finished):
    """Averaged over blocks, at a part of the times, within the budget; what is not finite stays so."""
    small = xr.load_dataset(finished / "forecasts.nc")[["vorticity"]]
    large = small.isel(y=np.repeat(np.arange(16), 5), x=np.repeat(np.arange(16), 5))
    centres = (np.arange(80) + 0.5) * 2 * np.pi / 80
    large = large.assign_coords(y=centres, x=centres).isel(time=np.arange(200) % 5)
    large = large.assign_coords(time=0.25 * np.arange(200.0))
    large["vorticity"].values[4, 0, -1, 0, 0] = np.nan  # of small-cnn
    film = animation.animation(large)
    assert film["cells"] == [40, 40]
    assert len(film["levels"]) <= animation.MAX_BYTES * 4 / 3 + 4
    assert film["times"][0] == 0
    assert film["times"][-1] == 0.25 * 199
    assert f"{len(film['times'])} of 200 times" in film["note"]
    levels = np.frombuffer(base64.b64decode(film["levels"]), np.uint8).reshape(-1, 5, len(film["times"]), 40, 40)
    assert np.argwhere(levels == 255).tolist() == [[0, 4, len(film["times"]) - 1, 0, 0]]
    assert film["nrmse"][0][4][-1] is None
    limit, truth = film["limits"][0], large["vorticity"].sel(source="truth")[0, 0].values
    means = truth.reshape(40, 2, 40, 2).mean((1, 3))
    assert np.allclose((levels[0, 0, 0] - 127.0) / 127 * limit, means, atol=0.51 * limit / 127)


def test_nothing_is_loaded(calibrated):
    path = calibrated / "report.html"
    page = read(path)
    assert page.loaded == []
    assert path.stat().st_size < LIMIT
    text = path.read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert "@import" not in text
    assert "url(http" not in text
    assert Page('<img src="https://a.org/x.png"><link href="b.css">').loaded == ["https://a.org/x.png", "b.css"]


def test_the_same_run_gives_the_same_page(finished, tmp_path):
    assert fs.report(finished, tmp_path / "a.html").read_bytes() == (finished / "report.html").read_bytes()


@pytest.fixture
def evil(finished, tmp_path):
    """A run in which everything that has a name has a hostile one."""
    folder = tmp_path / "evil <b>run"
    folder.mkdir()
    for name in ("scores.nc", "forecasts.nc"):
        dataset = xr.load_dataset(finished / name)
        names = [str(s) if s in ("truth", "persistence") else f"{s}{EVIL}" for s in dataset["source"].values]
        tree = json.loads(dataset.attrs["experiment"])
        tree = tree | {"name": EVIL, "flow": tree["flow"] | {EVIL: EVIL, "kind": EVIL}}
        dataset = dataset.assign_coords(source=names).assign_attrs(
            experiment=json.dumps(tree), versions=json.dumps({EVIL: EVIL})
        )
        if "element" in dataset:
            dataset = dataset.assign_coords(element=[f"{e}{EVIL}" for e in dataset["element"].values])
        write_netcdf(dataset, folder / name)
    return folder


def test_a_name_cannot_break_out(evil, finished):
    """A hostile page has the elements of a harmless one, and shows the names as they are."""
    path = fs.report(evil)
    page, text = read(path), path.read_text(encoding="utf-8")
    assert page.tags.count("script") == text.count("<script")
    assert "alert(1)</script>" not in text
    assert "<img" not in text
    assert "49" not in page.text[0]
    assert EVIL in [row[0].removeprefix("solver-16") for table in page.tables for row in table]
    harmless = read(finished / "report.html")
    assert set(page.tags) == set(harmless.tags)
    names = [trace["name"] for trace in page.charts()["nrmse"]["data"] if "name" in trace]
    assert not [name for name in names if "<" in name]  # Plotly would take it as markup
    assert f"solver-16{EVIL}" in dict(page.json)["frames"]["sources"]


def test_json_in_a_script_stays_there():
    value = {EVIL: [EVIL, "<!--", "]]>", 1.5, None]}
    text = str(script_json(value))
    assert not {"<", ">", "&"} & set(text)
    assert json.loads(text) == value


def test_what_is_missing_is_left_out(finished, tmp_path):
    """A run that has only been trained, one without forecasts, and one without models."""
    for name, left_out, sections in (
        ("trained", ("scores.nc", "forecasts.nc"), {"What was run", "Training"}),
        (
            "scored",
            ("forecasts.nc", "data.zarr"),
            {"What was run", "Scores", "Cost", "Physics", "Symmetry", "Training"},
        ),
        ("models", ("models",), {"What was run", "Scores", "Cost", "Forecasts", "Physics", "Symmetry"}),
    ):
        folder = tmp_path / name
        shutil.copytree(finished, folder, ignore=shutil.ignore_patterns(*left_out, "report.html"))
        page = read(fs.report(folder, tmp_path / f"{name}.html"))
        titles = {text for text in page.text if text in {"Forecasts", "Uncertainty", *sections}}
        assert titles == sections, name
    with pytest.raises(fs.UsageError, match=r"has no scores.nc yet: first run fluidsurrogate compare, or .*--out"):
        fs.report(tmp_path / "trained")


def test_several_runs(finished, calibrated, tmp_path, capsys):
    out = tmp_path / "both.html"
    assert main(["report", str(finished), str(calibrated), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    page = read(out)
    keys = [row[0] for row in page.tables[0][1:]]
    assert keys == ["compare.calibration_starts", "compare.members"]
    joint = page.tables[1]
    assert joint[0][:2] == ["run", "source"]
    scores = summary(xr.load_dataset(finished / "scores.nc"))
    assert {row[0] for row in joint[1:]} == {finished.name, calibrated.name}
    first = [row for row in joint[1:] if row[0] == finished.name]
    assert [row[2] for row in first] == scores["nRMSE step 1"].tolist()
    assert len(page.tables) == 4  # what differs, all scores, and those of each run
    assert {"run-0-nrmse", "run-1-nrmse", "comparison", "front"} <= set(page.charts())
    assert out.stat().st_size < LIMIT


def test_other_flows_are_not_ranked(finished, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(finished, other)
    scores = xr.load_dataset(other / "scores.nc")
    tree = json.loads(scores.attrs["experiment"])
    tree["flow"]["viscosity"] = 0.5
    write_netcdf(scores.assign_attrs(experiment=json.dumps(tree)), other / "scores.nc")
    page = read(fs.report([finished, other], tmp_path / "two.html"))
    assert "front" not in page.charts()
    assert any("only within a run" in text for text in page.text)


def test_runs_without_an_experiment_are_not_ranked(finished, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(finished, other, ignore=shutil.ignore_patterns("models", "data.zarr", "forecasts.nc"))
    scores = xr.load_dataset(other / "scores.nc")
    write_netcdf(scores.drop_attrs(deep=False), other / "scores.nc")
    page = read(fs.report([finished, other], tmp_path / "two.html"))
    assert "front" not in page.charts()
    assert any("is not recorded" in text for text in page.text)
    assert not any("are the same" in text for text in page.text)


def test_what_an_interrupted_run_left_is_no_model(finished, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    shutil.copytree(run / "models" / "small-d4", run / "models" / "small-d4.old")
    assert run_results.read_run(run).models.keys() == run_results.read_run(finished).models.keys()


def test_a_network_whose_cost_is_unknown(finished):
    run = run_results.read_run(finished)
    costs = run.scores["seconds_per_step"].copy()
    costs[[run.kind_of(str(name)) == "model" for name in costs["source"].values]] = np.nan
    says = verdict(replace(run, scores=run.scores.assign(seconds_per_step=costs)))
    assert says.startswith("The most accurate network is")
    assert "nan" not in says


def test_the_front_against_all_pairs():
    """What no other beats in both: by comparing each with each."""
    rng = np.random.default_rng(0)
    costs, errors = rng.integers(1, 20, 60).astype(float), rng.integers(1, 20, 60).astype(float)
    costs[3] = np.nan
    found = front(costs, errors)
    beaten = [
        any((costs[j] <= costs[i] and errors[j] < errors[i]) or (costs[j] < costs[i] and errors[j] <= errors[i])
            for j in range(60))
        for i in range(60)
    ]  # fmt: skip
    expected = {(costs[i], errors[i]) for i in range(60) if not beaten[i] and np.isfinite(costs[i])}
    assert {(costs[i], errors[i]) for i in found} == expected
    assert all(costs[a] < costs[b] and errors[a] > errors[b] for a, b in pairwise(found))


def refused(capsys, *argv):
    assert main(["report", *map(str, argv)]) == 2
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1, said
    return said


def test_bad_input_is_refused_in_one_line(finished, tmp_path, capsys):
    assert "--force goes with EXPERIMENT.toml" in refused(capsys, finished, "--force")
    assert "several runs: name the file" in refused(capsys, finished, tmp_path)
    assert "ends in .html" in refused(capsys, finished, "--out", tmp_path / "page.txt")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "is no run" in refused(capsys, empty)
    assert "no such folder" in refused(capsys, finished, tmp_path / "missing", "--out", tmp_path / "a.html")
    xr.Dataset({"nrmse": ("time", [0.0, 1.0])}).to_netcdf(empty / "scores.nc")
    assert "not a table of scores" in refused(capsys, empty)
    (empty / "scores.nc").rename(empty / "forecasts.nc")
    assert "has no source 'truth'" in refused(capsys, empty)


def test_a_missing_package_is_named(finished, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.delitem(sys.modules, "plotly.offline", raising=False)
    assert "the report needs the package plotly: pip install plotly" in refused(capsys, finished)


def test_the_stage_takes_the_page_of_the_folder(finished, tmp_path, toml, capsys):
    """The same file by both ways; a page of other scores is refused; without scores the stage says what to run."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    made = (run / "report.html").read_bytes()
    assert main(["report", str(run)]) == 0
    assert main(["report", str(toml), "--out", str(run)]) == 0
    assert (run / "report.html").read_bytes() == made
    (run / "report.html").write_text("<p>somebody's page</p>")
    assert main(["report", str(toml), "--out", str(run)]) == 2
    assert "was made from other inputs" in capsys.readouterr().err
    assert main(["report", str(toml), "--out", str(run), "--force"]) == 0
    assert (run / "report.html").read_bytes() == made
    (run / "scores.nc").unlink()
    assert main(["report", str(toml), "--out", str(run)]) == 2
    assert "first run: fluidsurrogate compare" in capsys.readouterr().err
