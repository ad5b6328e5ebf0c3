"""The group convolution with a kernel as large as the box, held in Fourier space."""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fluidsurrogate.nn.layers.equivariant_conv import EquivariantConv
from fluidsurrogate.nn.layers.group_action import act_on_regular, signed_permutations
from fluidsurrogate.nn.shapes import Feature, FeatureOut, Kernel
from solvers import Group


@final
class SpectralGroupConv2d(EquivariantConv):
    r"""Group convolution in Fourier space, from a feature to a feature (Helwig et al. 2023, arXiv:2306.05697, eq. 7).

    .. math:: \hat F'(g, \xi) = \sum_h \hat\psi(g^{-1} h, g^{-1} \xi) \, \hat F(h, \xi)
        \quad \text{for } |\xi_x|, |\xi_y| \le \mathrm{modes}, \text{ and 0 beyond}

    With the trivial group it is the spectral convolution of Li et al. 2021, arXiv:2010.08895. A rotation about a cell
    permutes the modes as it does the cells of a kernel. The kernel is real in space, so that ψ̂(−ξ) is the conjugate of
    ψ̂(ξ). The free weights A(ξ) are real, and ψ̂ is the even part of A plus i times its odd part, which reaches every
    such kernel once.

    Parameters
    ----------
    group : Group
        Point group.
    channels_in : int
        Channels that come in.
    channels : int
        Channels that come out.
    modes : int
        Largest mode number on each axis.

    Raises
    ------
    ValueError
        If `modes` is less than 1; when called, if the grid does not have the modes.
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
        index, _ = signed_permutations(group, (order, size, size), lambda k, g: act_on_regular(group, k, g))
        self.register_buffer("index", index, persistent=False)

    def expand_kernel(self) -> Kernel:
        """Expand the free weights to the kernel of an ordinary spectral convolution.

        Returns
        -------
        tuple of Tensor
            Real and imaginary part, each of shape (2 modes + 1, modes + 1, channels_in · |G|, channels · |G|), for the
            modes ξ_y = −modes … modes and ξ_x = 0 … modes.
        """
        weight = self.weight.flatten(2)[:, :, self.index]  # (out, in, g, h, y, x)
        weight = weight.permute(4, 5, 1, 3, 0, 2).flatten(4, 5).flatten(2, 3)
        turned = weight.flip(0, 1)
        half = slice(self.modes, None)
        return (weight + turned)[:, half] / 2, (weight - turned)[:, half] / 2

    def convolve(self, x: Feature, kernel: Kernel) -> FeatureOut:
        """Convolve with an expanded kernel.

        Parameters
        ----------
        x : Tensor
            Feature, of shape (batch, channels_in, |G|, y, x).
        kernel : tuple of Tensor
            What `expand_kernel` returns.

        Returns
        -------
        Tensor
            Feature, of shape (batch, channels, |G|, y, x).
        """
        return spectral_conv2d(x.flatten(1, 2), kernel).unflatten(1, (-1, len(self.group)))

    def to_plain(self) -> PlainSpectralConv2d:
        """Convert the layer to an ordinary spectral convolution.

        Returns
        -------
        PlainSpectralConv2d
            Holds the kernel expanded from the present weights, detached from them.
        """
        return PlainSpectralConv2d(self.expand_kernel(), len(self.group))


@final
class PlainSpectralConv2d(nn.Module):
    """Spectral convolution with a fixed kernel.

    Parameters
    ----------
    kernel : tuple of Tensor
        Real and imaginary part. The layer holds a copy, detached from the free weights.
    alpha : int
        Number of group elements of the feature that comes out.
    """

    real: Tensor
    imaginary: Tensor

    def __init__(self, kernel: Kernel, alpha: int) -> None:
        super().__init__()
        self.alpha = alpha
        self.register_buffer("real", kernel[0].detach().clone())
        self.register_buffer("imaginary", kernel[1].detach().clone())

    def forward(self, x: Feature) -> FeatureOut:
        """Apply the convolution.

        Parameters
        ----------
        x : Tensor
            Feature, of shape (batch, channel, |G|, y, x).

        Returns
        -------
        Tensor
            Feature, of shape (batch, channel_out, |G|, y, x).
        """
        return spectral_conv2d(x.flatten(1, 2), (self.real, self.imaginary)).unflatten(1, (-1, self.alpha))


def spectral_conv2d(x: Float[Tensor, "batch channel y x"], kernel: Kernel) -> Float[Tensor, "batch channel_out y x"]:
    """Multiply the channels of each retained Fourier mode by the mode's matrix, and drop all other modes.

    Parameters
    ----------
    x : Tensor
        Shape (batch, channel, y, x).
    kernel : tuple of Tensor
        Real and imaginary part, each of shape (2 modes + 1, modes + 1, channel, channel_out).

    Returns
    -------
    Tensor
        Shape (batch, channel_out, y, x).

    Raises
    ------
    ValueError
        If the grid does not have the modes.
    """
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
