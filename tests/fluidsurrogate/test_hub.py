"""Models on the Hub, against a small server of our own that answers what the Hub's library asks; no network."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import constants
from torch import nn

import fluidsurrogate as fs
from fluidsurrogate import UsageError
from fluidsurrogate.inspection.model_card import AUTHORS, TITLE, model_card
from fluidsurrogate.models.hub_download import download_model


class Hub(BaseHTTPRequestHandler):
    """Repositories as {name: [(commit, {file: bytes}), ...]}, and every request that was made."""

    repositories: dict = {}  # noqa: RUF012
    requests: list = []  # noqa: RUF012

    def log_message(self, *arguments):
        pass

    def answer(self, code, body=b"", **headers):
        self.send_response(code)
        for key, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.requests.append((self.command, self.path))
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
        commits = self.repositories.get(match[1]) if match else None
        if not commits:
            return self.answer(404, X_Error_Code="RepoNotFound")
        found = [c for c in commits if match[2] in (c[0], "main")]
        if not found:
            return self.answer(404, X_Error_Code="RevisionNotFound")
        commit, files = found[-1]
        if match[3] not in files:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        body = files[match[3]]
        return self.answer(200, body, ETag=f'"{hashlib.sha1(body).hexdigest()}"', X_Repo_Commit=commit)

    do_GET = do_HEAD

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.requests.append((self.command, self.path, body))
        if self.path == "/api/validate-yaml":
            return self.answer(200, b"{}")
        if self.path == "/api/repos/create":
            given = json.loads(body)
            name = f"{given['organization']}/{given['name']}"
            self.repositories.setdefault(name, [("0" * 40, {})])
            return self.answer(200, json.dumps({"url": f"http://{self.headers['Host']}/{name}"}).encode())
        name, action = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", self.path).groups()
        if action == "preupload":
            files = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                     for f in json.loads(body)["files"]]  # fmt: skip
            return self.answer(200, json.dumps({"files": files}).encode())
        files = dict(self.repositories[name][-1][1])
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "deletedFile":
                del files[line["value"]["path"]]
        commit = hashlib.sha1(body).hexdigest()
        self.repositories[name].append((commit, files))
        url = f"http://{self.headers['Host']}/{name}/commit/{commit}"
        return self.answer(200, json.dumps({"commitUrl": url, "commitOid": commit}).encode())


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The server, with an empty cache."""
    handler = type("Handler", (Hub,), {"repositories": {}, "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    monkeypatch.setenv("HF_TOKEN", "none")  # so that nobody's is looked for
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield handler
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def audit(trained):
    return fs.audit(trained[1]["small-d4"], states=trained[0], steps=2)


def refused(function, *arguments, **options):
    with pytest.raises(UsageError) as caught:
        function(*arguments, **options)
    (said,) = str(caught.value).splitlines()
    return said


def test_pushed_and_loaded_to_the_same_bits(hub, trained, audit, tmp_path, monkeypatch):
    data, models = trained
    model = models["small-d4"]
    address = fs.push_to_hub(model, "user/small-d4", audit=audit)
    files = hub.repositories["user/small-d4"][-1][1]
    assert set(files) == {"README.md", "config.json", "weights.safetensors"}
    assert address == f"hf://user/small-d4@{hub.repositories['user/small-d4'][-1][0]}"
    expected = fs.forecast(model, data, 4)["vorticity"].values
    for name in ("hf://user/small-d4", address):
        loaded = fs.load(name)
        assert np.array_equal(expected, fs.forecast(loaded, data, 4)["vorticity"].values)
        assert (loaded.spec, loaded.normalisation, loaded.config) == (model.spec, model.normalisation, model.config)
    assert not [path for _, path, *_ in hub.requests if "resolve" in path and path.endswith("README.md")]
    snapshot = download_model(address)
    assert (snapshot / "config.json").is_symlink()
    assert snapshot.is_relative_to(tmp_path / "cache" / "models--user--small-d4" / "snapshots")
    assert fs.info(address)["parameters"] == model.parameters
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    count = len(hub.requests)
    assert np.array_equal(expected, fs.forecast(fs.load("hf://user/small-d4"), data, 4)["vorticity"].values)
    assert len(hub.requests) == count


def test_a_revision_is_the_model_that_was(hub, trained, audit):
    """And what belonged to earlier weights is gone from the new commit."""
    models = trained[1]
    first = fs.push_to_hub(models["small-d4"], "user/model", audit=audit)
    commit, files = hub.repositories["user/model"][-1]
    hub.repositories["user/model"].append(("a" * 40, files | {"calibration.json": b"{}"}))
    assert (download_model("hf://user/model") / "calibration.json").read_text() == "{}"
    fs.push_to_hub(models["small-cnn"], "user/model", audit=audit)
    assert "calibration.json" not in hub.repositories["user/model"][-1][1]
    assert fs.load("hf://user/model").config.kind == "cnn"
    assert fs.load(first).config.kind == "gcnn"
    assert fs.load(f"hf://user/model@{commit}").config.kind == "gcnn"


def test_weights_are_of_the_commit_of_the_config(hub, trained, audit, monkeypatch):
    """Somebody pushes between the two files of a download."""
    models = trained[1]
    fs.push_to_hub(models["small-d4"], "user/model", audit=audit)
    download = huggingface_hub.hf_hub_download

    def slow(repository, name, **options):
        found = download(repository, name, **options)
        if name == "config.json":
            fs.push_to_hub(models["small-cnn"], "user/model", audit=audit)
        return found

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", slow)
    assert fs.load("hf://user/model").config.kind == "gcnn"


def test_what_the_hub_does_not_have(hub, trained, audit, monkeypatch):
    fs.push_to_hub(trained[1]["small-d4"], "user/model", audit=audit)
    hub.repositories["user/other"] = [("b" * 40, {"README.md": b"text"})]
    hub.repositories["user/pickled"] = [("c" * 40, {"config.json": b"{}", "pytorch_model.bin": b""})]
    for address, said in [
        ("hf://user/nobody", "no such repository, or a private one"),
        ("hf://user/model@nowhere", "the repository has no such revision"),
        ("hf://user/other", "is not a model of fluidsurrogate: it has no config.json or no weights.safetensors"),
        ("hf://user/pickled", "is not a model of fluidsurrogate"),
        ("hf://model", "is not an address on the Hub: give hf://user/model or hf://user/model@revision"),
        ("hf://user/model/config.json", "is not an address on the Hub"),
        ("hf://../../etc", "is not an address on the Hub"),
        ("hf://user/..", "is not an address on the Hub"),
        ("hf://user/a--b", "hf://user/a--b: "),
        ("hf://", "is not an address on the Hub"),
    ]:
        assert said in refused(fs.load, address), address
        assert said in refused(fs.info, address), address
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "not in the cache, and the Hub cannot be reached" in refused(fs.load, "hf://user/another")


def test_no_network(hub, trained, audit, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between one try and the next
    nowhere = "http://127.0.0.1:9"
    template = nowhere + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", nowhere)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    assert "the Hub cannot be reached" in refused(fs.load, "hf://user/model")
    model = trained[1]["small-d4"]
    assert "the Hub refused the request, or cannot be reached" in refused(
        fs.push_to_hub, model, "user/model", audit=audit
    )
    for name in ("model", "hf://user/model", "user/model@main", "../model", "user/a/b"):
        assert "is no repository on the Hub: name it as user/model" in refused(fs.push_to_hub, model, name, audit=audit)


def test_what_comes_from_the_hub_is_checked_as_any_folder(hub, trained, audit):
    fs.push_to_hub(trained[1]["small-d4"], "user/model", audit=audit)
    files = hub.repositories["user/model"][-1][1]
    config = json.loads(files["config.json"])
    without_velocity = {"normalisation": config["normalisation"] | {"velocity_scale": None}}
    code = json.dumps(config | without_velocity | {"model": {"kind": "module", "path": "os:system"}}).encode()
    for number, (name, content, said) in enumerate([
        ("config.json", json.dumps(config | {"model": {"kind": "os:system"}}).encode(), "does not describe a model"),
        ("config.json", code, "would import"),
        ("weights.safetensors", b"\x80\x04pickle", "not the weights of this model"),
    ]):  # fmt: skip
        hub.repositories["user/model"].append((str(number) * 40, files | {name: content}))
        assert said in refused(fs.load, "hf://user/model")


# -- the card


def test_the_card_says_what_is_measured(trained, audit, tmp_path):
    data, models = trained
    model = models["small-d4"]
    test = data.isel(trajectory=data["split"].values == "test")
    scores = fs.compare({name: fs.forecast(m, test, 4) for name, m in models.items()}, test)
    card = model_card(model, scores, audit, repository="user/model")
    header, *_ = card.split("\n\n")
    assert header.startswith("---\nlicense: mit\nlibrary_name: fluidsurrogate\ntags:\n- ")
    assert header.endswith("\n---")
    error = float(scores["nrmse_first_step"].sel(source="small-d4"))
    for line in (
        "# small-d4",
        "| flow | decaying |",
        "| viscosity | 0.02 |",
        "| cells (y, x) | 16 × 16 |",
        "| interval | 0.25 |",
        "| trajectories | 3 to train, 1 to validate, of 4 intervals |",
        "| kind | gcnn |",
        f"| parameters | {model.parameters:,} |",
        f"| **small-d4** | {error:.4f} |",
        "It keeps the point group D4 and shifts by whole cells",
        "pass: everything claimed holds to ",
        'model = fs.load("hf://user/model")',
        "@software{fluidsurrogate,",
        f"torch {torch.__version__}",
    ):
        assert line in card
    assert card == model_card(model, scores, audit, repository="user/model")
    assert "Not audited." in model_card(model)
    assert "No scores are given." in model_card(model)
    with pytest.raises(UsageError, match=r"scores must be a Dataset from fs\.compare"):
        model_card(model, data)


def test_the_card_of_a_model_from_a_folder_has_its_validation_error(hub, trained, audit, tmp_path):
    fs.save(trained[1]["small-d4"], tmp_path / "model")
    curve = (
        "step,loss,learning_rate,valid_nrmse_first_step,valid_nrmse\n4,1,1,0.2,0.5\n8,1,1,0.1,0.25\n12,1,1,0.1,0.3\n"
    )
    (tmp_path / "model" / "curve.csv").write_text(curve)
    fs.push_to_hub(fs.load(tmp_path / "model"), "user/model", audit=audit)
    files = hub.repositories["user/model"][-1][1]
    assert files["curve.csv"].decode() == curve
    card = files["README.md"].decode()
    assert "after 8 steps of training: nRMSE 0.1000 after one interval, 0.2500 in the geometric mean" in card


def test_nothing_from_outside_of_a_folder_is_pushed(hub, trained, audit, tmp_path):
    """A folder of somebody else's may hold links to what is the user's own."""
    fs.save(trained[1]["small-d4"], tmp_path / "model")
    (tmp_path / "secret").write_text("of the user's")
    (tmp_path / "model" / "curve.csv").symlink_to("../secret")
    with pytest.raises(UsageError, match=r"curve.csv is a link that leaves the folder"):
        fs.push_to_hub(fs.load(tmp_path / "model"), "user/model", audit=audit)
    assert "user/model" not in hub.repositories
    (tmp_path / "model" / "curve.csv").unlink()
    (tmp_path / "model" / "curve.csv").write_bytes(b"\xff\xfe")
    fs.push_to_hub(fs.load(tmp_path / "model"), "user/model", audit=audit)


def test_the_card_is_audited_unless_an_audit_is_given(hub, trained, toml):
    data, models = trained
    fs.push_to_hub(models["small-d4"], "user/model")
    assert "pass: everything claimed holds" in hub.repositories["user/model"][-1][1]["README.md"].decode()
    plain = data.drop_attrs()
    experiment = fs.Experiment.read(toml, ["data.path=nowhere.nc"])
    model = fs.train(experiment, plain, ["small-cnn"])["small-cnn"]
    said = refused(fs.push_to_hub, model, "user/model")
    nowhere = Path.cwd() / "nowhere.nc"
    assert said.startswith(
        f"cannot audit the model for its card: {nowhere}: the dataset that the model was trained on does not exist"
    )


def test_the_card_of_a_module_says_that_its_code_is_not_there(trained, toml):
    model = fs.train(toml, trained[0], {"mine": nn.Conv2d(1, 1, 3, padding=1)})["mine"]
    card = model_card(model)
    assert "It claims no symmetry of the flow." in card
    assert 'fs.load("hf://user/model", module=network)' in card
    assert "`network` is a torch.nn.Module of its author's" in card


def test_text_of_a_model_stays_in_its_cell(trained, tmp_path):
    fs.save(trained[1]["small-d4"], tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["about"] |= {"fingerprint": "a | b\n---\nlicense: other", "name": "x"}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    assert "| fingerprint of the model | a \\| b --- license: other |" in model_card(fs.load(tmp_path / "model"))


def test_the_card_cites_as_the_repository_does():
    citation = (Path(__file__).parents[2] / "CITATION.cff").read_text()
    assert f'title: "{TITLE}"' in citation
    assert f"- name: {AUTHORS}" in citation
