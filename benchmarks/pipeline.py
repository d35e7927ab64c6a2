"""The pipeline `exact` on decode graphs of growing size, with all its checks; certificates; the package's import."""

from __future__ import annotations

import argparse
import math
import random
import statistics
import subprocess
import sys

from common import Metric, bootstrap_median, timed, write_result

from forerun.frontends.decode import synthetic_decode_graph
from forerun.ir.text import parse_graph, print_graph
from forerun.passes.infra.manager import PassManager
from forerun.passes.instrument import Certify, PassRun, PipelineRun, default_instruments

SIZES = (500, 1000, 2000, 5000, 10000, 20000)
ROUNDS = {500: 15, 1000: 15, 2000: 15, 5000: 7, 10000: 5, 20000: 5}
CERTIFIED = 2000
IMPORT_ROUNDS = 15
RESAMPLES = 2000

# In a new interpreter: the package, and all that it exports; the time is the interpreter's own.
IMPORT = """
import sys, time
start = time.perf_counter()
import forerun
for name in forerun.__all__:
    getattr(forerun, name)
elapsed = time.perf_counter() - start
assert not any(name.split(".")[0] == "cuda" for name in sys.modules), "a driver was touched"
print(elapsed)
"""


def seconds(nodes: int, rounds: int) -> list[float]:
    """Wall seconds of the pipeline `exact`; every round gets a graph of its own, of which nothing is known yet."""
    text = print_graph(synthetic_decode_graph(nodes))
    found = []
    for _ in range(rounds):
        graph = parse_graph(text)
        manager = PassManager("exact")
        found.append(timed(lambda graph=graph, manager=manager: manager.run(graph)))
    return found


class TimedCertify(Certify):
    """Adds up the time of the certificates, of all passes and of the result."""

    seconds = 0.0

    def after_pass(self, run: PipelineRun, step: PassRun) -> None:
        self.seconds += timed(lambda: super(TimedCertify, self).after_pass(run, step))


def certify_seconds(nodes: int, rounds: int) -> list[float]:
    """Seconds of the certificates in the pipeline `exact`."""
    text = print_graph(synthetic_decode_graph(nodes))
    found = []
    for _ in range(rounds):
        certify = TimedCertify()
        others = [instrument for instrument in default_instruments() if not isinstance(instrument, Certify)]
        result = PassManager("exact", [*others, certify]).run(parse_graph(text))
        assert all(record.verdict in ("proved", "unchanged") for record in result.summary.passes)
        found.append(certify.seconds)
    return found


def exponent(times: dict[int, float]) -> float:
    """The slope of the least-squares line through the logarithms of size and time."""
    return statistics.linear_regression([math.log(n) for n in times], [math.log(t) for t in times.values()]).slope


def growth(samples: dict[int, list[float]]) -> Metric:
    """The exponent of the medians, with its bootstrap interval."""
    chooser = random.Random(0)
    slopes = sorted(
        exponent({n: statistics.median(chooser.choices(times, k=len(times))) for n, times in samples.items()})
        for _ in range(RESAMPLES)
    )
    value = exponent({n: statistics.median(times) for n, times in samples.items()})
    return Metric(value, "1", slopes[int(0.025 * RESAMPLES)], slopes[int(0.975 * RESAMPLES) - 1])


def import_seconds(rounds: int) -> list[float]:
    """Seconds of the import in new interpreters, after one to warm the disk cache."""
    command = [sys.executable, "-c", IMPORT]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(rounds + 1)]
    return [float(run.stdout) for run in runs[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, help="rounds for each size (default: 15 for small ones, 5 for large)")
    arguments = parser.parse_args()
    samples = {size: seconds(size, arguments.rounds or ROUNDS[size]) for size in SIZES}
    metrics = {f"pipeline.nodes_{size}_s": bootstrap_median(times, "s") for size, times in samples.items()}
    rounds = arguments.rounds or ROUNDS[CERTIFIED]
    metrics[f"certify.nodes_{CERTIFIED}_s"] = bootstrap_median(certify_seconds(CERTIFIED, rounds), "s")
    metrics["pipeline.growth_exponent"] = growth(samples)
    metrics["import_s"] = bootstrap_median(import_seconds(IMPORT_ROUNDS), "s")
    write_result("pipeline", metrics)


if __name__ == "__main__":
    main()
