"""How a start is seen, what is made of it without learning, and the network that corrects that."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fluidsurrogate.nn import ARCHITECTURES
from solvers import VELOCITY, VORTICITY, FieldSpec, StateSpec
from solvers.diagnostics import velocity, vorticity
from solvers.spectra import enstrophy, enstrophy_spectrum, kinetic_energy

LOCAL = {"width": 16, "lifting_size": 3, "dilations": (1, 2, 1), "activation": "gated"}
SCALAR = FieldSpec("scalar", 0, 1, "", "a scalar")
Seen = dict[str, Tensor]  # what is known of the starts, by name, each (batch, component, y, x)
Estimate = tuple[Tensor, Tensor | None]  # the starts, and their viscosities if they are unknown
Estimator = Callable[[Seen], Estimate]


class Case(Protocol):
    """One way in which a start is observed."""

    title: str

    def see(self, states: Tensor, generator: torch.Generator) -> Seen:
        """What is known of states, (batch, component, y, x)."""

    def candidates(self) -> dict[str, list[Estimator]]:
        """Estimators without a network, by name. The study takes the one of each list that is best in validation."""

    def network(self, kind: str) -> nn.Module:
        """An untrained estimator of kind "gcnn" or "cnn"."""

    def loss(self, estimate: Estimate, states: Tensor, viscosity: Tensor) -> Tensor:
        """The training loss."""


def network_of(kind: str, fields_in: tuple[FieldSpec, ...], fields_out: tuple[FieldSpec, ...]) -> nn.Module:
    """The package's default network, over D4 or without a group."""
    return ARCHITECTURES[kind](fields_in, fields_out, **LOCAL, **({"group": "D4"} if kind == "gcnn" else {}))


class UnknownStart:
    """A start that is not fully known. Its prior is Gaussian, with the mean power of the training starts by |k|."""

    fields: tuple[FieldSpec, ...] = ()

    def __init__(self, spec: StateSpec, train: Tensor) -> None:
        self.grid, n = spec.grid, spec.grid.n[0]
        self.scale, flow = float(train[:, 0].std()), velocity(train[:, 0], spec.grid)
        self.flow_scale = float(flow.std())
        ky, kx = spec.grid.wavenumbers()
        shell = (ky.square() + kx.square()).sqrt().round().long()
        power = torch.fft.rfft2(train[:, 0].double()).abs().square().mean((0, 1)).flatten()
        sums = torch.zeros(int(shell.max()) + 1, dtype=power.dtype).scatter_add(0, shell.flatten(), power)
        self.power = (sums / shell.flatten().bincount())[shell]  # E|ω̂|², (ky, kx)
        self.covariance = torch.fft.irfft2(self.power, s=(n, n)) / n**2  # by distance

    def network(self, kind: str) -> nn.Module:
        """A network that corrects the first guess."""
        return Correction(self, kind)

    def loss(self, estimate: Estimate, states: Tensor, viscosity: Tensor) -> Tensor:
        """Relative mean square error of the vorticity, and of its velocity, which decides where things go."""
        error = estimate[0] - states
        flow = velocity(error, self.grid)
        return error.square().mean() / self.scale**2 + flow.square().mean() / self.flow_scale**2


