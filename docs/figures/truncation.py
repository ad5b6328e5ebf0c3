"""How not to store a field on fewer cells: striding aliases, and cell centres that are not moved displace the field."""

import matplotlib.pyplot as plt
import torch
from style import bare, save

from solvers import Grid, resample
from solvers.flows import FLOWS

FINE, COARSE = 128, 32
fine, coarse = Grid.square(FINE), Grid.square(COARSE)
flow = FLOWS[2]["decaying"](viscosity=1e-3, wavenumber=6, rms=6)
state = flow.solver(fine, interval=1.5, dtype=torch.float64)(flow.starts(fine, [1]))
# What a field on the coarse cells can hold: the modes below the coarse Nyquist one, read at the coarse cell centres.
kept = resample(state, fine, coarse)[0, 0]
# Every fourth value of the field, read where the coarse cell centres are.
ky, kx = fine.odd_wavenumbers()
to_centres = 0.5 * (coarse.spacing[0] - fine.spacing[0])
moved = torch.fft.irfft2(torch.fft.rfft2(state) * torch.exp(1j * (ky + kx) * to_centres), s=fine.n)
strided = moved[0, 0, :: FINE // COARSE, :: FINE // COARSE]
# The same modes, with the coefficients as they are on the fine grid.
coefficients, half = torch.fft.rfft2(state, norm="forward"), COARSE // 2
cut = torch.zeros(1, 1, COARSE, half + 1, dtype=coefficients.dtype)
cut[..., :half, :half], cut[..., 1 - half :, :half] = (
    coefficients[..., :half, :half],
    coefficients[..., 1 - half :, :half],
)
displaced = torch.fft.irfft2(cut, s=coarse.n, norm="forward")[0, 0]

largest = float(kept.abs().max())
figure, axes = plt.subplots(1, 4, figsize=(11, 3.1), dpi=100)
axes[0].imshow(state[0, 0], vmin=-largest, vmax=largest)
axes[0].set_title(f"the flow on {FINE}² cells")
axes[1].imshow(kept, vmin=-largest, vmax=largest)
axes[1].set_title(f"truncated and shifted:\nwhat is stored on {COARSE}²")
errors = {"error of taking every fourth value": strided, "error of truncating without the shift": displaced}
for panel, (title, values) in zip(axes[2:], errors.items(), strict=True):
    error = values - kept
    panel.imshow(error, vmin=-largest / 2, vmax=largest / 2, cmap="PuOr_r")
    panel.set_title(f"{title}:\n{float(error.norm() / kept.norm()):.0%}", fontsize=9)
for panel in axes:
    bare(panel)
plt.rcParams["savefig.dpi"] = 120
save(figure, __file__, "png")
