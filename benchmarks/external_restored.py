"""A saved capture, run again without its program: what each choice for all functions takes, and what a search finds.

Memory begins as zeros, except for large blocks, which get random bf16 numbers. So results mean nothing; but all memory
must be the same after a replay of the graph as it was captured, and of the best. What becomes of the program itself,
external_zoo.py measures.

    python benchmarks/external_restored.py FOLDER --seconds 60 --output FILE
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import origin

import forerun
from forerun.captured import CapturedGraph, load_capture
from forerun.captured.graph import digest_of
from forerun.runtime.cache_folder import CACHE_VARIABLE
from forerun.runtime.cuda.capture.restored import RestoredCapture

LARGE = 1 << 20


def reset(live: RestoredCapture, captured: CapturedGraph) -> None:
    """Random numbers of a weight's size in large blocks of an allocator, and zeros elsewhere, where indices may lie."""
    import ml_dtypes
    import numpy as np

    generator = np.random.default_rng(0)
    numbers = (0.02 * generator.standard_normal(LARGE // 2)).astype(ml_dtypes.bfloat16).tobytes()
    for memory in captured.memory:
        is_large = memory.kind == "device" and not memory.whole and memory.size >= LARGE
        part = numbers if is_large else bytes(LARGE)
        for at in range(0, memory.size, LARGE):
            live.write(memory.address + at, part[: min(LARGE, memory.size - at)])


def left_by(replay: Callable[[], None], live: RestoredCapture, captured: CapturedGraph) -> list[str]:
    """A digest of each block of memory after a replay from the same beginning."""
    reset(live, captured)
    replay()
    return [digest_of(live.read(memory.address, memory.size)) for memory in captured.memory]


def measured(folder: Path, seconds: float) -> dict[str, Any]:
    """Microseconds of a replay, by order and choice, for all functions; and of the best that was found."""
    captured = load_capture(folder)
    with forerun.restore(captured, elsewhere=True) as live:
        reset(live, captured)
        with forerun.optimize(live, limit_s=seconds) as optimized:
            print(optimized)
            found = optimized.search
            assert found is not None
            own, changed = (left_by(one.replay, live, captured) for one in (live, optimized))
            uniform = {
                f"{one.order}: {one.choice.target}, trigger {one.choice.trigger}": 1e6 * one.seconds
                for one in found.trials
                if one.function < 0
            }
            return {
                "nodes": len(live.graph.nodes), "machine": dict(live.graph.machine), "us": uniform,
                "best_us": 1e6 * found.seconds, "order": found.order, "trials": len(found.trials),
                "choices": {number: f"{one.target}, {one.trigger}" for number, one in found.choices.items()},
                "unfit": dict(optimized.unfit), "blocks": len(own),
                "blocks_that_differ": sum(a != b for a, b in zip(own, changed, strict=True)),
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
    print(f"{found['blocks_that_differ']} of {found['blocks']} blocks of memory differ after a replay of the best")
    for name, time in [*found["us"].items(), ("best", found["best_us"])]:
        print(f"  {name:44} {time:9.1f} us")


if __name__ == "__main__":
    main()
