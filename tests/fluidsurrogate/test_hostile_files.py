"""Somebody else's model folder: loaded, or refused in one line; nothing in it is executed or believed."""

import copy
import hashlib
import json
import os
import resource
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import fluidsurrogate as fs
from fluidsurrogate import UsageError
from fluidsurrogate.models.model_file_checks import MAX_STEP_BYTES


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory):
    """A good model's folder: not to be changed."""
    folder = tmp_path_factory.mktemp("model") / "good"
    fs.save(trained[1]["small-d4"], folder)
    weights = (folder / "weights.safetensors").read_bytes()
    GOOD["sha256"]["weights.safetensors"] = hashlib.sha256(weights).hexdigest()  # it is of the weights as trained here
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy of it, to be spoilt."""
    copied = tmp_path / "model"
    copied.mkdir()
    for name in ("config.json", "weights.safetensors"):
        (copied / name).write_bytes((saved / name).read_bytes())
    return copied


def refused(path, **options):
    with pytest.raises(UsageError) as caught:
        fs.load(path, **options)
    (said,) = str(caught.value).splitlines()
    assert len(said) < 700
    return said


def peak():
    """The most memory that this process has had, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# -- the config

GOOD = {  # one of every key, as the miniature's
    "format": 5,
    "model": {"kind": "gcnn", "augment": "D4", "networks": 1, "velocity": True,
              "group": "D4", "width": 16, "lifting_size": 3, "size": 3,
              "dilations": [1, 2], "activation": "gated", "norm": False, "modulate": False, "pool": "mean",
              "separable": False},
    "spec": {"grid": {"n": [16, 16], "length": [6.283185307179586, 6.283185307179586]},
             "fields": [{"name": "vorticity", "order": 0, "parity": -1, "units": "s-1", "long_name": "vorticity",
                         "uniform": False, "wall": 0, "solenoidal": False, "dimensions": 2}],
             "interval": 0.25, "inputs": []},
    "normalisation": {
        "shift": [0.0], "scale": [1.5], "change": [0.5], "band": [5, 5],
        "budget_coefficients": {"viscosity": 0.01, "drag": 0.1, "at_most": False}, "velocity_scale": 0.5,
    },
    "constants": {"viscosity": 0.01, "drag": 0.1},
    "dtype": "float32",
    "sha256": {"weights.safetensors": "0" * 64},
    "about": {"name": "small-d4", "energy_budget": "closes", "data_resolution": "error 1 %", "experiment": "{}",
              "bfloat16_check": "nRMSE", "bfloat16_error_ratio": 1.0,
              "provenance": "{}", "fingerprint": "f", "seed": 1, "versions": "{}"},
}  # fmt: skip
WRONG = [None, True, "text", "", -1, 0, 3, 0.5, 10**9, 10**30, -1e300, float("nan"), float("inf"), [], [1], ["a", {}],
         {}, {"a": 1}, [[[[]]]], "../../etc/passwd", "os:system"]  # fmt: skip


