"""The C++ library: from a cache that holds nothing broken and nothing of another user's, or without a cache."""

import ctypes
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from solvers import Grid, NavierStokes2D
from solvers.backends import cpp_library as module
from solvers.backends.selection import _warn_slow

missing = module.why_not_compiled()
needs_compiler = pytest.mark.skipif(missing is not None, reason=str(missing))
CANNED = """import os, shutil, sys
with open({log!r}, "a") as log: log.write(" ".join(sys.argv[1:]) + "\\n")
if "-o" in sys.argv: shutil.copy({library!r}, sys.argv[-1])
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The library as the compiler makes it."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        module.compiled_library.cache_clear()
        assert isinstance(module.load_library(), ctypes.CDLL)
    module.compiled_library.cache_clear()
    (path,) = (folder / "fluidsurrogate").iterdir()
    return path


@pytest.fixture
def calls(real, tmp_path, monkeypatch):
    """A process that has not looked yet, an empty cache, and a compiler that is quick: what it was called with."""
    log, script = tmp_path / "calls", tmp_path / "compiler.py"
    script.write_text(CANNED.format(log=str(log), library=str(real)))
    monkeypatch.setenv("CXX", f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forget()
    yield lambda: [line for line in log.read_text().splitlines() if "-o" in line]
    forget()


def forget():
    """As a new process."""
    module.compiled_library.cache_clear()
    _warn_slow.cache_clear()


def again():
    forget()
    return module.load_library()


def kept():
    return sorted((Path(os.environ["XDG_CACHE_HOME"]) / "fluidsurrogate").iterdir())


def works():
    state = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    native, torch_s = (NavierStokes2D(Grid.square(16), viscosity=1e-2, interval=0.1, backend=backend)(state)
                       for backend in ("native", "torch"))  # fmt: skip
    return float((native - torch_s).norm() / torch_s.norm()) < 1e-5


@needs_compiler
def test_it_is_compiled_once(calls):
    assert works()
    assert isinstance(again(), ctypes.CDLL)
    assert len(calls()) == len(kept()) == 1
    assert kept()[0].parent.stat().st_mode & 0o777 == 0o700


@needs_compiler
@pytest.mark.parametrize(
    "damage",
    [lambda b: b"", lambda b: b[:40000], lambda b: b[:-1], lambda b: b[:5000] + b"x" + b[5001:]],
    ids=["empty", "cut short", "one byte less", "one byte changed"],
)
def test_a_damaged_file_is_compiled_again(calls, damage):
    module.load_library()
    (path,) = kept()
    whole = path.read_bytes()
    path.unlink()  # not in place: this process has it mapped
    path.write_bytes(damage(whole))
    path.chmod(0o700)
    assert isinstance(again(), ctypes.CDLL)
    assert works()
    assert len(calls()) == 2
    assert [p.read_bytes() for p in kept()] == [whole]


@needs_compiler
@pytest.mark.parametrize("who", ["group may write", "all may write", "a stranger's"])
@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_others_can_write_is_not_loaded(calls, caplog, monkeypatch, who, what):
    module.load_library()
    (path,) = kept()
    target = path.parent if what == "folder" else path
    if who == "a stranger's":
        if os.getuid() == 0:
            os.chown(target, 54321, -1)
        else:
            monkeypatch.setattr(os, "getuid", lambda: 54321)
    else:
        target.chmod(0o770 if who == "group may write" else 0o777)
    planted = path.stat().st_ino
    loaded = Path(again()._name)
    assert len(calls()) == 2
    if what == "folder":
        assert loaded.parent.parent == Path(tempfile.gettempdir())
        assert "run chmod go-w on it, or set XDG_CACHE_HOME to a folder of your own" in caplog.messages[-1]
        assert [p.stat().st_ino for p in kept()] == [planted]
    elif os.getuid() == 0 or who != "a stranger's":
        assert loaded == path
        assert path.stat().st_ino != planted
        assert path.stat().st_uid == os.getuid()


@needs_compiler
def test_without_a_home_it_is_compiled_for_the_process(calls, caplog, monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", nowhere)
    with caplog.at_level(logging.WARNING, "solvers"):
        assert works()
        assert works()
    assert caplog.messages == ["native_2d.cpp is compiled for this process alone, which takes some seconds: "
                               "Could not determine home directory."]  # fmt: skip


@needs_compiler
def test_a_cache_that_cannot_be_made_or_written_is_done_without(calls, tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "calls"))  # a file
    (tmp_path / "calls").touch()
    assert works()
    assert "compiled for this process alone" in caplog.text
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
    forget()
    assert works()
    assert "cannot be kept for the next process: [Errno 30] Read-only file system" in caplog.text
    assert kept() == []


@needs_compiler
def test_a_relative_cache_is_none(calls, tmp_path, monkeypatch):
    """By the XDG base directory specification; it would be another one in every folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    module.load_library()
    assert not (tmp_path / "here").exists()
    assert len(list((tmp_path / "home" / ".cache" / "fluidsurrogate").iterdir())) == 1


