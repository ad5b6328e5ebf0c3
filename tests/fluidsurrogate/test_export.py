"""A folded surrogate leaves for torch.export and ONNX and computes the same there."""

import numpy as np
import pytest
import torch
from torch import nn

from fluidsurrogate.nn.layers import Expanding

onnxruntime = pytest.importorskip("onnxruntime", reason="pip install onnx onnxscript onnxruntime")

NAMES = ["small-d4", "small-cnn"]
BATCH = torch.export.Dim("batch")


def state_of(data):
    return torch.from_numpy(data["vorticity"].values[:3, :1])


@pytest.mark.parametrize("name", NAMES)
def test_folded_is_plain_and_equal(trained, name):
    data, models = trained
    folded, state = models[name].fold(), state_of(data)
    assert not any(isinstance(module, Expanding) for module in folded.modules())
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
    program = torch.export.export(models[name].fold(), (state,), dynamic_shapes=(({0: BATCH}),))
    for batch in (1, 3):
        with torch.no_grad():
            torch.testing.assert_close(program.module()(state[:batch]), models[name](state[:batch]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_onnx_runs_under_onnxruntime(trained, name, tmp_path):
    data, models = trained
    state, path = state_of(data), tmp_path / "model.onnx"
    torch.onnx.export(
        models[name].fold(), (state,), path, dynamo=True, dynamic_shapes=(({0: BATCH}),), input_names=["state"],
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
