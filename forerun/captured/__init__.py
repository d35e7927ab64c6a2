"""Captured graphs as values and folders: what another program launches, on machines without a GPU, too."""

from __future__ import annotations

from forerun.captured.folder import load_capture, save_capture
from forerun.captured.graph import (
    AssembledText,
    CapturedEdge,
    CapturedFunction,
    CapturedGraph,
    CapturedNode,
    HostSource,
    MemoryRange,
    Transfer,
)

__all__ = [
    "AssembledText",
    "CapturedEdge",
    "CapturedFunction",
    "CapturedGraph",
    "CapturedNode",
    "HostSource",
    "MemoryRange",
    "Transfer",
    "load_capture",
    "save_capture",
]
