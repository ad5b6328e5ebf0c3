"""Docstrings that overriding methods take over from what they override."""

from __future__ import annotations


class InheritDocstrings:
    """Base of classes whose overriding methods and properties may do without a docstring.

    An override that has none takes over that of the method or property it overrides, so that `help` and the
    documentation show it, and the contract is written once. Whoever does something worth saying has its own.
    """

    def __init_subclass__(cls, **keywords: object) -> None:
        super().__init_subclass__(**keywords)
        for name, member in vars(cls).items():
            own = getattr(member, "__func__", member)  # of a class method
            if name.startswith("_") or not (callable(own) or isinstance(own, property)) or own.__doc__:
                continue
            inherited = (vars(base)[name].__doc__ for base in cls.__mro__[1:] if name in vars(base))
            own.__doc__ = next((text for text in inherited if text), None)
