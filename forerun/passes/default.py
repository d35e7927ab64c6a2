"""The default pipeline, in order, and why in this order."""

from __future__ import annotations

__all__ = ["DEFAULT_PIPELINE"]

DEFAULT_PIPELINE = ",".join(
    [
        # Streams order everything; only hazards need an order. First, since the others work on dependencies.
        "infer-dependencies",
        # Waits and triggers go in before anything is moved ahead of a wait.
        "insert-pdl",
        # Needs to know which dependencies are still full: those are complete when the kernel starts.
        "hoist-loads",
        # Last: the others add and strengthen dependencies; what is implied is known only then.
        "reduce-edges",
    ]
)
