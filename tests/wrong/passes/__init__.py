"""Wrong passes: each looks like a real one and lacks a condition. A module a pass, named like it; the laws kill all."""

from __future__ import annotations

import importlib
import pkgutil

from tests.wrong.wrong_pass import WRONG_PASSES, WrongPass

__all__ = ["WRONG_PASSES", "WrongPass"]

for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")
