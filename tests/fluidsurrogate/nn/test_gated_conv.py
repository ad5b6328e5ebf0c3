"""The convolution with gates in C++, against PyTorch's operations."""

import copy
import pickle

import pytest
import torch

from fluidsurrogate.nn import ARCHITECTURES, GroupConv, LiftingConv
from fluidsurrogate.nn.folding import fold_kernels
from fluidsurrogate.nn.layers import conv_and_activation, gated_conv
from solvers import C1, C4, D4, VELOCITY, VORTICITY
from solvers.backends.cpp_library import why_not_compiled

CASES = [  # group, channels, kernel, dilation: less than a vector of channels, several, and several passes
    (C1, 1, 3, 1), (C1, 7, 3, 2), (D4, 1, 3, 1), (D4, 2, 5, 1), (D4, 3, 3, 2), (C4, 10, 1, 1), (D4, 9, 3, 3),
]  # fmt: skip


@pytest.fixture
def native(monkeypatch):
    """How often C++ was called."""
    if missing := why_not_compiled():
        pytest.skip(missing)
    calls, compute = [], gated_conv.native_conv

    def counted(*arguments, **options):
        calls.append(arguments)
        return compute(*arguments, **options)

    monkeypatch.setattr(gated_conv, "native_conv", counted)
    return calls


def noise(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def folded(layer):
    torch.nn.init.normal_(layer.bias)
    with torch.no_grad():
        return fold_kernels(layer)


def expected(layer, x, adds):
    values, gates = layer(x).chunk(2, dim=1)
    made = values * (gates / 6 + 0.5).clamp(0, 1)
    return made + x if adds else made


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("group", "channels", "size", "dilation"), CASES)
def test_it_equals_pytorch(native, group, channels, size, dilation, dtype, tolerance):
    layer = folded(GroupConv(group, channels, 2 * channels, size, dilation).to(dtype))
    x = 3 * noise(3, channels, len(group), 10, 13, dtype=dtype)
    with torch.no_grad():
        for adds in (False, True):
            made = conv_and_activation(layer, x, "gated", adds)
            torch.testing.assert_close(made, expected(layer, x, adds), rtol=tolerance, atol=tolerance)
    assert len(native) == 2


