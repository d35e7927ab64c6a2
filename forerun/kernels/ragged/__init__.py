"""Kernels over the rows of a ragged batch: how many rows there are is read from device memory.

A graph is captured once for a capacity. :mod:`~forerun.kernels.ragged.batch_rows` counts the rows of the batch that a
replay has, and says where each stands; the others work on as many rows, and CTAs of further rows end at once. Nothing
that is computed for a row depends on the other rows, bit by bit.
"""

from __future__ import annotations
