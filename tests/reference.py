"""How typed fields turn, written a second time: index arithmetic in numpy, sharing nothing with the package."""

import numpy as np
import torch


def moved(values, g):
    """f(g⁻¹x) by index arithmetic on a square or a cube, x in half cells from the centre; g⁻¹ is the transpose."""
    n, matrix = values.shape[-1], np.array(g.matrix)
    mesh = np.meshgrid(*len(matrix) * [2 * np.arange(n) + 1 - n], indexing="ij")[::-1]  # (x, y) or (x, y, z)
    sources = [sum(matrix[i, j] * mesh[i] for i in range(len(matrix))) for j in range(len(matrix))]
    return values[(..., *((source + n - 1) // 2 for source in reversed(sources)))]


def acted(fields, values, g):
    """ρ(g) f(g⁻¹x) by index arithmetic for a stack of fields on a square or a cube."""
    matrix, there = np.array(g.matrix, dtype=float), moved(values.numpy(), g)
    out, first = [], 0
    for field in fields:
        part = there[:, first : first + field.components]
        part = np.einsum("ij,bj...->bi...", matrix, part) if field.order else part
        out.append(part * np.linalg.det(matrix) if field.parity < 0 else part)
        first += field.components
    return torch.from_numpy(np.concatenate(out, axis=1)).to(values)


def noise(fields, n, dtype=torch.float64, seed=0, batch=2):
    """Standard normal values of a stack of fields on n × n cells, in space on n × n × n."""
    shape = (batch, sum(field.components for field in fields), *[n] * fields[0].dimensions)
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(dtype)
