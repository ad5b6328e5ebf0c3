"""What the steady turbulence of `turbulence_run.py` shows, against theory; and its picture.

    python experiments/solver_verification/turbulence_figure.py       # draws turbulence.png from turbulence.nc

Theory: energy flows to larger scales than the forcing's, enstrophy to smaller ones at the rate η, where
E(k) = C η^(2/3) k^-3 up to logarithms (Kraichnan 1967, doi:10.1063/1.1762301; 1971, doi:10.1017/S0022112071001216).
Linear drag takes enstrophy all along the cascade: the flux falls with k and the spectrum is steeper than k^-3 by an
exponent in proportion to the drag (Nam et al. 2000, doi:10.1103/PhysRevLett.84.5134; Boffetta & Ecke 2012, §3,
doi:10.1146/annurev-fluid-120710-101240), and so are those in which long-lived vortices are seen (Legras, Santangelo &
Benzi 1988, doi:10.1209/0295-5075/5/1/007).
"""

from __future__ import annotations

import matplotlib
import numpy as np
import turbulence_run
import xarray as xr
from matplotlib.figure import Figure
from record import HERE, Row

RANGE = (8, 24)  # wavenumbers of the enstrophy cascade: beyond the ring, before viscosity has taken much


def load() -> xr.Dataset:
    """turbulence.nc, made first where there is none."""
    if not (HERE / "turbulence.nc").exists():
        turbulence_run.main()
    with xr.open_dataset(HERE / "turbulence.nc") as data:
        return data.load()


def slope_of(data: xr.Dataset) -> tuple[float, float]:
    """d log E / d log k over the range by least squares, and the standard error over the four parts of the time."""
    inside = data.sel(wavenumber=slice(*RANGE))
    log_k = np.log(inside.wavenumber.values)
    parts = [np.polyfit(log_k, np.log(e), 1)[0] for e in inside.E.values]
    return float(np.polyfit(log_k, np.log(inside.E.mean("part").values), 1)[0]), float(np.std(parts, ddof=1) / 2)


def budget_coefficients(data: xr.Dataset) -> dict[str, tuple[float, float, float, float]]:
    """Of energy and enstrophy: fed, taken by drag, taken by viscosity and gained, means over the averaged time."""
    nu, mu = data.attrs["viscosity"], data.attrs["drag"]
    times = data.time.values
    made = {}
    for name, next_name in (("energy", "enstrophy"), ("enstrophy", "palinstrophy")):
        content, loss = data[name].values, data[next_name].values
        fed = float(data[f"injected_{name}"].values[1:].sum()) / (times[-1] - times[0])
        taken = [float(np.trapezoid(v, times)) / (times[-1] - times[0]) for v in (2 * mu * content, 2 * nu * loss)]
        made[name] = (fed, *taken, float(content[-1] - content[0]) / (times[-1] - times[0]))
    return made


def fluxes(data: xr.Dataset) -> dict[str, np.ndarray]:
    """Means over the time, in units of what the forcing feeds on average: Π_Z/η, Π_E/ε; and 1 less the enstrophy that
    drag and viscosity take from all larger scales, which Π_Z/η must be beyond the ring where Z(k) is steady."""
    k, spectrum = data.wavenumber.values, data.E.mean("part").values
    parts = budget_coefficients(data)
    eta, eps = parts["enstrophy"][0], parts["energy"][0]
    drag = np.cumsum(2 * data.attrs["drag"] * k**2 * spectrum) / eta
    viscous = np.cumsum(2 * data.attrs["viscosity"] * k**4 * spectrum) / eta
    return {
        "k": k, "E": spectrum, "Pi_Z": data.Pi_Z.mean("part").values / eta, "Pi_E": data.Pi_E.mean("part").values / eps,
        "drag": drag, "viscous": viscous, "left": 1 - drag - viscous,
    }  # fmt: skip


def rows() -> list[Row]:
    """Numbers, and the picture."""
    data = load()
    draw(data)
    flux, (slope, error) = fluxes(data), slope_of(data)
    inside = (flux["k"] >= RANGE[0]) & (flux["k"] <= RANGE[1])
    pi_z, k = flux["Pi_Z"][inside], flux["k"]
    gap = float(np.abs(flux["Pi_Z"] - flux["left"])[inside].max())
    theory = "Kraichnan 1967; Boffetta & Ecke 2012"
    made = [
        Row(f"slope of E(k), {RANGE[0]} ≤ k ≤ {RANGE[1]}", theory, "−3 or steeper: −5 to −3",
            f"{slope:.2f} ± {error:.2f}", -5 <= slope <= -3),
        Row("Π_Z/η over that range", f"{theory}: 1 without drag", "positive, falls with k",
            f"{pi_z[0]:.2f} to {pi_z[-1]:.2f}, mean {pi_z.mean():.2f}", bool(pi_z.min() > 0 and pi_z[0] > pi_z[-1])),
        Row("its distance from 1 − what drag and viscosity took below k", "enstrophy balance scale by scale", "≤ 0.05",
            f"{gap:.3f}", gap <= 0.05),
        Row("how constant: largest/smallest Π_Z over that range", "1 without drag", "",
            f"{pi_z.max() / pi_z.min():.2f}"),
        Row("Π_E/ε at k = 2, inverse cascade", theory, "negative", f"{flux['Pi_E'][1]:.2f}", bool(flux["Pi_E"][1] < 0)),
        Row("|Π_E|/ε over the enstrophy range", f"{theory}: 0", "≤ 0.05", f"{np.abs(flux['Pi_E'][inside]).max():.3f}",
            bool(np.abs(flux["Pi_E"][inside]).max() <= 0.05)),
    ]  # fmt: skip
    for name, (fed, dragged, viscous, gained) in budget_coefficients(data).items():
        gap = (fed - dragged - viscous - gained) / fed
        made.append(Row(f"{name}: fed = drag + viscosity + growth", "recorded kicks, trapezoid every 0.5", "within 2 %",
                        f"{fed:.4f} = {dragged:.4f} + {viscous:.4f} + {gained:+.4f} ({100 * gap:+.2f} %)",
                        abs(gap) <= 0.02))  # fmt: skip
    dissipation = k**4 * flux["E"]
    most = data.attrs["n"] // 3
    scale = budget_coefficients(data)["enstrophy"][0] ** (1 / 6) / data.attrs["viscosity"] ** 0.5
    made.append(Row("resolution: k_max/k_d; viscous loss at k_max against its peak", "k_d = η^(1/6)/ν^(1/2)", "",
                    f"{most / scale:.2f}; {dissipation[k == most - 1][0] / dissipation.max():.2f}"))  # fmt: skip
    return made


