"""Tuning in place: choices are tried on the whole graph, and kept if the whole graph becomes faster."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from forerun.tuner.tune import tune

if TYPE_CHECKING:
    from forerun.tuner.search import Search, Trial, TuningResult

__all__ = ["Search", "Trial", "TuningResult", "tune"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module("forerun.tuner.search"), name)
