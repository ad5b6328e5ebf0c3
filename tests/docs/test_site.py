"""The site as a reader meets it: every link leads somewhere, and a browser shows the pages without the network."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import matplotlib.image
import pytest

pytestmark = pytest.mark.docs

PAGES = ("index.html", "guides/train.html", "api/generated/fluidsurrogate.nn.GroupConv.html")


class Links(HTMLParser):
    """What a page points to, and the places in it that can be pointed to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := given.get(key))}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag == "link" and given.get("rel") not in ("canonical", "search", "index", "next", "prev"):
            self.loaded.append(given.get("href") or "")
        if tag in ("img", "script", "source", "iframe", "video") and given.get("src"):
            self.loaded.append(given["src"] or "")


def read(path: Path) -> Links:
    parser = Links()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


def faults(site: Path) -> list[str]:
    """Every link within the site that leads nowhere, and whatever a page would load from elsewhere."""
    pages = {path: read(path) for path in site.rglob("*.html") if "_static" not in path.relative_to(site).parts}
    found = []
    for path, page in pages.items():
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loaded and parts.scheme != "data":
                    found.append(f"{path.relative_to(site)} loads {link}")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                found.append(f"{path.relative_to(site)}: no file {link}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.append(f"{path.relative_to(site)}: no anchor {link}")
    return sorted(set(found))


def test_every_link_leads_somewhere(site):
    assert not faults(site)


def test_a_dead_link_is_found(tmp_path):
    """The control."""
    (tmp_path / "a.html").write_text(
        '<a href="b.html#x">1</a><a href="a.html#y">2</a><a href="#here" id="here">3</a><a href="https://x.org">4</a>'
        '<script src="https://x.org/a.js"></script>'
    )
    assert faults(tmp_path) == [
        "a.html loads https://x.org/a.js",
        "a.html: no anchor a.html#y",
        "a.html: no file b.html#x",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("page", PAGES)
def test_page_in_a_browser(browser, address, page, width, scheme, tmp_path):
    browser.complaints.clear()
    browser.outside.clear()
    browser.open(f"{address}/{page}", width=width, scheme=scheme)
    picture = matplotlib.image.imread(browser.screenshot(tmp_path / "page.png"))
    assert picture.shape[1] == width
    assert picture[..., :3].std() > 0.02  # not blank
    assert not browser.outside
    assert not browser.complaints
    assert browser.evaluate("document.documentElement.scrollWidth") <= width  # nothing widens the page


def test_a_request_to_elsewhere_is_seen(browser, address):
    """The control: a page that asks another machine, and one whose script fails, are noticed."""
    browser.open(f"{address}/index.html")
    browser.complaints.clear()
    browser.outside.clear()
    browser.evaluate("fetch('https://example.org/').catch(() => 0)")
    browser.evaluate("console.error('wrong')")
    assert any("example.org" in url for url in browser.outside)
    assert any("wrong" in said for said in browser.complaints)


def test_equations_are_set(browser, address):
    browser.open(f"{address}/concepts/numerics.html")
    browser.wait_for("document.querySelectorAll('mjx-container').length > 3")
    assert browser.evaluate("document.querySelectorAll('mjx-merror, .MathJax_Error').length") == 0


def test_reference_pages_say_something(site):
    """Every page of the reference has a signature or members, and no page shows markup that was not understood."""
    pages = {path: path.read_text(encoding="utf-8") for path in (site / "api" / "generated").glob("*.html")}
    assert len(pages) > 40
    assert not [path.name for path, text in pages.items() if 'class="sig ' not in text and "sig sig-object" not in text]
    assert not [path.name for path, text in pages.items() if ".. auto" in text or ":members:" in text]


def test_search_finds_a_layer(browser, address):
    browser.complaints.clear()
    browser.open(f"{address}/search.html?q=GroupConv2d")
    browser.wait_for("document.querySelectorAll('#search-results li a').length > 0")
    found = browser.evaluate("[...document.querySelectorAll('#search-results li a')].map(a => a.href).join(' ')")
    assert "fluidsurrogate.nn.GroupConv" in found
    assert not browser.complaints
