"""What training recorded of a model's forecasts in bfloat16, and the warning that follows from it."""

from __future__ import annotations

from fluidsurrogate.models.regridding import APPLIED_TO_GRID
from fluidsurrogate.models.surrogate import Surrogate

# Keys of `Surrogate.about`: a sentence, and the greatest ratio over the leads of the errors in bfloat16 and in full
# precision, which is missing if the errors are not finite.
BFLOAT16_CHECK, BFLOAT16_ERROR_RATIO = "bfloat16_check", "bfloat16_error_ratio"
MAX_ERROR_RATIO = 1.05  # up to which there is no warning


def bfloat16_warning(model: Surrogate) -> str | None:
    """Return the warning with which a forecast in bfloat16 begins.

    Parameters
    ----------
    model : Surrogate
        The trained model.

    Returns
    -------
    str or None
        One line; None if training has recorded that the error grows by at most 5 % on this grid.
    """
    name, check = model.about.get("name", "the model"), model.about.get(BFLOAT16_CHECK)
    if not isinstance(check, str):
        return f"{name}: no record says how much its error grows in bfloat16; compare with a forecast in full precision"
    if APPLIED_TO_GRID in model.about:
        return f"{name}: bfloat16 was checked on the grid of its training only, not on this one"
    ratio = model.about.get(BFLOAT16_ERROR_RATIO)
    if isinstance(ratio, int | float) and ratio <= MAX_ERROR_RATIO:
        return None
    if not isinstance(ratio, int | float):
        return f"{name}: no error in bfloat16 is known: {check}"
    return f"{name}: its error grows by more than {MAX_ERROR_RATIO - 1:.0%} in bfloat16: {check}"
