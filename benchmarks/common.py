"""What all benchmarks share: A B B A pairs, bootstrap intervals, and the result files in benchmarks/results."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from forerun.measure.statistics import Metric, abba, bootstrap_median, bootstrap_median_ratio, paired, timed

__all__ = [
    "Metric",
    "abba",
    "bootstrap_median",
    "bootstrap_median_ratio",
    "commit",
    "gpu",
    "machine",
    "origin",
    "paired",
    "timed",
    "write_result",
]

_ROOT = Path(__file__).resolve().parent.parent
_RESULTS = _ROOT / "benchmarks" / "results"


def machine() -> str:
    """The processor, the number of cores that this process may use, the system, and the versions that matter."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{platform.system()} {platform.machine()}"
    return f"{_processor()}, {cores} cores, {system}, Python {platform.python_version()}, NumPy {version('numpy')}"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown processor"


def gpu() -> dict[str, str]:
    """``gpu`` and ``driver`` of the first GPU; empty where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return {}
    query = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader", "--id=0"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    name, _, driver = answer.stdout.strip().partition(", ")
    return {"gpu": name, "driver": driver} if answer.returncode == 0 and driver else {}


def commit() -> str:
    """The commit of the working tree, with ``-dirty`` if the tree differs from it.

    ``FORERUN_COMMIT`` says it where a copy of the tree without its history is measured.
    """
    if "FORERUN_COMMIT" in os.environ:
        return os.environ["FORERUN_COMMIT"]
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


def origin() -> dict[str, str]:
    """Of which commit something is, and where and when it was measured."""
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"commit": commit(), "machine": machine(), **gpu(), "date": date}


def write_result(
    name: str, metrics: Mapping[str, Metric], folder: Path = _RESULTS, details: Mapping[str, object] | None = None
) -> Path:
    """Write ``benchmarks/results/NAME.json``, and print what it says; ``details`` stand beside the metrics."""
    numbers = {key: asdict(metric) for key, metric in metrics.items()}
    result = {"name": name, **origin(), "metrics": numbers, **(details or {})}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    for key, metric in metrics.items():
        print(f"{key}: {metric}")
    return path