def test_a_lifting_equals_pytorch(native):
    layer = folded(LiftingConv(D4, [VORTICITY, VELOCITY], 4, 5).double())
    x = noise(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(conv_and_activation(layer, x, "gated"), expected(layer, x, adds=False))
    assert native


def test_neither_threads_nor_the_batch_change_a_bit(native, monkeypatch):
    layer, x = folded(GroupConv(D4, 2, 4).float()), noise(5, 2, 8, 24, 24, dtype=torch.float32)
    monkeypatch.setattr(gated_conv, "WORK_OF_A_THREAD", 1)
    made = {}
    before = torch.get_num_threads()
    try:
        with torch.no_grad():
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                made[threads] = conv_and_activation(layer, x, "gated", adds=True)
            alone = conv_and_activation(layer, x[3:4], "gated", adds=True)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(made[1], made[2])
    assert torch.equal(made[1], made[3])
    assert torch.equal(made[1][3:4], alone)
    assert len(native) == 4


def test_not_a_number_stays_one(native):
    layer, x = folded(GroupConv(D4, 1, 2)), torch.ones(1, 1, 8, 8, 8)
    x[0, 0, 0, 2, 2] = float("nan")
    with torch.no_grad():
        made = conv_and_activation(layer, x, "gated", adds=True)
    assert native
    assert made[0, 0, :, 1:4, 1:4].isnan().all()
    assert made[0, 0, :, 5:, 5:].isfinite().all()


@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize(("group", "channels", "size", "dilation"), CASES)
def test_gradients(native, group, channels, size, dilation, adds):
    """Of the first order in C++, of the second by PyTorch."""
    layer = GroupConv(group, channels, 2 * channels, size, dilation).double()
    torch.nn.init.normal_(layer.bias)
    x, towards = (noise(2, channels, len(group), 7, 9, seed=seed) for seed in (0, 1))
    x.requires_grad_()
    asked = (x, layer.weight, layer.bias)

    def gradients(made, **options):
        return torch.autograd.grad((made * towards).sum(), asked, **options)

    found = gradients(conv_and_activation(layer, x, "gated", adds))
    assert len(native) == 2
    for got, wanted in zip(found, gradients(expected(layer, x, adds)), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-11, atol=1e-11)
    second = [
        torch.autograd.grad(sum(g.square().sum() for g in gradients(made, create_graph=True)), asked)
        for made in (conv_and_activation(layer, x, "gated", adds), expected(layer, x, adds))
    ]
    for got, wanted in zip(*second, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


def test_a_lifting_has_gradients_for_its_kernel_alone(native):
    layer, x = LiftingConv(D4, [VORTICITY], 2, 3).double(), noise(2, 1, 8, 8)
    conv_and_activation(layer, x, "gated").square().sum().backward()
    found, layer.weight.grad = layer.weight.grad, None
    expected(layer, x, adds=False).square().sum().backward()
    torch.testing.assert_close(found, layer.weight.grad)
    assert len(native) == 1


def test_what_is_left_to_pytorch(native):
    layer, x = GroupConv(D4, 1, 2), torch.ones(1, 1, 8, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        conv_and_activation(layer, x, "gated")
    with pytest.raises(ValueError, match="does not fit a grid"):
        conv_and_activation(GroupConv(D4, 1, 2, dilation=9), x, "gated")
    torch.vmap(lambda z: conv_and_activation(layer, z, "gated"))(x[None])
    seen = []
    layer.register_forward_hook(lambda *_: seen.append(1))
    conv_and_activation(layer, x, "gated")
    assert seen
    assert not native


@pytest.mark.parametrize("kind", ["gcnn", "gunet"])
def test_without_a_compiler_pytorch_computes(native, monkeypatch, kind):
    network = ARCHITECTURES[kind]([VORTICITY], [VORTICITY], width=16, activation="gated").double()
    x = noise(2, 1, 16, 16)
    with torch.no_grad():
        made = network.fold()(x)
        calls = len(native)
        assert calls >= 4
        monkeypatch.setattr(gated_conv, "compiled_library", lambda _: "no compiler")
        torch.testing.assert_close(network.fold()(x), made)
    assert len(native) == calls


# -- what C++ must not be used for, or not blindly


def test_a_packed_kernel_does_not_outlive_its_weights(native):
    network, x = ARCHITECTURES["gcnn"]([VORTICITY], [VORTICITY], width=8), noise(1, 1, 8, 8, dtype=torch.float32)
    with torch.no_grad():
        network(x)
        network.fold()(x)
        for weight in network.parameters():
            weight.mul_(-0.7)
        torch.testing.assert_close(network.fold()(x), network.to_plain()(x))
        double = copy.deepcopy(network).double()
        torch.testing.assert_close(double.fold()(x.double()), double.to_plain()(x.double()))
        torch.testing.assert_close(pickle.loads(pickle.dumps(network)).fold()(x), network.to_plain()(x))
    assert native


@pytest.mark.parametrize("shape", [(1, 1, 8, 8, 8), (1, 3, 8, 8, 8), (1, 2, 4, 8, 8)])
def test_a_feature_of_other_channels_is_refused(native, shape):
    with torch.no_grad(), pytest.raises(Exception, match=r"channels|Type-check"):
        conv_and_activation(folded(GroupConv(D4, 2, 4)), torch.ones(shape), "gated")
    assert not native


def test_what_cannot_be_added_is_refused(native):
    with torch.no_grad(), pytest.raises(Exception, match=r"size|Type-check"):
        conv_and_activation(folded(GroupConv(D4, 2, 6)), torch.ones(1, 2, 8, 8, 8), "gated", adds=True)
    assert not native


def test_second_derivatives_of_a_rollout_from_one_fold(native):
    network, x = ARCHITECTURES["gcnn"]([VORTICITY], [VORTICITY], width=8).double(), noise(1, 1, 8, 8)
    step, weights = network.fold(), list(network.parameters())
    found = (torch.autograd.grad(step(step(x)).square().sum(), weights, None, True, c) for c in (False, True))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)
    assert native


def test_biases_alone_are_trained(native):
    layer, x = GroupConv(D4, 1, 2).double(), noise(1, 1, 8, 8, 8)
    layer.weight.requires_grad_(False)
    conv_and_activation(layer, x, "gated").square().sum().backward()
    found, layer.bias.grad = layer.bias.grad, None
    expected(layer, x, adds=False).square().sum().backward()
    torch.testing.assert_close(found, layer.bias.grad)
    assert native


def test_forward_mode_and_backward_hooks(native):
    layer, x = GroupConv(D4, 1, 2).double(), noise(1, 1, 8, 6, 6)
    towards = noise(1, 1, 8, 6, 6, seed=1)

    def made(z):
        return conv_and_activation(layer, z, "gated", adds=True)

    _, exact = torch.func.jvp(lambda z: expected(layer, z, adds=True), (x,), (towards,))
    with torch.no_grad(), torch.autograd.forward_ad.dual_level():
        dual = made(torch.autograd.forward_ad.make_dual(x, towards))
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(dual).tangent, exact)
    layer.requires_grad_(False)
    seen = []
    layer.register_full_backward_hook(lambda *_: seen.append(1))
    made(x.clone().requires_grad_()).sum().backward()
    assert seen


def test_several_gradients_at_once(native):
    layer, x = GroupConv(D4, 1, 2).double(), noise(1, 1, 8, 4, 4)
    layer.requires_grad_(False)
    jacobian = torch.autograd.functional.jacobian(lambda z: conv_and_activation(layer, z, "gated"), x, vectorize=True)
    wanted = torch.autograd.functional.jacobian(lambda z: expected(layer, z, adds=False), x)
    torch.testing.assert_close(jacobian, wanted)
