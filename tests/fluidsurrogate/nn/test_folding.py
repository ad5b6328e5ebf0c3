"""Folding expands each kernel once: for any network with an ordinary `forward`, and in several threads at a time."""

import copy
import gc
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from fluidsurrogate.nn import ARCHITECTURES, GroupConv, GroupPool, LiftingConv, Network, UserModule
from fluidsurrogate.nn.folding import fold_kernels
from fluidsurrogate.nn.layers import EquivariantConv
from solvers import D4, VORTICITY


@pytest.fixture(autouse=True)
def _same_weights():
    torch.manual_seed(0)


class Author(Network):
    """A network as its author writes it: a layer used twice, layers in a dict, and a layer that is sometimes wrong."""

    group = D4

    def __init__(self):
        super().__init__()
        self.lift = LiftingConv(D4, (VORTICITY,), 2)
        shared = GroupConv(D4, 2, 2)
        self.parts = nn.ModuleDict({"first": shared, "again": shared, "norm": nn.Identity()})
        self.last, self.pool = GroupConv(D4, 2, 1), GroupPool(D4, (VORTICITY,))

    def forward(self, x):
        if x.isnan().any():
            raise FloatingPointError("not a number")
        h = self.lift(x).tanh()
        h = self.parts["norm"](self.parts["again"](self.parts["first"](h).tanh()))
        return self.pool(self.last(h))


@pytest.fixture
def expansions(monkeypatch):
    """The layers whose kernels were expanded, in order."""
    seen = []
    for kind in (LiftingConv, GroupConv):
        expand = kind.expand_kernel
        monkeypatch.setattr(kind, "expand_kernel", lambda layer, expand=expand: (seen.append(layer), expand(layer))[1])
    return seen


def fields(batch=2):
    return torch.randn(batch, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_each_kernel_is_expanded_once(expansions):
    network, x = Author(), fields()
    folded = network.fold()
    assert expansions == [network.lift, network.parts["first"], network.last]  # the shared layer once
    y = folded(folded(x))
    assert len(expansions) == 3
    assert torch.equal(network(network(x)), y)  # bit for bit
    assert len(expansions) == 3 + 8


def test_the_weights_get_the_gradient_of_the_network():
    network, x = Author(), fields()
    names, weights = zip(*network.named_parameters(), strict=True)
    gradients = [torch.autograd.grad(apply(apply(x)).square().sum(), weights) for apply in (network, network.fold())]
    for name, direct, folded in zip(names, *gradients, strict=True):
        torch.testing.assert_close(folded, direct)
        assert direct.abs().max() > 0 or name == "last.bias"  # no constant is a pseudoscalar


def test_a_fold_holds_the_weights_as_they_were_and_shares_all_others():
    network, x = Author(), fields()
    folded, before = network.fold(), network(x)
    with torch.no_grad():
        network.lift.weight.mul_(2)
    assert torch.equal(folded(x), before)
    assert not torch.equal(network(x), before)  # the control
    assert torch.equal(network.fold()(x), network(x))
    assert folded.lift.weight is network.lift.weight
    assert folded.pool is network.pool


def test_nothing_is_left_behind_by_an_exception():
    network, x = Author(), fields()
    folded, before = network.fold(), network(x)
    with pytest.raises(FloatingPointError):
        folded(x * float("nan"))
    with torch.no_grad():
        network.lift.weight.mul_(2)
    assert all(layer.folded_kernel is None for layer in network.modules() if isinstance(layer, EquivariantConv))
    assert not torch.equal(network(x), before)
    assert torch.equal(folded(x), before)


def test_threads_fold_one_network_at_different_weights():
    """Each thread's fold keeps its own kernels, while others fold and apply."""
    network, x = Author(), fields()

    def roll(factor):
        with torch.no_grad():
            own = fold_of(network, factor)
            states = [x]
            for _ in range(20):
                states.append(own(states[-1]))
        return torch.stack(states)

    def fold_of(network, factor):
        with torch.no_grad():
            scaled = copy.deepcopy(network)
            scaled.last.weight.mul_(factor)
            return scaled.fold()

    shared = network.fold()
    factors = [0.5, 1.0, 2.0, 3.0]
    expected = [roll(factor) for factor in factors]
    with ThreadPoolExecutor(4) as pool:
        rolled = list(pool.map(roll, factors * 8))
        applied = list(pool.map(lambda _: shared(x), range(32)))
        folded = list(pool.map(lambda _: network.fold()(x), range(32)))
    assert all(torch.equal(a, b) for a, b in zip(rolled, expected * 8, strict=True))
    assert all(torch.equal(a, network(x)) for a in [*applied, *folded])


def test_hooks_and_mode_go_along():
    network, x, seen = Author(), fields(), []
    network.last.register_forward_hook(lambda layer, given, made: seen.append(type(layer)))
    network.eval()
    folded = network.fold()
    folded(x)
    assert seen == [GroupConv]
    assert not folded.training


def test_a_fold_is_freed_with_its_kernels():
    network = Author()
    folded = network.fold()
    folded(fields()).sum().backward()
    gone = weakref.ref(folded)
    gc.disable()
    try:
        del folded
        assert gone() is None  # by reference counting alone: no cycle keeps the graph of a training step
    finally:
        gc.enable()


def test_a_users_module_that_uses_our_layers_is_folded(expansions):
    module = nn.Sequential(LiftingConv(D4, (VORTICITY,), 1), GroupPool(D4, (VORTICITY,)))
    network, x = UserModule(module, (VORTICITY,)), fields()
    folded = network.fold()
    folded(folded(x))
    assert len(expansions) == 1
    assert torch.equal(folded(x), network(x))


def test_a_network_without_our_layers_is_itself():
    module = nn.Conv2d(1, 1, 1)
    assert fold_kernels(module) is module
    network = UserModule(module, (VORTICITY,))
    assert network.fold() is network


@pytest.mark.parametrize("kind", ["cnn", "gcnn", "gunet", "gfno"])
def test_plain_holds_no_group_and_no_weights(kind):
    network, x = ARCHITECTURES[kind]((VORTICITY,), (VORTICITY,), width=8), torch.randn(2, 1, 16, 16)
    plain, folded = network.to_plain(), network.fold()
    with torch.no_grad():
        torch.testing.assert_close(plain(x), network(x))
        torch.testing.assert_close(folded(x), network(x))
    assert not list(plain.parameters())
    assert not any(isinstance(layer, EquivariantConv) for layer in plain.modules())


def test_a_compiled_network_folds_to_a_compiled_one():
    """In a process of its own: what checks shapes under test is no part of what is compiled. New kernels at every
    training step do not compile anew."""
    program = """
import torch
from fluidsurrogate.nn import ARCHITECTURES
from solvers import VORTICITY
compiled = []
def backend(graph, inputs):
    compiled.append(graph)
    return graph.forward
network = ARCHITECTURES["gcnn"]((VORTICITY,), (VORTICITY,), width=8, dilations=(1, 2)).double()
x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
expected = network.fold()(x)
network.compile(backend="eager")
import fluidsurrogate.nn.network as module
call = torch.compile(torch.nn.Module.__call__, backend=backend)  # the default backend would take its time
module._compiled_call = lambda: call
for _ in range(4):
    folded = network.fold()
    got = folded(x)
    got.sum().backward()
    with torch.no_grad():
        network.lift.weight.mul_(1.0)
print(len(compiled), float((got - expected).abs().max()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    graphs, error = done.stdout.split()
    assert graphs == "1"
    assert float(error) < 1e-12
