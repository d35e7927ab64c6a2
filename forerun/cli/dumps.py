"""Dump folders: where they are if nobody said where."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from itertools import count
from pathlib import Path

__all__ = ["KEPT_RUNS", "new_run_folder"]

KEPT_RUNS = 20
"""So many of the latest runs stay in the cache folder."""

_RUN_NAME = re.compile(r"\d{8}-\d{6}-[\w.-]+-\d+")


def new_run_folder(label: str) -> Path:
    """A new folder among the runs of the cache folder; in the folder for temporary files if that cannot be written.

    Removes the oldest runs.
    """
    from forerun.frontends.fetch import cache_folder

    runs = cache_folder() / "runs"
    stem = re.sub(r"[^\w.-]+", "_", label)[:40] or "run"
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{stem}-{os.getpid()}"
    try:
        runs.mkdir(parents=True, exist_ok=True)
        folder = _made(runs, name)
    except OSError:
        return Path(tempfile.mkdtemp(prefix=f"forerun-{stem}-"))
    _remove_old(runs)
    return folder


def _made(runs: Path, name: str) -> Path:
    """A new folder of that name, numbered where another thread of this process has it already."""
    for number in count():
        folder = runs / (f"{name}-{number}" if number else name)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError("there are infinitely many numbers")


def _remove_old(runs: Path) -> None:
    """Remove all but the latest; their names begin with the time."""
    found = sorted(path for path in runs.iterdir() if path.is_dir() and _RUN_NAME.fullmatch(path.name))
    for path in found[:-KEPT_RUNS]:
        shutil.rmtree(path, ignore_errors=True)
