"""A small demo for what the pages show; the built site, a server, and a Chromium that may talk to nobody else."""

from __future__ import annotations

import base64
import fcntl
import functools
import http.server
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fluidsurrogate as fs
from fluidsurrogate.inspection.toml_writer import to_toml

ROOT = Path(__file__).parents[2]
BUILT = ROOT / "build" / "docs"
SMALL = (
    "grid.n=24", "grid.store=16", "flow.viscosity=2e-2", "flow.wavenumber=2", "flow.spin_up=0.25",
    "data.train=2", "data.valid=1", "data.test=2", "data.steps=4", "train.steps=4", "train.warmup=1", "train.batch=2",
    "train.unroll=2", "train.workers=1", "compare.solvers=[{n = 24}]", "compare.calibration_starts=20",
)  # fmt: skip
TRAINED = ("gcnn-d4", "cnn")
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--remote-debugging-pipe", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip


LOCAL = ("http://127.0.0.1:", "file:///", "data:", "blob:", "about:")


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """A folder with a small experiments/demo.toml and the data and models that it makes."""
    folder = tmp_path_factory.mktemp("demo")
    tree = fs.Experiment.read(ROOT / "experiments" / "demo.toml", SMALL).tree()
    tree["models"] = {name: tree["models"][name] | {"width": 16} for name in TRAINED}
    tree["models"]["cnn"]["dilations"] = [1]
    (folder / "experiments").mkdir()
    (folder / "experiments" / "demo.toml").write_text(to_toml(tree), encoding="utf-8")
    fs.train(folder / "experiments" / "demo.toml", out=folder / "runs" / "demo")
    return folder


@pytest.fixture(scope="session")
def site() -> Path:
    """The folder of the site, built afresh as `make docs` builds it."""
    shutil.rmtree(BUILT, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "-E", "-W", "--keep-going", "-q", "-d", BUILT.with_name("doctrees")]
    done = subprocess.run([*command, ROOT / "docs", BUILT], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return BUILT


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """Where the site is served, on this machine alone."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One Chromium for all tests."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    assert found, f"none of {', '.join(NAMES)} is installed: apt-get install chromium"
    with Browser(found, tmp_path_factory.mktemp("profile")) as browser:
        yield browser


class Browser:
    """A Chromium that is driven through its debugging pipe: messages of the DevTools protocol, each closed by a NUL.

    A request that leaves this machine fails, and is kept in `outside`; what the console and the pages complain of is in
    `complaints`.
    """

    def __init__(self, program: str, profile: Path) -> None:
        self.outside: list[str] = []
        self.complaints: list[str] = []
        self._number = 0
        self._inbox: queue.Queue[dict[str, Any]] = queue.Queue()
        theirs_in, ours_out = _pipe()
        ours_in, theirs_out = _pipe()
        # Chromium reads from descriptor 3 and writes to 4.
        redirected = ["bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash"]
        self._process = subprocess.Popen(
            [*redirected, program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(theirs_in, theirs_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        self._out = os.fdopen(ours_out, "wb", buffering=0)
        self._in = os.fdopen(ours_in, "rb", buffering=0)
        threading.Thread(target=self._read, daemon=True).start()
        self._session: str | None = None
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Network.setCacheDisabled", cacheDisabled=True)
        self.call("Fetch.enable", patterns=[{"urlPattern": "*"}])

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._session = None
        self.call("Browser.close")
        self._process.wait(timeout=30)

    def _read(self) -> None:
        left = b""
        while chunk := self._in.read(1 << 16):
            *whole, left = (left + chunk).split(b"\0")
            for message in whole:
                self._inbox.put(json.loads(message))

    def _send(self, method: str, **parameters: Any) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        return self._number

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; what happens in the meantime is looked at."""
        number = self._send(method, **parameters)
        while True:
            message = self._inbox.get(timeout=60)
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self._notice(message)

    def _notice(self, message: dict[str, Any]) -> None:
        method, about = message.get("method"), message.get("params", {})
        if method == "Fetch.requestPaused":
            url = about["request"]["url"]
            if url.startswith(LOCAL):
                self._send("Fetch.continueRequest", requestId=about["requestId"])
            else:
                self.outside.append(url)
                self._send("Fetch.failRequest", requestId=about["requestId"], errorReason="BlockedByClient")
        elif method == "Network.requestWillBeSent":
            url = about["request"]["url"]
            if not url.startswith(LOCAL):
                self.outside.append(url)
        elif method == "Network.responseReceived" and about["response"]["status"] >= 400:
            self.complaints.append(f"{about['response']['status']} {about['response']['url']}")
        elif method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(a.get("value", a.get("description"))) for a in about["args"]))
        elif method == "Runtime.exceptionThrown":
            details = about["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 30.0) -> None:
        """Until a JavaScript expression is true."""
        until = time.monotonic() + seconds
        while not self.evaluate(expression):
            assert time.monotonic() < until, f"not within {seconds:g} s: {expression}"
            time.sleep(0.1)

    def press(self, key: str) -> None:
        """Press a key, as named by the DevTools protocol: " ", "Enter", "ArrowRight"."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        code = {" ": 32, "Enter": 13, "ArrowLeft": 37, "ArrowRight": 39}[key]
        about = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def open(self, url: str, width: int = 1400, height: int = 900, scheme: str = "light") -> None:
        """Go to a page in a window of this size, and wait for it and its equations."""
        mobile = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=url)
        path = url.partition("#")[0]
        self.wait_for(f"location.href.startsWith({json.dumps(path)}) && document.readyState === 'complete'")
        self.wait_for("!window.MathJax || !MathJax.startup || !MathJax.startup.promise || "
                      "MathJax.startup.promise.then(() => true)")  # fmt: skip

    def screenshot(self, path: Path, whole: bool = False) -> Path:
        """Of the window, or of the whole page, as a PNG."""
        options: dict[str, Any] = {"captureBeyondViewport": whole}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            options["clip"] = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **options)["data"]))
        return path


def _pipe() -> tuple[int, int]:
    """A pipe whose descriptors are above those that Chromium wants."""
    read, write = os.pipe()
    moved = fcntl.fcntl(read, fcntl.F_DUPFD, 10), fcntl.fcntl(write, fcntl.F_DUPFD, 10)
    os.close(read)
    os.close(write)
    return moved
