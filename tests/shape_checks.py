"""Checks, by beartype, of the shapes that annotations of jaxtyping give to arrays, in whatever both packages call."""

import re
from typing import get_args

import jaxtyping

# An int is a float, as everywhere in typed Python.
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
check_annotations = jaxtyping.jaxtyped


def install():
    """Check what is imported from here on."""
    jaxtyping.install_import_hook(["solvers", "fluidsurrogate"], CHECKER)
    jaxtyping.jaxtyped = check_shapes


def check_shapes(*, typechecker):
    """Check the annotations of a function if one of them has an array: mypy knows the others, and calls are many."""

    def decorate(checked):
        annotations = getattr(checked, "__annotations__", {}).values()
        names = getattr(checked, "__globals__", None)
        if names is not None and not any(has_array(annotation, names) for annotation in annotations):
            return checked
        return check_annotations(checked, typechecker=typechecker)

    return decorate


def has_array(annotation, names):
    """Return whether an annotation, with these names around it, has the shape of an array."""
    if isinstance(annotation, str):
        return any(has_array(names.get(word), names) for word in re.findall(r"\w+", annotation))
    module = getattr(annotation, "__module__", None)
    return module == "jaxtyping" or any(has_array(part, names) for part in get_args(annotation))
