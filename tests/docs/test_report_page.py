"""The report in a browser, opened from disk: keyboard and mouse, wide and narrow, light and dark, and on paper."""

import base64
import json
import shutil

import matplotlib
import matplotlib.image
import numpy as np
import pytest
import xarray as xr

import fluidsurrogate as fs
from fluidsurrogate.data.netcdf_files import write_netcdf

pytestmark = pytest.mark.docs

EVIL = "</script><script>window.broken = true</script><img src=x onerror='window.broken = true'>"


@pytest.fixture(scope="module")
def page(finished):
    """The address of the report of the miniature."""
    return (finished / "report.html").as_uri()


@pytest.fixture
def opened(browser, page):
    """The browser, on that page."""
    browser.complaints.clear()
    browser.outside.clear()
    browser.open(page)
    yield browser
    assert not browser.complaints
    assert not browser.outside


def scroll_through(browser):
    """Down to the end, so that all charts are drawn."""
    browser.wait_for("""(() => {
        const next = [...document.querySelectorAll('.chart')].find((chart) => !chart.querySelector('svg'));
        if (next) next.scrollIntoView();
        return !next;
    })()""")
    browser.evaluate("scrollTo(0, 0)")


def frame(browser):
    return int(browser.evaluate("document.getElementById('frame').value"))


def picture(browser, source, kind="state"):
    """The pixels of a canvas as (y, x, 3), from the top."""
    code = f"""(() => {{
        const figure = [...document.querySelectorAll('.panels figure')].find(f => f.dataset.source === '{source}');
        const canvas = figure.querySelector('.{kind}'), c = canvas.getContext('2d');
        const bytes = c.getImageData(0, 0, canvas.width, canvas.height).data;
        return [canvas.height, canvas.width, btoa(String.fromCharCode(...bytes))];
    }})()"""
    height, width, text = browser.evaluate(code)
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)[..., :3].astype(float)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_it_is_readable(browser, page, width, scheme, tmp_path):
    browser.complaints.clear()
    browser.outside.clear()
    browser.open(page, width=width, scheme=scheme)
    scroll_through(browser)
    pixels = matplotlib.image.imread(browser.screenshot(tmp_path / "page.png", whole=True))[..., :3]
    assert pixels.shape[1] == width
    rows = pixels.mean(2).std(1)
    assert (rows > 0.02).mean() > 0.3  # not blank, nor for long
    assert (pixels.mean() < 0.3) if scheme == "dark" else (pixels.mean() > 0.8)
    assert not browser.outside
    assert not browser.complaints
    assert browser.evaluate("document.documentElement.scrollWidth") <= width


def test_charts_show_the_scores(opened, finished):
    scroll_through(opened)
    scores = xr.load_dataset(finished / "scores.nc")
    lines = opened.evaluate("document.getElementById('chart-nrmse').data.filter(t => t.name).map(t => [t.name, t.y])")
    assert np.allclose(dict(lines)["small-cnn"], scores["nrmse"].sel(source="small-cnn")[1:], rtol=1e-4)
    assert opened.evaluate("document.querySelectorAll('.chart .main-svg').length") >= 8


def test_the_slider_moves_the_frame(opened, finished):
    """Each canvas shows the field of its time: against the colours that Matplotlib gives it."""
    forecasts = xr.load_dataset(finished / "forecasts.nc")["vorticity"].isel(trajectory=0)
    truth = forecasts.sel(source="truth")
    limit = float(abs(truth).max())
    seen = []
    for number in (0, 3):
        opened.evaluate(f"(() => {{ const s = document.getElementById('frame'); s.value = {number};"
                        " s.dispatchEvent(new Event('input')); })()")  # fmt: skip
        assert opened.evaluate("document.getElementById('time').value") == f"t = {0.25 * number:g} s"
        for kind, field in (
            ("state", forecasts.sel(source="small-d4")),
            ("error", forecasts.sel(source="small-d4") - truth),
        ):
            values = field.isel(time=number).values[::-1]  # y points up
            expected = 255 * matplotlib.colormaps["RdBu_r"]((np.clip(values / limit, -1, 1) + 1) / 2)[..., :3]
            assert np.abs(picture(opened, "small-d4", kind) - expected).max() < 14
        seen.append(picture(opened, "small-d4"))
    assert np.abs(seen[0] - seen[1]).max() > 30  # the control: another frame is another picture


def test_another_trajectory(opened, finished):
    before = picture(opened, "truth")
    opened.evaluate("(() => { const s = document.getElementById('trajectory'); s.value = '1';"
                    " s.dispatchEvent(new Event('change')); })()")  # fmt: skip
    assert np.abs(picture(opened, "truth") - before).max() > 30


def test_play_and_pause(opened):
    first = frame(opened)
    opened.evaluate("document.getElementById('play').click()")
    opened.wait_for(f"document.getElementById('frame').value != {first}")
    assert opened.evaluate("document.getElementById('play').getAttribute('aria-label')") == "pause"
    opened.evaluate("document.getElementById('play').click()")
    stopped = frame(opened)
    assert opened.evaluate(
        "new Promise(done => setTimeout(() => done(document.getElementById('frame').value), 500))"
    ) == str(stopped)


