"""A user's own torch.nn.Module: it trains, is saved and loaded like ours, and no file makes its code run."""

import json
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn

import fluidsurrogate as fs
from fluidsurrogate import Experiment, UsageError
from fluidsurrogate.core.seeding import derive_seed
from fluidsurrogate.nn import ARCHITECTURES, allowing_code, code_is_allowed
from fluidsurrogate.pipeline.pipeline import run_stages
from fluidsurrogate.pipeline.run import Run
from fluidsurrogate.training.train import train_model
from solvers import C1, D4, VORTICITY

SOURCE = """
from pathlib import Path
import torch
from torch import nn
from fluidsurrogate.nn import ARCHITECTURES
from solvers import D4

Path(__file__).with_name("imported").touch()

class Net(nn.Module):
    def __init__(self, channels_in, channels_out, width=4, *, fail=None, out=None):
        super().__init__()
        self.first, self.last = nn.Conv2d(channels_in, width, 1), nn.Conv2d(width, out or channels_out, 1)
        self.norm, self.drop, self.fail = nn.BatchNorm2d(width), nn.Dropout(0.2), fail
    def forward(self, x):
        if self.fail == "type":
            len(3)
        if self.fail == "tuple":
            return x, x
        return self.last(self.drop(self.norm(self.first(x)).relu()))

class Usual(Net):
    def __init__(self, in_channels, out_channels):
        super().__init__(in_channels, out_channels)

class Typed(nn.Module):
    def __init__(self, fields_in, fields_out):
        super().__init__()
        self.net = ARCHITECTURES["cnn"](fields_in, fields_out, width=8, dilations=(1,))
    def forward(self, x):
        return self.net(x)

class Needy(nn.Module):
    def __init__(self, channels_in, depth):
        super().__init__()

class Empty(nn.Module):
    def forward(self, x):
        return x

class Square(Typed):
    group = D4

class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.complex64))
    def forward(self, x):
        return (self.weight * (1 + 1j) * x).real

class Extra(Typed):
    def get_extra_state(self):
        return "anything"
    def set_extra_state(self, state):
        pass

class Lazy(nn.Sequential):
    def __init__(self):
        super().__init__(nn.LazyConv2d(1, 1))

def function():
    pass
"""
MINE = "models.mine={kind = 'module', path = 'mymodels:%s'}"


