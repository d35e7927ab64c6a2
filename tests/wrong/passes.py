"""Wrong passes: each looks like one of the real ones and lacks a condition. The list is data; the laws must kill all.

The twins of ``tests/passes/twins.py`` are of the same kind; there are more of them here.
"""

from __future__ import annotations

# These three add their passes to the list.
from tests.wrong import edge_passes, hoisting_passes, memory_passes
from tests.wrong.wrong_pass import WRONG_PASSES, WrongPass

__all__ = ["WRONG_PASSES", "WrongPass", "edge_passes", "hoisting_passes", "memory_passes"]
