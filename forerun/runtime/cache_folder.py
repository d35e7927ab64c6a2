"""Where forerun keeps what it can make or fetch again: models, compiled kernels, dumps, tunings."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["CACHE_VARIABLE", "cache_folder", "tunings_folder"]

CACHE_VARIABLE = "FORERUN_CACHE_DIR"
"""The environment variable that moves the cache folder."""


def cache_folder() -> Path:
    """``$FORERUN_CACHE_DIR``, else a folder of the user's cache."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("forerun", appauthor=False))


def tunings_folder() -> Path:
    """Where ``forerun.tune`` writes what it measured, and ``forerun.compile`` looks for it."""
    return cache_folder() / "tunings"
