"""The command line: ``forerun COMMAND ...``.

Importing this package is quick, so that Ctrl-C has its message and its status from the first moment.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default that of the process, and return the exit status."""
    try:
        from forerun.cli.app import run_command

        return run_command(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        return 130