def places(tree, at=()):
    """The path of every key and entry of a nested config, tables and lists included."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*at, key)
        if isinstance(value, dict | list):
            yield from places(value, (*at, key))


def replaced(tree, at, value):
    tree = copy.deepcopy(tree)
    part = tree
    for key in at[:-1]:
        part = part[key]
    if value is KeyError:
        del part[at[-1]]
    else:
        part[at[-1]] = value
    return tree


def test_the_config_that_is_mutated_is_good(folder):
    assert set(places(GOOD)) >= set(places(json.loads((folder / "config.json").read_text())))
    (folder / "config.json").write_text(json.dumps(GOOD))
    assert fs.load(folder).config.augment == "D4"


@pytest.mark.parametrize("at", list(places(GOOD)), ids=lambda at: ".".join(map(str, at)))
def test_every_value_of_a_config_may_be_wrong(folder, at):
    """Each key gone or of every other type and size: a model all the same, or one line; never memory without bound."""
    before, taken = peak(), 0
    for value in [*WRONG, KeyError]:
        (folder / "config.json").write_text(json.dumps(replaced(GOOD, at, value)))
        try:
            model = fs.load(folder)
        except UsageError as error:
            (said,) = str(error).splitlines()
            assert str(folder) in said, said
            assert len(said) < 700
        else:
            taken += 1
            assert model(torch.ones(1, 1, 16, 16)).isfinite().all() or at[0] in ("spec", "normalisation")
    legal = at[0] == "about" or at[-1] in ("units", "long_name", "name", "uniform", "interval", "augment", "length")
    assert taken < len(WRONG) // 2 or legal
    assert peak() - before < 200 * 2**20


def test_what_is_said_names_the_key(folder):
    for at, value, said in [
        (
            ("model", "kind"),
            "os.system",
            "does not describe a model: model: Input tag 'os.system' found using 'kind' does not",
        ),
        (("model", "width"), "16", "model.gcnn.width: Input should be a valid integer"),
        (("model", "whidth"), 16, "model.gcnn.whidth: Extra inputs are not permitted"),
        (("spec", "grid", "n"), [10**9, 10**9], "spec.grid: n must be at most 65536"),
        (("spec", "grid", "n"), [16, 12], "model.group 'D4' is not a symmetry of spec.grid"),
        (("normalisation", "scale"), [1.0, 2.0], "normalisation.scale must have 1 numbers (got 2)"),
        (("normalisation", "change"), [0.0], "scale and change must be positive"),
        (
            ("normalisation", "budget_coefficients", "viscosity"),
            -1.0,
            "normalisation.budget_coefficients must be numbers of at least 0",
        ),
        (("dtype",), "float16", "dtype: Input should be 'float32' or 'float64'"),
        (("about", "seed"), {"a": 1}, "about.seed"),
        (("about",), GOOD["about"] | {"a/b": "c"}, "about.a/b"),
        (("about",), GOOD["about"] | {"a\nb\x1b": "c"}, "about.a b?"),
        (("model", "w\nidth"), 16, "model.gcnn.w idth: Extra inputs are not permitted"),
        (("format",), 2, "model format 2 is not 5: another version of fluidsurrogate wrote this model"),
    ]:
        (folder / "config.json").write_text(json.dumps(replaced(GOOD, at, value)))
        assert said in refused(folder)
    (folder / "config.json").write_text(json.dumps(replaced(GOOD, ("about", "seed"), 2**63)))
    assert isinstance(fs.load(folder).about["seed"], float)  # no file takes a whole number of more than 64 bits
    (folder / "config.json").write_text(json.dumps(GOOD | {"written_by_a_later_version": 1}))
    fs.load(folder)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "3", '"text"', json.dumps(GOOD)[:-40], "[" * 100_000, '{"a":' * 100_000, "\x00", "{}" * 2,
     " " * 5_000_000, json.dumps(GOOD | {"about": {"name": "x" * 5_000_000}})],
    ids=lambda text: f"{text[:12]!r}x{len(text)}",
)  # fmt: skip
def test_json_that_is_no_config(folder, text):
    (folder / "config.json").write_text(text)
    assert "config.json" in refused(folder)


def test_a_config_in_another_encoding(folder):
    (folder / "config.json").write_bytes(b"\xff\xfe" + json.dumps(GOOD).encode("utf-16-le"))
    assert "is not valid JSON" in refused(folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.width": 10**9}, "not the weights of this model|does not describe a model"),
        ({"model.width": 10**5}, "size mismatch for 'lift.weight'"),
        ({"model.lifting_size": 10**6 + 1}, "size mismatch|does not describe a model"),
        ({"model.dilations": [1] * 300_000}, "more layers than there are tensors"),
        ({"model": {"kind": "gunet", "levels": 10**9}}, "levels must be 1 to 10"),
        ({"model": {"kind": "gfno", "modes": 10**6}}, "weights.safetensors: not the weights|does not describe a model"),
        ({"model": {"kind": "gfno", "layers": 10**9}}, "layers must be 1 to 100"),
        ({"model": {"kind": "gfno", "layers": 100}}, "more layers than there are tensors|not the weights"),
        ({"spec.grid.n": [65536, 65536]}, "spec.grid of 65536 x 65536 cells would take 160 GiB, at most 2 are allowed"),
    ],
)
def test_absurd_sizes_allocate_nothing(folder, changes, said):
    config = copy.deepcopy(GOOD)
    for key, value in changes.items():
        config = replaced(config, key.split("."), value)
    (folder / "config.json").write_text(json.dumps(config))
    before = peak()
    with pytest.raises(UsageError, match=said):
        fs.load(folder)
    assert peak() - before < 200 * 2**20
    assert MAX_STEP_BYTES < 4 * 2**30


@pytest.mark.parametrize(
    ("experiment", "said"),
    [
        ("{}", "does not describe a model|model: its experiment|is missing|experiment: "),
        ("[1]", "does not describe a model"),
        ("{" * 100_000, "does not describe a model"),
        (json.dumps({"grid": {"n": 65536}}), "its experiment has a grid of 65536 cells a side: at most 8192"),
        (json.dumps({"grid": {"n": [16, 1e30]}}), "its experiment has a grid of 1e[+]30 cells a side"),
        (json.dumps({"grid": {"n": 16, "store": 10**9}}), "its experiment has a grid of 1e[+]09 cells a side"),
    ],
)
def test_the_experiment_of_a_hybrid(folder, experiment, said):
    """Its solver is built after what the config says that it was trained in."""
    hybrid = GOOD | {"model": GOOD["model"] | {"solver": {"order": 2}}}
    config = replaced(hybrid, ("about", "experiment"), experiment)
    (folder / "config.json").write_text(json.dumps(config))
    before = peak()
    with pytest.raises(UsageError, match=said):
        fs.load(folder)
    refused(folder)
    made = fs.info(folder)["made"]
    assert made["again"].startswith("no: ")
    assert peak() - before < 200 * 2**20


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [("solver.n", 65536, "model.solver.n = 65536 is more than 16 times the 16 stored cells"),
     ("solver.n", [16, 20000], "model.solver.n = 20000 is more than 16 times"),
     ("data.interval", 1.0, "its experiment has other states, or another interval"),
     ("grid.n", 32, "its experiment has other states"), ("grid.length", 1.0, "its experiment has other states"),
     ("data.state", "velocity", "its experiment has other states")],
)  # fmt: skip
def test_the_solver_of_a_hybrid_is_of_its_states(folder, trained, key, value, said):
    about = dict(trained[1]["small-d4"].about)
    tree, solver, (table, name) = json.loads(about["experiment"]), {"order": 2}, key.split(".")
    (solver if table == "solver" else tree[table])[name] = value
    hybrid = GOOD | {"model": GOOD["model"] | {"solver": solver}, "about": about | {"experiment": json.dumps(tree)}}
    (folder / "config.json").write_text(json.dumps(hybrid))
    before = peak()
    assert said in refused(folder)
    assert peak() - before < 200 * 2**20


# -- the weights


def test_a_pickle_in_place_of_the_weights(folder, tmp_path):
    marker = tmp_path / "executed"

    class Harmful:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    torch.save({"weight": Harmful()}, folder / "weights.safetensors")
    assert "not the weights of this model" in refused(folder)
    torch.save({"weight": Harmful()}, tmp_path / "model.pt")
    assert "model.pt is not a model: a model is a folder" in refused(tmp_path / "model.pt")
    assert not marker.exists()
    torch.load(tmp_path / "model.pt", weights_only=False)  # the control: this one does execute it
    assert marker.exists()


def spoilt(name, tensors):
    first, last = sorted(tensors)[0], sorted(tensors)[-1]
    match name:
        case "missing":
            del tensors[first]
        case "extra":
            tensors["one\nmore"] = torch.zeros(1)
        case "renamed":
            tensors["other"] = tensors.pop(first)
        case "shape":
            tensors[last] = tensors[last][None].clone()
        case "transposed":
            tensors["blocks.0.conv.weight"] = tensors["blocks.0.conv.weight"].transpose(0, 3).contiguous()
        case "dtype":
            tensors[last] = tensors[last].double()
        case "integers":
            tensors[last] = tensors[last].long()
        case "nan":
            tensors[last].flatten()[0] = np.nan
        case "infinite":
            tensors[last].flatten()[0] = np.inf
        case "empty":
            tensors.clear()
    return tensors


@pytest.mark.parametrize(
    ("name", "said"),
    [("missing", "no tensor '"), ("extra", r"a tensor 'one\\nmore' that the config does not describe"),
     ("renamed", "no tensor '"), ("shape", "size mismatch for '"), ("dtype", "wrong dtype for '.*: F64 .* F32"),
     ("integers", "wrong dtype for '.*: I64 .* F32"), ("nan", "hold NaN or infinite values"),
     ("infinite", "hold NaN or infinite values"), ("empty", "no tensor '")],
)  # fmt: skip
def test_tensors_that_are_not_the_models(folder, name, said):
    save_file(spoilt(name, load_file(folder / "weights.safetensors")), folder / "weights.safetensors")
    with pytest.raises(UsageError, match=f"weights.safetensors: .*{said}"):
        fs.load(folder)
    refused(folder)


@pytest.mark.parametrize("place", [0.3, 0.6, -1])
def test_a_flipped_bit_in_the_weights(folder, place):
    """One bit of one weight: a finite number of the right type, and another model."""
    weights = bytearray((folder / "weights.safetensors").read_bytes())
    weights[int(place * len(weights)) if place > 0 else place] ^= 1
    (folder / "weights.safetensors").write_bytes(weights)
    assert "weights.safetensors is damaged, or of another model: its SHA-256 is not that in" in refused(folder)
    with pytest.raises(UsageError, match="is damaged, or of another model"):
        fs.info(folder)


def test_weights_of_another_model_of_the_same_shape(folder, trained):
    from fluidsurrogate.nn import cpu_state_dict

    other = {name: value + 1e-3 for name, value in cpu_state_dict(trained[1]["small-d4"].network).items()}
    save_file(other, folder / "weights.safetensors")
    assert "is damaged, or of another model" in refused(folder)


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 0.5, -1])
def test_truncated_weights(folder, keep):
    whole = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(whole[: int(keep * len(whole)) if keep == 0.5 else keep])
    assert "not the weights of this model" in refused(folder)


@pytest.mark.parametrize(
    "header",
    [b"{", b"[]", b"null", b'{"a": {"dtype": "F32", "shape": [1000000000], "data_offsets": [0, 4000000000]}}',
     b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
     b'{"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}',
     b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}', b'{"a":' * 5000],
)  # fmt: skip
def test_headers_that_lie(folder, header):
    (folder / "weights.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)
    refused(folder)
    (folder / "weights.safetensors").write_bytes(struct.pack("<Q", 2**62) + header)
    refused(folder)


# -- files that are elsewhere


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors"])
def test_links_that_leave_the_folder(folder, saved, tmp_path, name):
    outside = tmp_path / name
    os.replace(folder / name, outside)
    assert f"it has no {name}" in refused(folder)
    for target in (outside, f"../{name}", saved / name, "/dev/zero", "/dev/null"):
        os.symlink(target, folder / name)
        assert "is a link that leaves the folder" in refused(folder)
        (folder / name).unlink()
    for target in (name, "nowhere"):  # in a circle, to nothing
        os.symlink(target, folder / name)
        assert f"it has no {name}" in refused(folder)
        (folder / name).unlink()
    os.mkfifo(folder / name)  # would block for ever
    assert f"its {name} is not a file" in refused(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    assert f"its {name} is not a file" in refused(folder)
    (folder / name).rmdir()
    os.replace(outside, folder / "another-name")
    os.symlink("another-name", folder / name)
    fs.load(folder)


def test_a_link_to_the_whole_folder_is_the_users_own(folder, tmp_path):
    os.symlink(folder, tmp_path / "link")
    fs.load(tmp_path / "link")


def test_links_of_the_hubs_cache_stay_in_the_repository(folder, tmp_path):
    """snapshots/COMMIT/FILE → ../../blobs/HASH is how the Hub's cache is laid out; further out is out."""
    for repository, allowed in (("models--user--name", True), ("anything", False)):
        snapshot, blobs = tmp_path / repository / "snapshots" / "abc", tmp_path / repository / "blobs"
        snapshot.mkdir(parents=True)
        blobs.mkdir()
        for number, name in enumerate(("config.json", "weights.safetensors")):
            (blobs / str(number)).write_bytes((folder / name).read_bytes())
            os.symlink(f"../../blobs/{number}", snapshot / name)
        if allowed:
            fs.load(snapshot)
            (snapshot / "config.json").unlink()
            os.symlink("../../../model/config.json", snapshot / "config.json")
        assert "leaves the folder" in refused(snapshot)


