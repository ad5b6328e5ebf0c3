"""What the networks compute: each over the trivial group, against the same written in plain torch."""

import pytest
import torch
from torch.nn import functional as F

from fluidsurrogate.nn import ARCHITECTURES
from solvers import VISCOSITY, VORTICITY

FIELDS = (VORTICITY, VISCOSITY)
DRESSED = {"activation": "gated", "norm": True, "modulate": True, "pool": "gated"}
VARIANTS = {"default": {"activation": "gelu", "modulate": True}, "dressed": DRESSED}


@pytest.fixture(autouse=True)
def _same_weights():
    torch.manual_seed(0)


def build(kind, **options):
    network = ARCHITECTURES[kind](FIELDS, (VORTICITY,), group="C1", **options).double()
    for weight in network.parameters():
        if weight.abs().max() == 0 or weight.ndim == 1:
            torch.nn.init.normal_(weight, std=0.3)
    return network


def inputs():
    x = torch.randn(2, 2, 16, 16, dtype=torch.float64)
    x[:, 1] = torch.tensor([0.3, -1.2])[:, None, None]
    return x


class Reference:
    """Plain torch on (batch, channel, y, x), from the weights of a network over C1."""

    def __init__(self, options, x):
        self.gated, self.norm = options.get("activation") == "gated", options.get("norm", False)
        self.numbers = x[:, 1:, 0, 0]

    def conv(self, x, layer, dilation=1):
        weight = layer.weight if layer.weight.ndim == 4 else layer.weight[:, :, 0]
        pad = dilation * (weight.shape[-1] // 2)
        return F.conv2d(F.pad(x, (pad,) * 4, mode="circular"), weight, layer.bias, dilation=dilation)

    def act(self, x):
        if not self.gated:
            return F.gelu(x)
        a, b = x.chunk(2, 1)
        return a * (b / 6 + 0.5).clamp(0, 1)

    def residual(self, h, block, conv):
        z = h
        if self.norm:
            z = (h - h.mean((1, 2, 3), keepdim=True)) / (h.var((1, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
            z = z * block.norm.weight[:, None, None] + block.norm.bias[:, None, None]
        m = block.modulation
        factor, shift = m.outer(F.silu(m.inner(self.numbers))).chunk(2, 1)
        return h + self.act((1 + factor[..., None, None]) * conv(z) + shift[..., None, None])

    def out(self, h, way):
        y = F.conv2d(h, way.head.weight[..., None, None], way.head.bias)
        return 2 * y[:, :1] * torch.sigmoid(y[:, 1:]) if way.gated_components else y


@pytest.mark.parametrize("variant", VARIANTS)
def test_gcnn(variant):
    options, x = VARIANTS[variant], inputs()
    network, ref = build("gcnn", width=4, dilations=(1, 3), **options), Reference(options, x)
    h = ref.act(ref.conv(x[:, :1], network.lift))
    for block, dilation in zip(network.blocks, (1, 3), strict=True):
        h = ref.residual(h, block, lambda z, b=block, d=dilation: ref.conv(z, b.conv, d))
    torch.testing.assert_close(network(x), ref.out(h, network.out))


@pytest.mark.parametrize("variant", VARIANTS)
def test_gunet(variant):
    options, x = VARIANTS[variant], inputs()
    network, ref = build("gunet", width=4, levels=2, **options), Reference(options, x)

    def block(z, part):
        h = ref.act(ref.conv(z, part.mix))
        return ref.residual(h, part.residual, lambda z: ref.conv(z, part.residual.conv))

    def double(z):
        padded = F.pad(z, (1,) * 4, mode="circular")
        return F.interpolate(padded, scale_factor=2, mode="bilinear")[..., 2:-2, 2:-2]

    first = block(ref.act(ref.conv(x[:, :1], network.lift)), network.first)
    second = block(F.avg_pool2d(first, 2), network.down[0])
    third = block(F.avg_pool2d(second, 2), network.down[1])
    second = block(torch.cat([second, double(third)], 1), network.up[1])
    h = block(torch.cat([first, double(second)], 1), network.up[0])
    torch.testing.assert_close(network(x), ref.out(h, network.out))


@pytest.mark.parametrize("variant", VARIANTS)
def test_gfno(variant):
    options, x = VARIANTS[variant], inputs()
    network, ref = build("gfno", width=4, modes=3, layers=2, **options), Reference(options, x)

    def fourier(z, layer):
        a = layer.spectral.weight[:, :, 0]
        symbol = torch.complex((a + a.flip(-2, -1)) / 2, (a - a.flip(-2, -1)) / 2)
        spectrum, made = torch.fft.fft2(z), torch.zeros(len(z), len(a), 16, 16, dtype=torch.complex128)
        for my in range(-3, 4):
            for mx in range(-3, 4):
                made[:, :, my, mx] = spectrum[:, :, my, mx] @ symbol[:, :, my + 3, mx + 3].T
        return torch.fft.ifft2(made).real + ref.conv(z, layer.local)

    h = ref.act(ref.conv(x[:, :1], network.lift))
    for block in network.blocks:
        h = ref.residual(h, block, lambda z, b=block: fourier(z, b.conv))
    torch.testing.assert_close(network(x), ref.out(h, network.out))


def reach(kind, n, **options):
    """How many cells along x the middle of the output depends on."""
    network = ARCHITECTURES[kind]((VORTICITY,), (VORTICITY,), **options).double()
    x = torch.randn(1, 1, n, n, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(x)[0, 0, n // 2, n // 2], x)
    return int((gradient[0, 0].abs().amax(0) > 0).sum())


def test_receptive_fields():
    """gcnn: 3 + 2 (1 + 2 + 1) = 11 cells; gfno sees the whole box."""
    assert reach("gcnn", 40) == 11
    assert reach("gcnn", 40, dilations=(1, 2, 4, 2, 1), lifting_size=5) == 25
    assert reach("gfno", 40) == 40


def test_a_number_that_modulates_is_not_convolved_and_starts_without_effect():
    network, x = ARCHITECTURES["gcnn"](FIELDS, (VORTICITY,), modulate=True).double(), inputs()
    assert network.lift.weight.shape[1] == 1
    other = x.clone()
    other[:, 1] += 1.0
    assert torch.equal(network(x), network(other))
    torch.nn.init.normal_(network.blocks[0].modulation.outer.weight)
    assert (network(x) - network(other)).abs().max() > 1e-3
