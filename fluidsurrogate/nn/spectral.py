"""The group convolution with a global kernel, held in Fourier space."""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fluidsurrogate.nn.layers import Expanding, Kernel, Kernels, act_on_regular, signed_gather
from solvers import Group

Feature = Float[Tensor, "batch channel alpha y x"]
FeatureOut = Float[Tensor, "batch channel_out alpha y x"]


@final
class SpectralGroupConv2d(Expanding):
    """Feature → feature: F̂'(g, ξ) = Σ_h ψ̂(g⁻¹h, g⁻¹ξ) F̂(h, ξ) for |ξ_x|, |ξ_y| ≤ `modes`, 0 beyond (Helwig et al. 2023,
    arXiv:2306.05697, eq. 7; with the trivial group Li et al. 2021, arXiv:2010.08895).

    A rotation about a cell permutes the modes as it does the cells of a kernel. The kernel is real in space, so that
    ψ̂(−ξ) is the conjugate of ψ̂(ξ); the free weights are real, A(ξ), and ψ̂ = even part of A + i · odd part of A, which
    reaches every such kernel once. In and out (batch, channel, |G|, y, x). ValueError on a grid that has not the modes.
    """

    index: Tensor

    def __init__(self, group: Group, channels_in: int, channels: int, modes: int) -> None:
        super().__init__()
        if modes < 1:
            raise ValueError(f"modes must be at least 1 (got {modes})")
        self.group, self.modes = group, modes
        order, size = len(group), 2 * modes + 1
        self.weight = nn.Parameter(torch.empty(channels, channels_in, order, size, size))
        nn.init.normal_(self.weight, std=1 / math.sqrt(channels_in * order))
        with torch.no_grad():
            self.weight[..., modes, modes] /= math.sqrt(2)  # ξ = 0 is its own mirror: it has no odd part to share with
        index, _ = signed_gather(group, (order, size, size), lambda k, g: act_on_regular(group, k, g))
        self.register_buffer("index", index, persistent=False)

    def kernel(self) -> Kernel:
        """Real and imaginary part (2 modes + 1, modes + 1, channels_in·|G|, channels·|G|) of the modes ξ_y = −modes …
        modes, ξ_x = 0 … modes."""
        weight = self.weight.flatten(2)[:, :, self.index]  # (out, in, g, h, y, x)
        weight = weight.permute(4, 5, 1, 3, 0, 2).flatten(4, 5).flatten(2, 3)
        turned = weight.flip(0, 1)
        half = slice(self.modes, None)
        return (weight + turned)[:, half] / 2, (weight - turned)[:, half] / 2

    def plain(self) -> nn.Module:
        return PlainSpectralConv2d(self.kernel(), len(self.group))

    def forward(self, x: Feature, kernels: Kernels | None = None) -> FeatureOut:
        return spectral_conv2d(x.flatten(1, 2), self._kernel(kernels)).unflatten(1, (-1, len(self.group)))


@final
class PlainSpectralConv2d(nn.Module):
    """The same with a given kernel."""

    real: Tensor
    imaginary: Tensor

    def __init__(self, kernel: Kernel, alpha: int) -> None:
        super().__init__()
        self.alpha = alpha
        self.register_buffer("real", kernel[0].detach().clone())
        self.register_buffer("imaginary", kernel[1].detach().clone())

    def forward(self, x: Tensor, kernels: Kernels | None = None) -> Tensor:
        return spectral_conv2d(x.flatten(1, 2), (self.real, self.imaginary)).unflatten(1, (-1, self.alpha))


def spectral_conv2d(x: Float[Tensor, "batch channel y x"], kernel: Kernel) -> Float[Tensor, "batch channel_out y x"]:
    """Multiply each retained mode of x by its matrix."""
    real, imaginary = kernel
    modes, n = real.shape[1] - 1, x.shape[-2:]
    if 2 * modes + 1 > min(n):
        raise ValueError(f"modes = {modes} needs a grid of more than {2 * modes} cells a side (got {tuple(n)})")
    spectrum = torch.fft.rfft2(x)[..., : modes + 1]
    retained = torch.cat([spectrum[..., -modes:, :], spectrum[..., : modes + 1, :]], dim=-2)
    a, b = (part.permute(2, 3, 0, 1) for part in (retained.real, retained.imag))
    # In real numbers, and without writing into zeros: ONNX has neither complex products nor assignments.
    mixed = torch.stack([a @ real - b @ imaginary, a @ imaginary + b @ real], dim=-1).permute(2, 3, 0, 1, 4)
    none = mixed.new_zeros(*mixed.shape[:2], n[0] - 2 * modes - 1, modes + 1, 2)
    rows = torch.cat([mixed[:, :, modes:], none, mixed[:, :, :modes]], dim=2)
    out = torch.cat([rows, rows.new_zeros(*rows.shape[:3], n[1] // 2 - modes, 2)], dim=3)
    return torch.fft.irfft2(torch.view_as_complex(out), s=n)
