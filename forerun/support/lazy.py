"""Lazy package attributes (PEP 562), so that importing a package stays fast."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["lazy_exports"]


def lazy_exports(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package, from the module that defines each name.

    A name whose module is the package's submodule of that name stands for the submodule itself. No other name may be
    that of a submodule: importing that one would put it in the name's place.

    Example:
        >>> load = lazy_exports("numbers", {"Fraction": "fractions"})
        >>> load("Fraction")(1, 2)
        Fraction(1, 2)
    """

    def load(name: str) -> Any:
        module = modules.get(name)
        if module is None:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        found = importlib.import_module(module)
        return found if module == f"{package}.{name}" else getattr(found, name)

    return load