@pytest.fixture
def imported(tmp_path, monkeypatch):
    """The file `mymodels.py` on the path; it leaves the file given here when it is run."""
    (tmp_path / "mymodels.py").write_text(SOURCE)
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")
    (tmp_path / "wrong.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "imported"
    for name in ("mymodels", "broken", "wrong"):
        sys.modules.pop(name, None)


def mymodels():
    import mymodels

    return mymodels


def same(a, b):
    """The same tensors, bit for bit, whatever prefix their names have."""
    a, b = (list(model.network.state_dict().values()) for model in (a, b))
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_it_trains_to_the_bits_that_our_own_does(toml, trained, imported):
    """The plain CNN as it is registered, named in the TOML, and given from Python."""
    data, _ = trained
    experiment = Experiment.read(
        toml, ["models.cnn={kind = 'cnn', width = 8, dilations = [1], velocity = false}", MINE % "Typed"]
    )
    models = fs.train(experiment, data, ["cnn", "mine"], allow_code=True)
    torch.manual_seed(derive_seed(experiment.seed, "weights"))
    given = ARCHITECTURES["cnn"]((VORTICITY,), (VORTICITY,), width=8, dilations=(1,))
    before = [p.clone() for p in given.parameters()]
    models |= fs.train(experiment, data, {"given": given})
    assert same(models["cnn"], models["mine"])
    assert same(models["cnn"], models["given"])
    assert all(torch.equal(a, b) for a, b in zip(before, given.parameters(), strict=True))
    forecasts = [fs.forecast(model, data, 3)["vorticity"].values for model in models.values()]
    assert np.array_equal(forecasts[0], forecasts[1])
    assert models["mine"].parameters == models["cnn"].parameters
    state = torch.from_numpy(data["vorticity"].values[:2, :1])
    assert torch.allclose(fs.as_module(models["mine"])(state), models["mine"](state), atol=1e-5)
    assert not any(model.network.training for model in models.values())


@pytest.mark.parametrize("name", ["Net", "Usual", "Typed"])
def test_inputs_of_the_step_are_channels_too(toml, name, imported):
    overrides = ["flow.kind=kolmogorov", "flow.spin_up=0", MINE % name]
    experiment = Experiment.read(toml, overrides)
    data = fs.generate(experiment)
    model = fs.train(experiment, data, ["mine"], allow_code=True)["mine"]
    weight = next(model.network.parameters())
    assert weight.shape[1] == 2
    assert fs.forecast(model, data, 2)["forcing"].equals(data["forcing"])
    assert model.network.group is C1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saved_and_loaded_with_the_buffers(toml, tmp_path, trained, imported, dtype):
    data, _ = trained
    experiment = Experiment.read(toml, [MINE % "Net", "models.mine.options={width = 6}", f"dtype={dtype}"])
    model = fs.train(experiment, data, ["mine"], allow_code=True)["mine"]
    assert model.network.module.norm.running_mean.abs().max() > 1e-3
    assert int(model.network.module.norm.num_batches_tracked) in (4, 7 + 2)  # validated after 4 and 8 steps, one of two
    fs.save(model, tmp_path / "mine")
    module = mymodels().Net(1, 1, width=6)
    fresh = module.first.weight.clone()
    for loaded in (fs.load(tmp_path / "mine", allow_code=True), fs.load(tmp_path / "mine", module=module)):
        assert same(model, loaded)
        assert not loaded.network.module.training
        assert np.array_equal(fs.forecast(model, data, 3)["vorticity"], fs.forecast(loaded, data, 3)["vorticity"])
    assert torch.equal(fresh, module.first.weight)
    with pytest.raises(UsageError, match="size mismatch"):
        fs.load(tmp_path / "mine", module=mymodels().Net(1, 1))


def test_trained_in_python_is_loaded_with_the_module_alone(trained, toml, tmp_path, imported):
    """Which options it was made with no file knows: a class's defaults may have weights of the same shapes."""
    data, models = trained
    model = fs.train(toml, data, {"mine": mymodels().Net(1, 1)})["mine"]
    fs.save(model, tmp_path / "mine")
    for allow_code in (False, True):
        with pytest.raises(
            UsageError, match=r"mine: kind = 'module' has no path: .* from Python, to fs.train and fs.l"
        ):
            fs.load(tmp_path / "mine", allow_code=allow_code)
    loaded = fs.load(tmp_path / "mine", module=mymodels().Net(1, 1))
    assert Experiment.from_tree(json.loads(loaded.about["experiment"])).models["mine"].import_path is None
    assert np.array_equal(fs.forecast(model, data, 3)["vorticity"], fs.forecast(loaded, data, 3)["vorticity"])
    fs.save(models["small-d4"], tmp_path / "ours")
    with pytest.raises(UsageError, match="ours: a model of kind 'gcnn' takes no module of yours"):
        fs.load(tmp_path / "ours", module=mymodels().Net(1, 1))


def test_interrupted_it_ends_with_the_same_bits(toml, tmp_path, trained, imported):
    """Buffers are part of the checkpoint, and dropout draws from the seed and the step alone."""
    data, _ = trained
    experiment = Experiment.read(toml, [MINE % "Net", "train.steps=12"])

    def stop(step, note):
        if step == 7:
            raise InterruptedError

    with allowing_code(True):
        whole = train_model(experiment, "mine", data, {}, tmp_path / "whole")
        with pytest.raises(InterruptedError):
            train_model(experiment, "mine", data, {}, tmp_path / "stopped", stop)
        torch.randn(5)
        resumed = train_model(experiment, "mine", data, {}, tmp_path / "stopped")
        other = train_model(Experiment.read(toml, [MINE % "Net", "train.steps=12", "seed=2"]), "mine", data, {})
    assert same(whole, resumed)
    assert not same(whole, other)
    assert (tmp_path / "whole" / "curve.csv").read_text() == (tmp_path / "stopped" / "curve.csv").read_text()


def test_the_global_random_state_is_left_alone(toml, trained, imported):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fs.train(Experiment.read(toml, [MINE % "Net"]), trained[0], ["mine"], allow_code=True)
    assert torch.equal(before, torch.get_rng_state())


def test_weights_that_share_memory_and_complex_ones(toml, tmp_path, trained, imported):
    data, _ = trained
    tied = mymodels().Net(1, 1, width=1)
    tied.last.weight = tied.first.weight
    spectral = nn.Sequential(mymodels().Complex(), nn.Conv2d(1, 1, 1))
    for name, model in fs.train(toml, data, {"tied": tied, "spectral": spectral}).items():
        fs.save(model, tmp_path / name)
        loaded = fs.load(tmp_path / name, module=model.network.module)
        assert same(model, loaded)
        assert np.array_equal(fs.forecast(model, data, 3)["vorticity"], fs.forecast(loaded, data, 3)["vorticity"])
        weight = next(loaded.network.parameters())
        assert weight.is_complex() == (name == "spectral")
        assert weight.imag.abs().max() > 0 if weight.is_complex() else loaded.network.module.last.weight is weight
    with pytest.raises(UsageError, match=r"complex and kept in single precision: take dtype = 'float32'"):
        fs.train(Experiment.read(toml, ["dtype=float64"]), data, {"spectral": spectral})


# -- what is refused


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("path='mymodels'", "path must be \"package.module:Class\" (got 'mymodels')"),
        ("path=':Net'", 'path must be "package.module:Class"'),
        ("path='nowhere.at.all:Net'", "nowhere.at.all:Net: no module 'nowhere' here or among the installed packages"),
        ("path='..mymodels:Net'", "..mymodels:Net: importing ..mymodels raised TypeError"),
        ("path='broken:Net'", "broken:Net: importing broken raised ModuleNotFoundError: No module named 'nothing_of"),
        (
            "path='wrong:Net'",
            "wrong:Net: importing wrong raised ZeroDivisionError: division by zero (wrong.py, line 1)",
        ),
        ("path='mymodels:Not'", "mymodels.py) has no 'Not'"),
        ("path='mymodels:function'", "mymodels:function is not a torch.nn.Module's class"),
        ("path='os:system'", "os:system is not a torch.nn.Module's class"),
        ("path='pathlib:Path'", "pathlib:Path is not a torch.nn.Module's class"),
        ("path='mymodels:Needy'", "mymodels:Needy: missing a required argument: 'depth'"),
        ("path='mymodels:Empty'", "Empty has no parameters to train"),
        ("path='mymodels:Lazy'", "Lazy has lazy layers: say their numbers of channels"),
        ("path='mymodels:Extra'", "Extra keeps _extra_state beside its tensors"),
        (
            "options={widht = 3}",
            "got an unexpected keyword argument 'widht' (options); its constructor takes channels_in",
        ),
        ("options={width = -3}", "mymodels:Net: its constructor raised RuntimeError: Trying to create tensor"),
        ("options={out = 2}", "Net must map (2, 1, 16, 16) to (2, 1, 16, 16); it gives (2, 2, 16, 16)"),
        ("options={fail = 'tuple'}", "it gives tuple"),
        (
            "options={fail = 'type'}",
            "the network fails on a tensor of shape (2, 1, 16, 16): TypeError: object of type 'int' has no len",
        ),
        ("options={channels_in = 3}", "expected input[2, 1, 16, 16] to have 3 channels"),
        ("options=3", "models.mine.options: input should be"),
        ("width=3", "unknown key 'models.mine.width'"),
    ],
)
def test_bad_module(toml, imported, override, said):
    with allowing_code(True), pytest.raises(UsageError) as caught:
        Experiment.read(toml, [MINE % "Net", f"models.mine.{override}"])
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= (2 if "unknown key" in said else 1)