@needs_compiler
@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
@pytest.mark.parametrize("words", ["", "  ", "g++", "env g++", "env 'g++' -DNOTHING='a b'"])
def test_a_compiler_of_no_word_or_of_several(monkeypatch, words):
    """`CXX` as make and distutils take it; what it says of the processor is enough to know that it runs."""
    ran = []
    real_run = module._run

    def run(command):
        ran.append(command)
        return b"" if "-o" in command else real_run(command)

    monkeypatch.setenv("CXX", words)
    monkeypatch.setattr(module, "_run", run)
    monkeypatch.setattr(module, "_load_cached", lambda folder, key: "found")
    forget()
    try:
        assert module.load_library() == "found"
        expected = shlex.split(words) or ["g++"]
        assert ran[0][: len(expected)] == expected
    finally:
        forget()


@pytest.mark.parametrize(
    ("compiler", "why"),
    [
        (
            "/nowhere/c++",
            "/nowhere/c++ cannot compile native_2d.cpp: [Errno 2] No such file or directory: '/nowhere/c++'",
        ),
        ("g++ 'half", "g++ 'half cannot compile native_2d.cpp: No closing quotation"),
        ("false", "false cannot compile native_2d.cpp: exit status 1"),
    ],
)
def test_without_a_compiler_torch_takes_over_and_says_why_once(monkeypatch, caplog, compiler, why):
    monkeypatch.setenv("CXX", compiler)
    forget()
    try:
        with caplog.at_level(logging.INFO, "solvers"):
            solvers = [NavierStokes2D(Grid.square(16), viscosity=1e-2, interval=0.1) for _ in range(2)]
            assert caplog.messages == []  # not before it matters
            assert [solver.backend for solver in solvers] == ["torch", "torch"]
        assert caplog.messages == ["the solver steps by PyTorch operations, about 3 to 8 times slower than in C++: "
                                   f"{why}; set CXX to a C++ compiler"]  # fmt: skip
        with pytest.raises(ValueError, match=re.escape(f"backend 'native' is not available: {why}") + "$"):
            NavierStokes2D(Grid.square(16), viscosity=1e-2, interval=0.1, backend="native")
    finally:
        forget()


def test_on_a_gpu_nothing_is_said(caplog):
    """The native steps are for a CPU: their absence elsewhere is no loss."""
    assert NavierStokes2D(Grid.square(16), viscosity=1e-2, interval=0.1, device="meta").backend == "torch"
    assert caplog.messages == []


# Reports how often PyTorch's threads are asked for by steps of several trajectories, or of one that is large enough.
LENT = """
import ctypes, torch
from solvers import Grid, NavierStokes2D
from solvers.backends import cpp_library as module
library, asked = module.load_library(), []
pytorch = ctypes.CDLL(torch._C.__file__)
Work = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
Parallel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
Number = ctypes.CFUNCTYPE(ctypes.c_int)
def lend(work, data, count, flags):
    asked.append(count)
    Work(work)(data)  # nobody comes but the one who asks
lent = Parallel(lend), Number(lambda: 0)
for batch, n in ((3, 16), (1, 256)):
    torch.set_num_threads(1)
    solver = NavierStokes2D(Grid.square(n), viscosity=1e-2, interval=0.05, backend="native")
    state = torch.randn(batch, 1, n, n)
    expected = solver(state)
    torch.set_num_threads(2)
    assert torch.equal(solver(state), expected)
    library.lend_threads(*lent)
    assert torch.equal(solver(state), expected)
    library.lend_threads(None, None)
    assert torch.equal(solver(state), expected)
    module._lend_threads(library)
print(*sorted(set(asked)), len(asked) >= 2)
"""


@needs_compiler
def test_a_library_that_is_loaded_is_lent_threads(calls, monkeypatch):
    lent = []
    monkeypatch.setattr(module, "_lend_threads", lent.append)
    assert [again(), again()] == lent  # compiled, and from the cache


@pytest.mark.skipif(not hasattr(ctypes.CDLL(torch._C.__file__), "GOMP_parallel"), reason="PyTorch has another OpenMP")
def test_what_is_lent_are_the_functions_of_pytorch():
    class Library:
        def lend_threads(self, *functions):
            self.lent = [function.value for function in functions]

    module._lend_threads(library := Library())
    pytorch = ctypes.CDLL(torch._C.__file__)
    functions = pytorch.GOMP_parallel, pytorch.omp_get_thread_num
    assert library.lent == [ctypes.cast(function, ctypes.c_void_p).value for function in functions]
    module._lend_threads(object())  # which needs no threads


@needs_compiler
def test_the_threads_are_those_of_pytorch():
    """Steps are computed on the threads of its OpenMP, on new ones without it, and alone if no other thread comes."""
    done = subprocess.run([sys.executable, "-c", LENT], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["2", "True"], done.stderr
