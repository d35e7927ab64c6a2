"""Costs from measurements: a straight line through the times of items, for each kind of tile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from forerun.schedules.tasks import Costs
from forerun.support.diagnostics import InvalidInput

__all__ = ["fitted_costs"]

_STEPS = 64
"""The cost of the cheapest block, in units: costs are integers, and this rounds them by less than a hundredth."""


def fitted_costs(samples: Mapping[int, Sequence[tuple[int, float]]]) -> dict[int, Costs]:
    """The costs of each kind of tile, by least squares of the relative errors.

    Args:
        samples: For each kind, pairs of the blocks of an item and the time that it took, in one unit of time for all
            kinds.

    Returns:
        Costs whose ratios are those of the times; the cheapest block costs 64.

    Raises:
        InvalidInput: If a kind has samples of fewer than two numbers of blocks, a number is not positive and finite,
            longer items do not take more time, or the costs differ by too much for integers below 2^16.

    Example:
        >>> fitted_costs({16: [(1, 3.0), (4, 6.0)], 128: [(1, 4.0), (4, 10.0)]})
        {16: Costs(fixed=128, per_block=64), 128: Costs(fixed=128, per_block=128)}
    """
    lines = {kind: _line(kind, pairs) for kind, pairs in samples.items()}
    if not lines:
        raise InvalidInput("calibration: there are no samples")
    unit = min(per_block for _, per_block in lines.values()) / _STEPS
    return {kind: Costs(round(fixed / unit), round(per_block / unit)) for kind, (fixed, per_block) in lines.items()}


def _line(kind: int, pairs: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """The fixed time and the time of a block; a fixed time below 0 is 0."""
    blocks, times = (np.array([pair[i] for pair in pairs], np.float64) for i in range(2))
    if len(set(blocks.tolist())) < 2:
        raise InvalidInput(f"calibration: tile {kind} needs samples of two numbers of blocks or more")
    if not (np.isfinite(times).all() and (times > 0).all() and (blocks > 0).all()):
        raise InvalidInput(f"calibration: blocks and times of tile {kind} must be positive and finite")
    # Each equation is divided by its time, so that errors are relative ones.
    table = np.stack((1 / times, blocks / times), axis=1)
    fixed, per_block = np.linalg.lstsq(table, np.ones(len(times)), rcond=None)[0]
    if fixed < 0:
        slopes = blocks / times
        fixed, per_block = 0.0, slopes.sum() / (slopes**2).sum()
    if per_block <= 0:
        raise InvalidInput(f"calibration: items of tile {kind} do not take more time if they are longer")
    return float(fixed), float(per_block)