def test_the_keyboard(opened):
    opened.evaluate("document.querySelector('.player').focus()")
    first, count = frame(opened), 5
    opened.press("ArrowRight")
    assert frame(opened) == (first + 1) % count
    opened.press("ArrowLeft")
    opened.press("ArrowLeft")
    assert frame(opened) == (first - 1) % count
    opened.press(" ")
    opened.wait_for(f"document.getElementById('frame').value != {(first - 1) % count}")
    opened.press(" ")
    assert opened.evaluate("document.getElementById('play').getAttribute('aria-label')") == "play"
    opened.evaluate("document.getElementById('frame').focus()")  # the slider itself moves by one, not by two
    before = frame(opened)
    opened.press("ArrowRight")
    assert frame(opened) == (before + 1) % count


def test_a_table_is_sorted(opened):
    """By a click and by the keyboard; numbers by value, what is no number last."""
    find = "[...document.querySelectorAll('table')].find(t => t.tHead.textContent.includes('ms a step'))"
    column = f"[...{find}.tBodies[0].rows].map(r => r.cells[1].textContent)"
    opened.evaluate(f"{find}.tHead.rows[0].cells[1].querySelector('button').focus()")
    opened.press("Enter")
    values = [float(v) for v in opened.evaluate(column)]
    assert values == sorted(values)
    opened.evaluate(f"{find}.tHead.rows[0].cells[1].querySelector('button').click()")
    assert [float(v) for v in opened.evaluate(column)] == sorted(values, reverse=True)
    assert opened.evaluate(f"{find}.tHead.rows[0].cells[1].getAttribute('aria-sort')") == "descending"
    opened.evaluate(f"{find}.tHead.rows[0].lastElementChild.querySelector('button').click()")
    assert opened.evaluate(f"{find}.tBodies[0].lastElementChild.lastElementChild.textContent") == "-"
    opened.evaluate(f"{find}.tHead.rows[0].cells[0].querySelector('button').click()")
    names = opened.evaluate(f"[...{find}.tBodies[0].rows].map(r => r.cells[0].textContent)")
    assert names == sorted(names)


def test_a_source_is_hidden_everywhere(opened):
    scroll_through(opened)
    shown = "document.getElementById('chart-nrmse').data.filter(t => t.legendgroup === 'small-cnn' && t.visible).length"
    assert opened.evaluate(shown) == 2  # a curve and its band
    opened.evaluate("document.querySelector('.legend [data-source=small-cnn]').click()")
    assert opened.evaluate(shown) == 0
    assert opened.evaluate("document.querySelector('.panels [data-source=small-cnn]').hidden")


def test_light_and_dark(opened):
    ground = "getComputedStyle(document.body).backgroundColor"
    light = opened.evaluate(ground)
    opened.evaluate("document.getElementById('theme').click()")
    assert opened.evaluate(ground) != light
    assert opened.evaluate("document.documentElement.dataset.theme") == "dark"


def test_on_paper(opened, tmp_path):
    """All charts are drawn, though nobody has scrolled, and in light colours; the screen is as it was afterwards."""
    opened.evaluate("document.getElementById('theme').click()")
    printed = opened.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    opened.wait_for("[...document.querySelectorAll('.chart')].every(c => c.querySelector('svg'))")
    assert opened.evaluate("document.documentElement.dataset.theme") == "light"
    assert opened.evaluate("Math.max(...[...document.querySelectorAll('.chart svg')].map(s => s.clientWidth))") <= 680
    opened.evaluate("dispatchEvent(new Event('afterprint'))")
    assert opened.evaluate("document.documentElement.dataset.theme") == "dark"


def test_a_hostile_name_does_nothing(browser, finished, tmp_path):
    for name in ("scores.nc", "forecasts.nc"):
        dataset = xr.load_dataset(finished / name)
        names = [f"{s}{EVIL}" if str(s).startswith("small") else str(s) for s in dataset["source"].values]
        tree = json.loads(dataset.attrs["experiment"]) | {"name": EVIL}
        write_netcdf(dataset.assign_coords(source=names).assign_attrs(experiment=json.dumps(tree)), tmp_path / name)
    shutil.copytree(finished / "models", tmp_path / "models")
    browser.complaints.clear()
    browser.open(fs.report(tmp_path).as_uri())
    scroll_through(browser)
    assert browser.evaluate("window.broken") is None
    assert browser.evaluate("document.querySelector('h1').textContent") == EVIL
    assert browser.evaluate("document.querySelectorAll('img').length") == 0
    assert not browser.complaints
    browser.evaluate("window.broken = true")  # the control
    assert browser.evaluate("window.broken") is True


def test_the_page_may_not_ask_others(browser, page):
    """The control of what is loaded: its own policy forbids a request."""
    browser.open(page)
    browser.complaints.clear()
    browser.evaluate("fetch('https://example.org/').catch(() => 0)")
    assert any("Content Security Policy" in said for said in browser.complaints)
    browser.complaints.clear()
    browser.outside.clear()


def test_several_runs(browser, finished, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(finished, other)
    browser.complaints.clear()
    browser.open(fs.report([finished, other], tmp_path / "both.html").as_uri())
    scroll_through(browser)
    assert browser.evaluate("document.querySelectorAll('.chart .main-svg').length") >= 6
    assert not browser.complaints