def draw(data: xr.Dataset) -> None:
    """Vorticity, spectrum and fluxes."""
    matplotlib.rcParams.update({"font.size": 9})
    flux, (slope, _), (near, far) = fluxes(data), slope_of(data), RANGE
    kf, most = data.attrs["ring"], data.attrs["n"] // 3
    low, high = kf[0] - kf[1], kf[0] + kf[1]
    figure = Figure(figsize=(12.6, 4.1), layout="constrained")
    picture, spectrum, fluxed = figure.subplots(1, 3, width_ratios=(1, 1.12, 1.12))
    limit = float(np.quantile(np.abs(data.vorticity), 0.995))
    image = picture.imshow(data.vorticity, origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit,
                           extent=(0, 2 * np.pi, 0, 2 * np.pi), interpolation="antialiased")  # fmt: skip
    picture.set(xticks=(0, np.pi, 2 * np.pi), yticks=(0, np.pi, 2 * np.pi), xticklabels=("0", "π", "2π"),
                yticklabels=("0", "π", "2π"),
                title=f"Vorticity on {data.attrs['n']}² cells, steady in the mean")  # fmt: skip
    figure.colorbar(image, ax=picture, shrink=0.72, pad=0.02, label="ω")
    k, inside = flux["k"], flux["k"] <= most
    for axis in (spectrum, fluxed):
        axis.axvspan(low - 0.5, high + 0.5, color="0.88", lw=0)
        axis.axvspan(near, far, color="#dcebf7", lw=0)
        axis.set(xscale="log", xlim=(0.9, most), xlabel="wavenumber k")
        axis.grid(True, which="major", lw=0.4, color="0.85")
        axis.set_axisbelow(True)
    every = data.E.values[:, inside]
    spectrum.fill_between(k[inside], every.min(0), every.max(0), color="C0", alpha=0.25, lw=0)
    spectrum.loglog(k[inside], flux["E"][inside], color="C0", lw=1.8)
    guide = np.array([near, 90.0])
    anchor = 4.0 * flux["E"][near - 1]
    spectrum.loglog(guide, anchor * (guide / near) ** -3, "k--", lw=1.1)
    spectrum.text(40, anchor * (40 / near) ** -3 * 2.0, "$k^{-3}$: theory\nwithout drag", ha="left")
    said = f"measured: $k^{{{slope:.2f}}}$\nover the blue range"
    spectrum.text(1.1, 3e-8, said, color="C0", ha="left", va="bottom")
    spectrum.set(title="Energy spectrum E(k), mean over 60 time units", ylabel="E(k)")
    fluxed.axhline(0, color="k", lw=0.7)
    fluxed.plot(k[inside], flux["Pi_Z"][inside], color="C3", lw=1.8)
    beyond = inside & (k >= high + 1)
    fluxed.plot(k[beyond], flux["left"][beyond], "k:", lw=1.4)
    fluxed.plot(k[inside], flux["Pi_E"][inside], color="C2", lw=1.8)
    fluxed.set(title="Fluxes through k, in units of what is fed", ylim=(-1, 1.25))
    fluxed.text(5.8, 0.82, "enstrophy to small scales, $\\Pi_Z/\\eta$", color="C3", va="bottom")
    fluxed.text(27, 0.5, "dotted: what drag\nand viscosity have\nleft of it", fontsize=8, va="bottom")
    fluxed.text(5.8, -0.6, "energy to large scales, $\\Pi_E/\\varepsilon$", color="C2", va="bottom")
    for axis in (spectrum, fluxed):
        axis.set_xticks((1, 10, 100), ("1", "10", "100"))
        for place, text in (((low * high) ** 0.5, "forcing"), ((near * far) ** 0.5, "enstrophy\ncascade")):
            axis.text(place, 0.985, text, transform=axis.get_xaxis_transform(), ha="center", va="top", color="0.35",
                      fontsize=8)  # fmt: skip
    figure.savefig(HERE / "turbulence.png", dpi=100)


if __name__ == "__main__":
    draw(load())
