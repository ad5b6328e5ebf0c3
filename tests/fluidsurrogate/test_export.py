"""A folded surrogate leaves for torch.export and ONNX and computes the same there."""

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

import fluidsurrogate as fs
from fluidsurrogate import Surrogate
from fluidsurrogate.config.experiment import AnyModelConfig
from fluidsurrogate.models.normalisation import Normalisation
from fluidsurrogate.nn.layers import EquivariantConv
from solvers import FORCING, TRACER, VELOCITY, VISCOSITY, VORTICITY, Grid, StateSpec

onnxruntime = pytest.importorskip("onnxruntime", reason="pip install onnx onnxscript onnxruntime")

NAMES = ["small-d4", "small-cnn"]
BATCH = torch.export.Dim("batch")
# As deep as takes one of everything: to export a layer costs the same wherever it stands.
DEPTH = {"gcnn": {"dilations": (1, 2)}, "gunet": {"levels": 1}, "gfno": {"layers": 2}, "unet": {"levels": 1}}


def state_of(data):
    return torch.from_numpy(data["vorticity"].values[:3, :1])


@pytest.mark.parametrize("kind", ["gcnn", "gunet", "gfno", "unet"])
@pytest.mark.parametrize("fields", ["vorticity", "velocity"])
def test_every_kind_and_typed_inputs_by_onnx(kind, fields, tmp_path):
    grid = Grid.square(16)
    spec = StateSpec(grid, (VORTICITY if fields == "vorticity" else VELOCITY, TRACER), 0.1, (FORCING, VISCOSITY))
    plain = kind == "unet"
    keys = {"kind": kind, "width": 8, "modulate": True, **DEPTH[kind]}
    keys |= {} if plain else {"group": "D4", "pool": "gated"}
    config = TypeAdapter(AnyModelConfig).validate_python(keys)
    torch.manual_seed(0)
    scale = 0.3 if config.takes_velocity(spec) else None
    normalisation = Normalisation((0.0, 0.3, 0.0, 0.1), (1.0, 2.0, 1.0, 0.5), (0.5, 0.2), (5, 5), velocity_scale=scale)
    model = Surrogate(config.build(spec, torch.float32), spec, normalisation, config, {})
    state, inputs = torch.randn(2, spec.components, 16, 16), (torch.randn(2, 1, 16, 16), torch.rand(2, 1, 1, 1))
    folded = fs.as_module(model)
    names, path = ["state", "forcing", "viscosity"], tmp_path / "model.onnx"
    torch.onnx.export(folded, (state, *inputs), path, dynamo=True, input_names=names, verbose=False)
    given = dict(zip(names, (t.numpy() for t in (state, *inputs)), strict=True))
    (got,) = onnxruntime.InferenceSession(path).run(None, given)
    with torch.no_grad():
        expected = model(state, {"forcing": inputs[0], "viscosity": inputs[1]})
        torch.testing.assert_close(folded(state.double(), *inputs), expected)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_folded_is_plain_and_equal(trained, name):
    data, models = trained
    folded, state = fs.as_module(models[name]), state_of(data)
    assert not any(isinstance(module, EquivariantConv) for module in folded.modules())
    assert not list(folded.parameters())
    with torch.no_grad():
        torch.testing.assert_close(folded(state), models[name](state), rtol=0, atol=1e-6)
    before = folded(state)
    weight = next(models[name].network.parameters())
    kept = weight.detach().clone()
    nn.init.zeros_(weight)
    assert torch.equal(folded(state), before)  # it holds the weights as they were
    with torch.no_grad():
        weight.copy_(kept)


@pytest.mark.parametrize("name", NAMES)
def test_torch_export(trained, name):
    data, models = trained
    state = state_of(data)
    program = torch.export.export(fs.as_module(models[name]), (state,), dynamic_shapes=(({0: BATCH}),))
    for batch in (1, 3):
        with torch.no_grad():
            torch.testing.assert_close(program.module()(state[:batch]), models[name](state[:batch]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_onnx_runs_under_onnxruntime(trained, name, tmp_path):
    data, models = trained
    state, path = state_of(data), tmp_path / "model.onnx"
    torch.onnx.export(
        fs.as_module(models[name]), (state,), path, dynamo=True, dynamic_shapes=(({0: BATCH}),), input_names=["state"],
        verbose=False,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(path)
    with torch.no_grad():
        expected = models[name](models[name](state))
    (once,) = session.run(None, {"state": state.numpy()})
    (twice,) = session.run(None, {"state": once})
    scale = float(expected.abs().max())
    np.testing.assert_allclose(twice, expected, rtol=0, atol=1e-5 * scale)
    assert abs(twice - state.numpy()).max() > 1e-2 * scale