def test_folders_that_hold_nothing(tmp_path):
    assert "it has no config.json" in refused(tmp_path)
    assert "it has no config.json" in refused(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text(json.dumps(GOOD))
    assert "it has no weights.safetensors" in refused(tmp_path)


# -- code


def test_no_class_outside_the_registry(folder):
    """A kind is looked up, never imported; a path is, and only for the kind that is code, where that is allowed."""
    for kind in (
        "torch.nn:Linear",
        "os:system",
        "GCNN",
        "fluidsurrogate.nn.architectures.gcnn:GCNN",
        "__import__",
        "gcnn ",
    ):
        for options in ({}, {"path": "os:system"}):
            (folder / "config.json").write_text(json.dumps(GOOD | {"model": {"kind": kind, **options}}))
            assert "does not match any of the expected tags" in refused(folder, allow_code=True)
    (folder / "config.json").write_text(json.dumps(replaced(GOOD, ("model", "path"), "os:system")))
    assert "model.gcnn.path: Extra inputs are not permitted" in refused(folder, allow_code=True)
    without_velocity = replaced(GOOD, ("normalisation", "velocity_scale"), None)
    (folder / "config.json").write_text(
        json.dumps(without_velocity | {"model": {"kind": "module", "path": "os:system"}})
    )
    assert "would import and run os:system" in refused(folder)


def test_a_module_of_ones_own_is_held_to_the_file_too(folder):
    config = replaced(GOOD, ("normalisation", "velocity_scale"), None) | {"model": {"kind": "module"}}
    (folder / "config.json").write_text(json.dumps(config))
    assert "no tensor 'module.bias'" in refused(folder, module=torch.nn.Conv2d(1, 1, 1))


@pytest.mark.parametrize(
    ("value", "said"),
    [({"viscosity": -1.0}, "constants.viscosity: Input should be greater"), ({"colour": 1.0}, "constants.colour"),
     ({"viscosity": "thick"}, "constants.viscosity: Input should be a valid number")],
)  # fmt: skip
def test_constants_that_are_none(folder, value, said):
    (folder / "config.json").write_text(json.dumps(GOOD | {"constants": value}))
    assert said in refused(folder)


def test_a_file_of_weights_that_was_put_there_later(folder):
    (folder / "config.json").write_text(json.dumps(GOOD))
    (folder / "last.safetensors").write_bytes((folder / "weights.safetensors").read_bytes())
    assert "config.json records no hash of last.safetensors: the file was added later" in refused(folder, last=True)
