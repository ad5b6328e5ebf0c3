"""How typed fields turn, written a second time: index arithmetic in numpy, sharing nothing with the package."""

import numpy as np
import torch


def acted(fields, values, g):
    """ρ(g) f(g⁻¹x) by index arithmetic for a stack of fields on a square, x in half cells from the centre."""
    n, matrix = values.shape[-1], np.array(g.matrix, dtype=float)
    y, x = np.meshgrid(*2 * [2 * np.arange(n) + 1 - n], indexing="ij")
    (a, b), (c, d) = g.matrix
    moved = values.numpy()[..., (b * x + d * y + n - 1) // 2, (a * x + c * y + n - 1) // 2]
    out, first = [], 0
    for field in fields:
        part = moved[:, first : first + field.components]
        part = np.einsum("ij,bjyx->biyx", matrix, part) if field.order else part
        out.append(part * np.linalg.det(matrix) if field.parity < 0 else part)
        first += field.components
    return torch.from_numpy(np.concatenate(out, axis=1)).to(values)


def noise(fields, n, dtype=torch.float64, seed=0, batch=2):
    """Standard normal values of a stack of fields on n × n cells."""
    values = np.random.default_rng(seed).standard_normal((batch, sum(field.components for field in fields), n, n))
    return torch.from_numpy(values).to(dtype)
