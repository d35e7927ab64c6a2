"""The command that a new user types, against the best tuned graph: what is lost if nobody knows an option.

``forerun run llama --shape llama-3.2-1b --random-weights --target cuda`` runs in a process of its own, with an empty
cache. The best graph is ``fast`` with the choices of a tuning file (by default what forerun finds by itself), in graphs
of as many steps at the same positions, on the same weights; its logits are compared with those of the graph before all
passes. Needs a GPU.

    python benchmarks/default_run.py --tuning FILE
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import Metric, bootstrap_median, write_result

import forerun
from forerun.cli.decoding import DecodePlan
from forerun.cli.random_values import fill_state
from forerun.frontends.llama_config import shape_named
from forerun.frontends.random_weights import RandomWeights
from forerun.measure.step import step_samples

SHAPE = "llama-3.2-1b"
COMMAND = ["run", "llama", "--shape", SHAPE, "--random-weights", "--target", "cuda"]
REPLAYS = 160
TOLERANCE = 2e-3
"""Relative L2 of logits, between versions that sum in different orders."""


def default_run() -> dict[str, Any]:
    """What the command says."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "FORERUN_CACHE_DIR": cache}
        command = [sys.executable, "-m", "forerun", *COMMAND, "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the command failed: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def best_samples(position: int, steps: int, tuning: str) -> list[float]:
    """Seconds of a step of the tuned graph, in each of several batches."""
    plan = DecodePlan.of("cuda", "fast", None, None, shaped=True)
    config = shape_named(SHAPE)
    graph = plan.graph(config, max(position + steps, 1024), steps)
    inputs = {"token": [1], "position": [position]}
    weights = RandomWeights(config, plan.dtype)
    with forerun.compile(graph, "cuda", None, weights=weights) as plain:
        fill_state(plain)
        expected = plain.run(inputs)
        held = {name: plain.buffer(name) for name in weights}
        with forerun.compile(graph, "cuda", "fast", weights=held, tuning=tuning) as best:
            fill_state(best)
            found = best.run(inputs)
            error = float(np.linalg.norm(found["logits"] - expected["logits"]) / np.linalg.norm(expected["logits"]))
            if not (error < TOLERANCE and np.array_equal(found["next_token"], expected["next_token"])):
                raise SystemExit(
                    f"the tuned graph computes something else (relative L2 {error:.1e}): nothing was timed"
                )
            return [seconds / steps for seconds in step_samples(best, REPLAYS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tuning", default="auto", help="the choices of the best graph")
    options = parser.parse_args()
    told = default_run()
    best = best_samples(told["position"], told["steps_a_graph"], options.tuning)
    default, tuned = (bootstrap_median([1e6 * s for s in samples], "us") for samples in (told["step_seconds"], best))
    ratio = Metric(default.value / tuned.value, "ratio", default.low / tuned.high, default.high / tuned.low)
    metrics = {"cli.default_us": default, "cli.tuned_us": tuned, "cli.default_vs_tuned": ratio}
    details = {"command": COMMAND, "tuning": Path(options.tuning).name, "remarks": _remarks(told)}
    write_result("default_run", metrics, details=details)


def _remarks(told: dict[str, Any]) -> list[str]:
    """What the command's summary says of the tuning."""
    return [
        remark
        for record in told["summary"]["passes"]
        if record["name"] == "apply-tuning"
        for remark in record["remarks"]
    ]


if __name__ == "__main__":
    main()
