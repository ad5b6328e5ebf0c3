"""Exponential time differencing: coefficients against 50 digits, orders against a closed form."""

import math

import mpmath
import numpy as np
import pytest
import torch

from solvers.etdrk import ETDRK2, ETDRK4, INTEGRATORS

DT = 0.25
EXPONENTS = [0.0, -1e-12, -1e-7, -1e-3, -0.1, -0.5, -1.0, -2.0, -3.7, -10.0, -50.0, -700.0, -1e4, 0.3, 1.0, 5.0]


def phi(j, z):
    """φ_j(z) = Σ_m z^m / (m + j)!."""
    return mpmath.hyp1f1(1, j + 1, z) / mpmath.factorial(j)


def expected(scheme, z):
    """The coefficients through φ functions (Hochbruck & Ostermann 2010, section 2)."""
    with mpmath.workdps(50):
        z = mpmath.mpf(z)
        one, two, three = (phi(j, z) for j in (1, 2, 3))
        if scheme is ETDRK2:
            numbers = [mpmath.exp(z), DT * one, DT * two]
        else:
            numbers = [mpmath.exp(z), mpmath.exp(z / 2), DT * phi(1, z / 2) / 2, DT * (one - 3 * two + 4 * three),
                       DT * (2 * two - 4 * three), DT * (4 * three - two)]  # fmt: skip
        return [float(number) for number in numbers]


def coefficients(scheme, z):
    return [float(c) for c in scheme.from_linear(torch.tensor([z / DT], dtype=torch.float64), DT).coefficients]


def logistic(scheme, steps, time=1.0, rate=2.0, start=1.0):
    """u' = −rate u + u² from `start`, whose solution is known."""
    integrator = scheme.from_linear(torch.tensor([-rate], dtype=torch.float64), time / steps)
    u = torch.tensor([start], dtype=torch.float64)
    for _ in range(steps):
        u = integrator.step(u, u**2, lambda u: u**2)
    return abs(float(u) - rate / (1 + (rate / start - 1) * math.exp(rate * time)))


def slopes(scheme):
    errors = [logistic(scheme, steps) for steps in (8, 16, 32, 64)]
    return np.log2(np.divide(errors[:-1], errors[1:]))


@pytest.mark.parametrize("scheme", [ETDRK2, ETDRK4])
@pytest.mark.parametrize("z", EXPONENTS)
def test_coefficients(scheme, z):
    np.testing.assert_allclose(coefficients(scheme, z), expected(scheme, z), rtol=1e-12, atol=1e-300)


def test_at_zero_the_schemes_are_runge_kutta():
    np.testing.assert_allclose(coefficients(ETDRK2, 0.0), [1, DT, DT / 2], rtol=1e-13)
    np.testing.assert_allclose(coefficients(ETDRK4, 0.0), [1, 1, DT / 2, DT / 6, DT / 3, DT / 6], rtol=1e-13)


def test_the_closed_form_loses_its_digits_near_zero():
    z = -1e-5
    closed = DT * (-4 - z + math.exp(z) * (4 - 3 * z + z**2)) / z**3
    right = expected(ETDRK4, z)[3]
    assert abs(closed / right - 1) > 1e-3
    assert abs(coefficients(ETDRK4, z)[3] / right - 1) < 1e-12


@pytest.mark.parametrize("order", [2, 4])
def test_order_of_accuracy(order):
    assert INTEGRATORS[order].order == order
    assert np.abs(slopes(INTEGRATORS[order]) - order).max() < 0.15


def test_second_order_is_not_fourth():
    assert slopes(ETDRK2).max() < 3
    assert logistic(ETDRK2, 64) > 100 * logistic(ETDRK4, 64)


@pytest.mark.parametrize("scheme", [ETDRK2, ETDRK4])
@pytest.mark.parametrize("source", [0.0, 1.7])
def test_linear_terms_and_constant_sources_are_exact(scheme, source):
    rates, time = np.array([-0.01, -1.0, -30.0, -2000.0]), 3.0
    u = torch.tensor([1.0, -2.0, 3.0, 4.0], dtype=torch.float64)
    constant = torch.full_like(u, source)
    exact = u.numpy() * np.exp(rates * time) + source * np.expm1(rates * time) / rates
    integrator = scheme.from_linear(torch.from_numpy(rates), time / 3)
    for _ in range(3):
        u = integrator.step(u, constant, lambda u: constant)
    np.testing.assert_allclose(u, exact, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("scheme", [ETDRK2, ETDRK4])
def test_a_stack_of_step_lengths_is_each_of_them(scheme):
    linear = torch.tensor([[-1.0, -5.0]], dtype=torch.float64)
    short, long = (scheme.from_linear(linear, dt) for dt in (0.1, 0.3))
    u = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    both = scheme.stack([short, long]).step(u, u.sin(), torch.sin)
    for row, alone in ((0, short), (1, long)):
        assert torch.equal(both[row], alone.step(u[row : row + 1], u[row : row + 1].sin(), torch.sin)[0])
    assert (both[0] - long.step(u[:1], u[:1].sin(), torch.sin)[0]).norm() > 1e-2
