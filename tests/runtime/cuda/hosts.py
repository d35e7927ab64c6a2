"""Functions that host nodes of the tests call."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

SLOW_NS = 2_000_000

program: Any = None
"""What :func:`runs_a_program` and :func:`launches_a_program` use."""


def negative(x: np.ndarray) -> np.ndarray:
    return -x


def fail(x: np.ndarray) -> np.ndarray:
    if x[0] == 13:
        raise ValueError("thirteen")
    return x


def runs_a_program(x: np.ndarray) -> np.ndarray:
    return x + program.run({"x": x})["y"]


def launches_a_program(x: np.ndarray) -> np.ndarray:
    program.launch()
    return x


def reports_like_torch(x: np.ndarray) -> np.ndarray:
    raise RuntimeError("CUDA error: operation not permitted")


def slow(x: np.ndarray) -> np.ndarray:
    time.sleep(SLOW_NS / 1e9)
    return x