def test_bad_module_given_from_python(toml, trained, imported):
    data, _ = trained
    bad = {"Empty has no parameters": mymodels().Empty(), r"must map \(2, 1, 16, 16\) to": mymodels().Net(1, 1, out=2)}
    for said, module in bad.items():
        with pytest.raises(UsageError, match=f"models.mine: .*{said}"):
            fs.train(toml, data, {"mine": module})


def test_audited_it_claims_nothing_but_its_group(toml, tmp_path, trained, imported):
    """Zeros around the box break the translations that our own networks keep; a claimed group is held to."""
    data, _ = trained
    padded = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.GELU(), nn.Conv2d(8, 1, 3, padding=1))
    model = fs.train(toml, data, {"mine": padded})["mine"]
    fs.save(model, tmp_path / "mine")
    audited = fs.audit(fs.load(tmp_path / "mine", module=padded), steps=2)
    assert float(audited["translation_error"].max()) > 1e-2
    assert audited.attrs["verdict"] == "nothing claimed"
    padded.group = D4
    assert fs.audit(fs.load(tmp_path / "mine", module=padded), steps=2).attrs["verdict"] == "fail"


def test_a_claimed_group_must_be_a_symmetry(toml, imported):
    with allowing_code(True):
        square = ["models.small-d4.group=D2", "models.small-cnn.augment=D2", MINE % "Square"]
        experiment = Experiment.read(toml, square)
        assert experiment.models["mine"].build(experiment.spec).group is D4
        with pytest.raises(UsageError, match=r"models.mine: group 'D4' is not a symmetry of this rectangle"):
            Experiment.read(toml, [*square, "grid.n=[16, 32]"])


