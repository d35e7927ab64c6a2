"""Exit statuses; all commands use the same."""

from __future__ import annotations

import enum

__all__ = ["Status"]


class Status(enum.IntEnum):
    """What the process returns. The first five are part of the interface; the others follow the shell's habit."""

    OK = 0
    """Done, or proved."""
    REFUTED = 1
    """A graph or a rewrite was shown to be wrong."""
    BAD_INPUT = 2
    """The command line, a file or a graph is wrong."""
    UNSUPPORTED = 3
    """It cannot be done here, or not be decided."""
    INTERNAL = 4
    """forerun, or a pass, misbehaved."""
    INTERRUPTED = 130
    """Ctrl-C."""
    BROKEN_PIPE = 141
    """Whoever reads the output has left."""
