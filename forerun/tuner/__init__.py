"""Tuning in place: choices are tried on the whole graph, and kept if the whole graph becomes faster."""

from forerun.tuner.search import Search, Trial, TuningResult
from forerun.tuner.tune import tune

__all__ = ["Search", "Trial", "TuningResult", "tune"]
