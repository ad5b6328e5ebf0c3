"""Diagnostics as xarray: typed, with units, over all dims."""

import numpy as np
import pytest

from fluidsurrogate import UsageError, diagnostics
from solvers import velocity


def test_all_dims_alike(trained):
    data, _ = trained
    full = diagnostics.add(data)
    assert set(diagnostics.DIAGNOSTICS) < set(full.data_vars)
    assert full["velocity"].dims == ("trajectory", "time", "component", "y", "x")
    assert full["velocity"].attrs["tensor_order"] == 1
    assert full["pressure"].attrs["units"] == "m2 s-2"
    import torch

    from fluidsurrogate.dataset import grid_of

    one = torch.from_numpy(data["vorticity"].values[2, 3])[None, None]
    np.testing.assert_allclose(full["velocity"][2, 3], velocity(one, grid_of(data))[0], atol=1e-6)
    snapshot = diagnostics.add(data.isel(trajectory=2, time=3), "velocity")
    np.testing.assert_allclose(snapshot["velocity"], full["velocity"][2, 3], atol=1e-6)


def test_what_cannot_be_had(trained):
    data, _ = trained
    with pytest.raises(UsageError, match="unknown diagnostic 'colour'; one of velocity"):
        diagnostics.add(data, "colour")
    with pytest.raises(UsageError, match="no variable 'vorticity'"):
        diagnostics.add(data.rename(vorticity="omega"))
