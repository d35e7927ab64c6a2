"""What all benchmarks share: A B B A pairs, bootstrap intervals, and the result files in benchmarks/results."""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

__all__ = [
    "Metric",
    "abba",
    "bootstrap_median",
    "bootstrap_median_ratio",
    "commit",
    "gpu",
    "machine",
    "timed",
    "write_result",
]

_ROOT = Path(__file__).resolve().parent.parent
_RESULTS = _ROOT / "benchmarks" / "results"
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured value with its 95 % interval."""

    value: float
    unit: str
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4g} {self.unit} (95 %: {self.low:.4g} to {self.high:.4g})"


def timed(run: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def abba(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[list[float], list[float]]:
    """Time two things in the order A B B A, ``rounds`` times, after one run of each to warm up.

    Drift that is linear in time falls out of each round. Returns the mean seconds of each, a round an entry.
    """
    first()
    second()
    a_seconds, b_seconds = [], []
    for _ in range(rounds):
        a1, b1, b2, a2 = timed(first), timed(second), timed(second), timed(first)
        a_seconds.append((a1 + a2) / 2)
        b_seconds.append((b1 + b2) / 2)
    return a_seconds, b_seconds


def bootstrap_median(samples: Sequence[float], unit: str) -> Metric:
    """The median with its percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13); seeded."""
    chooser = random.Random(0)
    medians = sorted(statistics.median(chooser.choices(samples, k=len(samples))) for _ in range(_RESAMPLES))
    low, high = medians[int(0.025 * _RESAMPLES)], medians[int(0.975 * _RESAMPLES) - 1]
    return Metric(statistics.median(samples), unit, low, high)


def bootstrap_median_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Metric:
    """The median of the ratios of paired samples, with its interval."""
    ratios = [a / b for a, b in zip(numerators, denominators, strict=True)]
    return bootstrap_median(ratios, "ratio")


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


def write_result(name: str, metrics: Mapping[str, Metric], folder: Path = _RESULTS) -> Path:
    """Write ``benchmarks/results/NAME.json``, and print what it says."""
    result = {
        "name": name,
        "commit": commit(),
        "machine": machine(),
        **gpu(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "metrics": {key: asdict(metric) for key, metric in metrics.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    for key, metric in metrics.items():
        print(f"{key}: {metric}")
    return path
