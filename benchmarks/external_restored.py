"""A saved capture, run again without its program: what each choice for all functions takes, and what a search finds.

Memory begins as zeros, except for large blocks, which get random bf16 numbers; so results mean nothing, and only times
of the same graph are compared. What the numbers of the program itself are, external_zoo.py measures.

    python benchmarks/external_restored.py FOLDER --seconds 60 --output FILE
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import origin

import forerun
from forerun.runtime.cache_folder import CACHE_VARIABLE
from forerun.runtime.cuda.capture.restored import RestoredCapture

LARGE = 1 << 20


def fill(live: RestoredCapture, folder: Path) -> None:
    """Random numbers of a weight's size into large blocks of an allocator; the others may hold indices."""
    import ml_dtypes
    import numpy as np

    from forerun.captured import load_capture

    generator = np.random.default_rng(0)
    part = (0.02 * generator.standard_normal(LARGE // 2)).astype(ml_dtypes.bfloat16).tobytes()
    for memory in load_capture(folder).memory:
        if memory.kind == "device" and not memory.whole and memory.size >= LARGE:
            for at in range(0, memory.size, LARGE):
                live.write(memory.address + at, part[: min(LARGE, memory.size - at)])


def measured(folder: Path, seconds: float) -> dict[str, Any]:
    """Microseconds of a replay, by order and choice, for all functions; and of the best that was found."""
    with forerun.restore(folder, elsewhere=True) as live:
        fill(live, folder)
        with forerun.optimize(live, limit_s=seconds) as optimized:
            found = optimized.search
            assert found is not None
            uniform = {
                f"{one.order}: {one.choice.target}, trigger {one.choice.trigger}": 1e6 * one.seconds
                for one in found.trials
                if one.function < 0
            }
            print(optimized)
            return {
                "nodes": len(live.graph.nodes), "machine": dict(live.graph.machine), "us": uniform,
                "best_us": 1e6 * found.seconds, "order": found.order, "trials": len(found.trials),
                "choices": {number: f"{one.target}, {one.trigger}" for number, one in found.choices.items()},
                "reasons": dict(optimized.unfit),
            }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0, help="of search")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="forerun-") as cache:
        os.environ[CACHE_VARIABLE] = cache  # what was found before is not to be remembered
        found = {**origin(), **measured(arguments.folder, arguments.seconds)}
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(found, indent=1) + "\n")
    for name, time in [*found["us"].items(), ("best", found["best_us"])]:
        print(f"  {name:44} {time:9.1f} us")


if __name__ == "__main__":
    main()
