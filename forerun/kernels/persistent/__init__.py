"""Persistent kernels over ragged batches: a schedule is made on the device, in the graph, and one kernel works it off.

``forerun.schedules`` says what a schedule is, and computes both in NumPy; see docs/schedules.md.
"""

from __future__ import annotations

__all__: list[str] = []
