"""``python -m forerun`` is the command ``forerun``."""

from __future__ import annotations

import sys

from forerun.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
