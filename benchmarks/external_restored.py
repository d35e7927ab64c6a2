"""A saved capture, run again without its program: what optimize makes of it, and whether it leaves the same bytes.

Memory begins as zeros, except for large blocks, which get random bf16 numbers. So results mean nothing; but all memory
must be the same after a replay of the graph as it was captured, and of what optimize made of it. What becomes of the
program itself, external_zoo.py measures.

    python benchmarks/external_restored.py FOLDER --seconds 60 --output FILE
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import origin
from external_common import OWN, Program, bytes_at, compared, locked, ratios, table, timed

import forerun
from forerun.captured.graph import MemoryRange
from forerun.external.written import written_memory
from forerun.frontends.captured import import_capture
from forerun.runtime.cache_folder import CACHE_VARIABLE

LARGE = 1 << 20
CACHE = 1 << 16
"""Written blocks of this size and more, in bytes, are filled with random numbers in each compared step."""
PIPELINES = {"untouched clone": "", "wait at entry": "insert-pdl"}


def is_large(memory: MemoryRange, least: int) -> bool:
    """Whether it is a large block of an allocator: no indices lie there."""
    return memory.kind == "device" and not memory.whole and memory.size >= least


def fill(memory: MemoryRange, generator: Any) -> None:
    """Random numbers of a weight's size."""
    import torch

    bytes_at(memory.address, memory.size // 2 * 2).view(torch.bfloat16).normal_(0, 0.02, generator=generator)


def program(live: Any, name: str) -> Program:
    """The restored graph; each step has other numbers in the larger blocks that it writes."""
    import torch

    for memory in live.graph.memory:
        if is_large(memory, LARGE):
            fill(memory, torch.Generator("cuda").manual_seed(memory.size))
    written = list(written_memory(import_capture(live.graph)))

    def refresh(seed: int) -> None:
        generator = torch.Generator("cuda").manual_seed(seed)
        for memory in written:
            if is_large(memory, CACHE):
                fill(memory, generator)

    return Program(name, live, live.replay, refresh, written=[bytes_at(one.address, one.size) for one in written])


def prepared(live: Any) -> float:
    """Seconds for the code of all choices, which is kept: others may have the GPU meanwhile."""
    from forerun.external.measured import make_code_of_choices

    begin = time.perf_counter()
    make_code_of_choices(live, import_capture(live.graph))
    return time.perf_counter() - begin


def measured(one: Program, seconds: float, steps: int) -> dict[str, Any]:
    """What optimize finds, how long it takes, how fast that is, and in how many steps some byte differs."""
    begin = time.perf_counter()
    optimized = forerun.optimize(one.live, limit_s=seconds)
    cold = time.perf_counter() - begin
    begin = time.perf_counter()
    again = forerun.optimize(one.live)
    remembered = time.perf_counter() - begin
    found = optimized.search
    assert found is not None
    print(optimized, f"optimize: {cold:.1f} s, remembered: {remembered:.2f} s", sep="\n", flush=True)
    graphs = {name: forerun.optimize(one.live, pipeline=text) for name, text in PIPELINES.items()}
    graphs |= {"measured": optimized, "measured, made again": again}
    wrong = compared(one, {name: graph.replay for name, graph in graphs.items()}, steps)
    times = timed({OWN: (one, one.replay)} | {name: (one, graph.replay) for name, graph in graphs.items()})
    print(table(times, OWN, wrong), flush=True)
    choices = Counter(f"{choice.target}, trigger {choice.trigger}" for choice in found.choices.values())
    return {
        "nodes": len(one.live.graph.nodes), "machine": dict(one.live.graph.machine), "optimize_s": cold,
        "remembered_s": remembered, "order": found.order, "choices": dict(choices), "trials": len(found.trials),
        "best_us": 1e6 * found.seconds, "best_of_common_choices_us": 1e6 * found.begin,
        "common_us": {
            f"{trial.order}: {trial.choice.target}, trigger {trial.choice.trigger}": 1e6 * trial.seconds
            for trial in found.trials
            if trial.function == -1
        },
        "new_code": len(optimized.made), "unfit": dict(optimized.unfit), "steps": steps, "wrong": wrong,
        "early_loads": sum(code.early_loads for code in optimized.made.values()),
        "prefetches": sum(code.prefetches for code in optimized.made.values()),
        "edges": {str(kind): count for kind, count in optimized.graph.count_dependencies().items() if count},
        "us": times, "ratios": ratios(times, OWN),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0, help="of search")
    parser.add_argument("--steps", type=int, default=20, help="compared steps")
    parser.add_argument("--lock", type=Path, help="a file that is locked while the GPU is measured")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    import torch

    torch.cuda.init()  # its ptxas is one of those that may have made the images
    with tempfile.TemporaryDirectory(prefix="forerun-") as cache:
        os.environ[CACHE_VARIABLE] = cache  # what was found before is not to be remembered
        with forerun.restore(arguments.folder, elsewhere=True) as live:
            one = program(live, arguments.folder.name)
            found: dict[str, Any] = {**origin(), "remarks": list(live.graph.remarks), "code_s": prepared(live)}
            print(f"{live}; code of all choices: {found['code_s']:.1f} s", flush=True)
            with locked(arguments.lock, alone=True):
                found |= measured(one, arguments.seconds, arguments.steps)
            if arguments.output is not None:
                arguments.output.write_text(json.dumps(found, indent=1, default=str) + "\n")
            sys.stdout.flush()
            os._exit(0)  # what optimize made and what it is made of are given back in no order


if __name__ == "__main__":
    main()