class NoisyStart(UnknownStart):
    """Both components of the velocity are measured with white noise, of `level` times their root mean square."""

    fields = (VORTICITY,)

    def __init__(self, spec: StateSpec, train: Tensor, level: float) -> None:
        super().__init__(spec, train)
        self.title = f"Noise of {100 * level:g} % on the velocity"
        self.sigma = level * self.flow_scale
        ky, kx = spec.grid.odd_wavenumbers()
        self.noise = (ky.square() + kx.square()) * self.sigma**2 * math.prod(spec.grid.n)

    def see(self, states: Tensor, generator: torch.Generator) -> Seen:
        flow = velocity(states, self.grid)
        flow = flow + self.sigma * torch.randn(flow.shape, generator=generator)
        return {"vorticity": vorticity(flow, self.grid), "velocity": flow}

    def wiener(self, seen: Seen, factor: float = 1.0) -> Tensor:
        """The Wiener filter: the best linear estimate if the noise has `factor` times its power."""
        kept = self.power / (self.power + factor * self.noise)
        return torch.fft.irfft2(torch.fft.rfft2(seen["vorticity"]) * kept.float(), s=self.grid.n)

    guess = wiener

    def wavelets(self, seen: Seen, factor: float, levels: int) -> Tensor:
        """Soft thresholds on stationary wavelet coefficients of the velocity, where the noise is white."""
        import pywt  # imported here: only this estimate needs it (`pip install "fluidsurrogate[peers]"`)

        threshold = factor * self.sigma * math.sqrt(2 * math.log(math.prod(self.grid.n)))
        coarse, *details = pywt.swt2(seen["velocity"].numpy(), "sym4", levels, norm=True, trim_approx=True)
        details = [tuple(pywt.threshold(part, threshold, "soft") for part in detail) for detail in details]
        flow = pywt.iswt2([coarse, *details], "sym4", norm=True)
        return vorticity(torch.from_numpy(np.ascontiguousarray(flow, dtype=np.float32)), self.grid)

    def candidates(self) -> dict[str, list[Estimator]]:
        return {
            "as measured": [lambda seen: (seen["vorticity"], None)],
            "Wiener filter": [lambda seen, f=f: (self.wiener(seen, f), None) for f in (0.25, 0.5, 1.0, 2.0, 4.0)],
            "wavelet thresholds": [lambda seen, f=f, n=n: (self.wavelets(seen, f, n), None)
                                   for f, n in product((0.1, 0.2, 0.3, 0.5, 0.8), (1, 2, 3))],
        }  # fmt: skip


class SparseStart(UnknownStart):
    """The vorticity is known, exactly, in a random part of the cells."""

    fields = (VORTICITY, SCALAR)

    def __init__(self, spec: StateSpec, train: Tensor, part: float) -> None:
        super().__init__(spec, train)
        self.title = f"Vorticity known in {100 * part:g} % of the cells"
        self.sensors = round(part * math.prod(spec.grid.n))
        n = spec.grid.n[0]
        y, x = (axis.flatten() for axis in torch.meshgrid(*[torch.arange(n)] * 2, indexing="ij"))
        self.between = self.covariance[(y[:, None] - y) % n, (x[:, None] - x) % n]  # of all pairs of cells

    def see(self, states: Tensor, generator: torch.Generator) -> Seen:
        cells = torch.stack([torch.randperm(states[0].numel(), generator=generator)[: self.sensors] for _ in states])
        mask = torch.zeros(len(states), states[0].numel()).scatter(1, cells, 1.0).view_as(states)
        return {"vorticity": states * mask, "mask": mask}

    def kriging(self, seen: Seen, nugget: float = 1e-4) -> Tensor:
        """Simple kriging: the best linear estimate. `nugget` is the variance, relative, that is not explained."""
        cells = seen["mask"].flatten(1).nonzero()[:, 1].view(len(seen["mask"]), -1)
        values = seen["vorticity"].flatten(1).gather(1, cells).double()
        between = self.between[cells[:, :, None], cells[:, None]]
        between = between + nugget * self.covariance[0, 0] * torch.eye(self.sensors)
        weights = torch.linalg.solve(between, values.unsqueeze(-1)).squeeze(-1)
        spread = torch.zeros_like(seen["mask"], dtype=torch.float64).flatten(1).scatter(1, cells, weights)
        return torch.fft.irfft2(
            torch.fft.rfft2(spread.view_as(seen["mask"])) * torch.fft.rfft2(self.covariance), s=self.grid.n
        ).float()

    guess = kriging

    def candidates(self) -> dict[str, list[Estimator]]:
        return {
            "kriging": [lambda seen, f=f: (self.kriging(seen, f), None) for f in (1e-6, 1e-4, 1e-3, 1e-2, 3e-2, 0.1)]
        }


class Correction(nn.Module):
    """The first guess plus what a network makes of it, of its velocity and of what was seen."""

    def __init__(self, case: Any, kind: str) -> None:
        super().__init__()
        self.case = case
        self.network = network_of(kind, (*case.fields, VORTICITY, VELOCITY), (VORTICITY,))

    def forward(self, seen: Seen) -> Estimate:
        case, guess = self.case, self.case.guess(seen)
        taken = [seen["vorticity"] / case.scale, *([seen["mask"]] if "mask" in seen else []), guess / case.scale,
                 velocity(guess, case.grid) / case.flow_scale]  # fmt: skip
        return guess + case.scale * self.network(torch.cat(taken, dim=1)), None


