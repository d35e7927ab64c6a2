"""Functions that host nodes of the tests call."""

from __future__ import annotations

from typing import Any

import numpy as np

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
