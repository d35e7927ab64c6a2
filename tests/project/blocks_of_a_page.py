"""Runs the Python blocks of a page, each alone: in a fork of a process that has imported what takes long.

    python blocks_of_a_page.py FOLDER SCRIPT...

Each script runs in a copy of the folder, as ``__main__``; prints one line of JSON for each: status and what it printed.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

import networkx  # noqa: F401
import numpy  # noqa: F401

import forerun.kernels.fusion_rules  # noqa: F401


def run(folder: Path, script: str) -> None:
    """In the child: the script, as a user runs it."""
    with tempfile.TemporaryDirectory() as copy:
        place = Path(shutil.copytree(folder, Path(copy) / "page"))
        os.chdir(place)
        sys.path[0], sys.argv = str(place), [script]
        runpy.run_path(script, run_name="__main__")


def main() -> None:
    folder, *scripts = sys.argv[1:]
    for script in scripts:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(writing, 1)
            os.dup2(writing, 2)
            os.close(reading)
            status = 1
            with contextlib.suppress(SystemExit):
                try:
                    run(Path(folder), script)
                    status = 0
                except BaseException:
                    traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        os.close(writing)
        with os.fdopen(reading, "rb") as told:
            printed = told.read().decode(errors="replace")
        _, state = os.waitpid(child, 0)
        print(
            json.dumps({"script": script, "status": os.waitstatus_to_exitcode(state), "printed": printed}), flush=True
        )


if __name__ == "__main__":
    main()
