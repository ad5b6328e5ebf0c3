"""The control of all tests: arrays of another shape are refused under test, wherever an annotation gives one."""

import jaxtyping
import pytest
import torch
from shape_checks import has_array

from fluidsurrogate.nn.layers import group_action
from solvers import array_types, spectra


def test_another_shape_is_refused():
    field = torch.zeros(2, 1, 8, 8)
    assert spectra.energy_spectrum(field, (1.0, 1.0)).shape[0] == 2
    with pytest.raises(jaxtyping.TypeCheckError):
        spectra.energy_spectrum(field[0, 0, 0], (1.0, 1.0))


def test_annotations_with_an_array_are_found():
    names = {**vars(array_types), **vars(group_action)}
    for annotation in ("State", "Feature", "tuple[int, State] | None", 'Float[Tensor, "batch"]', array_types.State):
        assert has_array(annotation, names), annotation
    for annotation in ("Tensor", "Inputs", "Sequence[int]", "Group | None", int):
        assert not has_array(annotation, names), annotation