# -- no file makes code run


def test_nothing_is_imported_without_permission(toml, tmp_path, trained, imported):
    data, _ = trained
    experiment = Experiment.read(toml, [MINE % "Net"])
    assert fs.generate(experiment).equals(data)
    said = "models.mine: kind = 'module' would import and run mymodels:Net.*--allow-code .*allow_code=True"
    for start in (experiment, toml_with(toml, tmp_path, "Net")):
        with pytest.raises(UsageError, match=said):
            fs.train(start, data)
    assert not imported.exists()
    assert set(fs.train(experiment, data, ["small-cnn"])) == {"small-cnn"}
    with pytest.raises(UsageError, match="would import and run mymodels:Net"):
        train_model(experiment, "mine", data, {})
    assert not imported.exists()
    fs.train(experiment, data, ["mine"], allow_code=True)
    assert imported.exists()


def toml_with(toml, folder, name):
    path = folder / "with.toml"
    path.write_text(toml.read_text() + f'\n[models.mine]\nkind = "module"\npath = "mymodels:{name}"\n')
    return path


@pytest.mark.parametrize("path", ["os:system", "mymodels:Net", "subprocess:Popen"])
def test_a_malicious_folder(trained, tmp_path, imported, path):
    """What somebody else's config.json names is said, not run; and run only if it is a module."""
    fs.save(trained[1]["small-cnn"], tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["model"] = {"kind": "module", "path": path, "options": {"width": 4}}
    config["normalisation"]["velocity_scale"] = None
    config |= {"allow_code": True}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=f"model: kind = 'module' would import and run {path}") as caught:
        fs.load(tmp_path / "model")
    assert len(str(caught.value).splitlines()) == 1
    assert not imported.exists()
    if path != "mymodels:Net":
        with pytest.raises(UsageError, match=f"{path} is not a torch.nn.Module's class"):
            fs.load(tmp_path / "model", allow_code=True)


def test_a_file_cannot_allow_it(toml):
    for override in ("allow_code=true", "models.mine.allow_code=true", "train.allow_code=true"):
        with pytest.raises(UsageError, match="unknown key"):
            Experiment.read(toml, [MINE % "Net", override])


def test_a_changed_class_is_another_model(toml, tmp_path, imported):
    """What was trained by the code as it was is not taken for the code as it is."""
    with allowing_code(True):
        pipeline = Run(Experiment.read(toml, [MINE % "Net", "train.steps=2"]), tmp_path / "out")
        run_stages(pipeline, "generate")
        run_stages(pipeline, "train")
        run_stages(pipeline, "train")
        (tmp_path / "mymodels.py").write_text(SOURCE.replace("relu", "tanh"))
        with pytest.raises(UsageError, match=r"models.mine was made from other inputs: model.source was"):
            run_stages(pipeline, "rollout")


def test_the_permission_is_stored_nowhere_and_ends_with_the_call(toml, tmp_path, trained, imported):
    model = fs.train(toml_with(toml, tmp_path, "Net"), trained[0], ["mine"], allow_code=True)["mine"]
    fs.save(model, tmp_path / "mine")
    assert "allow" not in (tmp_path / "mine" / "config.json").read_text()
    assert not code_is_allowed()
    with allowing_code(True), allowing_code(False):
        assert code_is_allowed()
        seen = []
        thread = threading.Thread(target=lambda: seen.append(code_is_allowed()))
        thread.start()
        thread.join()
        assert seen == [False]
