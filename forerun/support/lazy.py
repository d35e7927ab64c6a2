"""Names of a package that load on first use (PEP 562), so that an import takes no longer than what it is for needs."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["loader"]


def loader(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package.

    No name may be that of a submodule: importing that one would put it in the name's place.

    Args:
        package: Its name.
        modules: Where each name is defined.

    Example:
        >>> load = loader("numbers", {"Fraction": "fractions"})
        >>> load("Fraction")(1, 2)
        Fraction(1, 2)
    """

    def load(name: str) -> Any:
        module = modules.get(name)
        if module is None:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(importlib.import_module(module), name)

    return load
