"""How long the tests take on this machine: the README's command (without its installation), and the quick profile."""

from __future__ import annotations

import subprocess
import sys
import time

from common import Metric, write_result

RUNS = {"tests.seconds": (), "tests.quick_seconds": ("--quick",)}


def seconds(*options: str) -> float:
    """Seconds of ``pytest -n auto`` with some options, which must pass."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "pytest", "-n", "auto", "-q", *options], check=False)
    if done.returncode != 0:
        raise SystemExit(f"the tests failed ({done.returncode}): no time is recorded")
    return time.perf_counter() - began


def main() -> None:
    """One run of each: what matters is minutes."""
    found = {name: seconds(*options) for name, options in RUNS.items()}
    write_result("tests", {name: Metric(value, "s", value, value) for name, value in found.items()})


if __name__ == "__main__":
    main()