class UnknownViscosity:
    """The start is known, and the viscosity, somewhere in a range, is not."""

    title = "Unknown viscosity"

    def __init__(self, spec: StateSpec, train: Tensor, viscosity: Tensor) -> None:
        self.grid, self.interval = spec.grid, spec.interval
        self.scale, self.flow_scale = float(train[:, 0].std()), float(velocity(train[:, 0], spec.grid).std())
        self.logs = viscosity.log().flatten()
        self.mean, self.spread = float(self.logs.mean()), float(self.logs.std())
        self.spectra = torch.cat([self.features(train[:, i]) for i in range(train.shape[1])])
        self.targets = self.logs.repeat(train.shape[1]).double()

    def see(self, states: Tensor, generator: torch.Generator) -> Seen:
        return {"vorticity": states}

    def features(self, states: Tensor) -> Tensor:
        """Logarithms of the enstrophy in each shell of wavenumbers."""
        return enstrophy_spectrum(states.double(), self.grid.length)[:, : self.grid.n[0] // 2 - 1].log()

    def constant(self, value: Tensor | float) -> Estimator:
        """An estimator that always says the same."""
        return lambda seen: (seen["vorticity"], torch.as_tensor(value).expand(len(seen["vorticity"])).float())

    def regression(self, penalty: float, is_quadratic: bool) -> Estimator:
        """Ridge regression of log ν on the logarithm of the spectrum and, if asked, its products."""
        shift, scale = self.spectra.mean(0), self.spectra.std(0)

        def design(states_or_spectra: Tensor) -> Tensor:
            z = (states_or_spectra - shift) / scale
            pairs = torch.triu_indices(z.shape[1], z.shape[1])
            return torch.cat([z, z[:, pairs[0]] * z[:, pairs[1]]], 1) if is_quadratic else z

        x = design(self.spectra)
        centre = x.mean(0)
        gram = (x - centre).T @ (x - centre) + penalty * torch.eye(x.shape[1])
        weights = torch.linalg.solve(gram, (x - centre).T @ (self.targets - self.mean))

        def estimate(seen: Seen) -> Estimate:
            logs = (design(self.features(seen["vorticity"])) - centre) @ weights + self.mean
            return seen["vorticity"], logs.exp().float()

        return estimate

    def candidates(self) -> dict[str, list[Estimator]]:
        return {
            "mean viscosity": [self.constant(math.exp(self.mean + shift)) for shift in (-0.4, -0.2, 0.0, 0.2, 0.4)],
            "regression on the spectrum": [
                self.regression(penalty, quadratic)
                for penalty, quadratic in product((0.1, 1.0, 10.0, 100.0), (False, True))
            ],
        }

    def from_two_states(self, first: Tensor, second: Tensor) -> Tensor:
        r"""The viscosity from the energy that is lost between two states: dE/dt = −2 ν Z."""
        lost = kinetic_energy(first, self.grid.length) - kinetic_energy(second, self.grid.length)
        return lost / (self.interval * (enstrophy(first) + enstrophy(second)))

    def network(self, kind: str) -> nn.Module:
        """A network whose scalars are averaged over the box to log ν."""
        return ViscosityNetwork(self, kind)

    def loss(self, estimate: Estimate, states: Tensor, viscosity: Tensor) -> Tensor:
        """Mean square error of log ν, in units of its spread."""
        assert estimate[1] is not None
        return ((estimate[1].log() - viscosity.flatten().log()) / self.spread).square().mean()


class ViscosityNetwork(nn.Module):
    """The mean of one scalar over the mean square of another, as log ν."""

    def __init__(self, case: UnknownViscosity, kind: str) -> None:
        super().__init__()
        self.case, self.network = case, network_of(kind, (VORTICITY, VELOCITY), (SCALAR, SCALAR))

    def forward(self, seen: Seen) -> Estimate:
        case, state = self.case, seen["vorticity"]
        taken = [state / case.scale, velocity(state, case.grid) / case.flow_scale]
        above, below = self.network(torch.cat(taken, dim=1)).flatten(2).unbind(1)
        return state, (case.mean + case.spread * above.mean(1) / (0.1 + below.square().mean(1))).exp()


def parameters_of(module: nn.Module) -> int:
    """The number of weights."""
    return sum(weight.numel() for weight in module.parameters())


def batches(states: Tensor, viscosity: Tensor, size: int, steps: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield random states of a pool with their viscosities."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(states), (size,), generator=generator)
        yield states[chosen], viscosity[chosen]
