"""Tuning in place: choices are tried on the whole graph, and kept if the whole graph becomes faster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forerun.support.lazy import lazy_exports
from forerun.tuner.tune import tune

if TYPE_CHECKING:
    from forerun.tuner.search import Search, Trial, TuningResult

__all__ = ["Search", "Trial", "TuningResult", "tune"]

__getattr__ = lazy_exports(__name__, dict.fromkeys(("Search", "Trial", "TuningResult"), "forerun.tuner.search"))
