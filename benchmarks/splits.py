"""Figures of splits on a GPU: what borders cost, and what overlaps, on layers of gpt-oss-20b's shapes.

    python -m benchmarks.splits [--small] [--target reference] [--parts borders,undone]

Experts of all device layers are one set of weights, and those of all host layers another one, so that 24 layers fit any
machine; four experts of a layer are 200 MB, which no cache keeps. The baseline is the same program, launched split by
split with a synchronization in between (``cuda{splits=synchronous}``). Each part prints its lines and goes on after a
failure; the table comes last.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import numpy as np

import forerun
from benchmarks.common import Metric, bootstrap_median, bootstrap_median_ratio, write_result
from benchmarks.split_models import LLAMA_1B, LLAMA_8B, SMALL, Layers, Shapes, decode_step, model, weights_of
from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode
from forerun.ir.types import BufferRole, DType
from forerun.kernels import add
from forerun.kernels.shapes import elementwise_launch
from forerun.passes.infra.manager import PassManager
from forerun.passes.splits.order import splits
from forerun.runtime.cuda.measured_splits import ROUNDS
from forerun.runtime.dtypes import numpy_dtype
from forerun.runtime.native import native_call
from forerun.runtime.native.build import library
from forerun.runtime.native.kernels import _pool

PLACED = 'place{host="host.*"},splits'
FETCHED = 'place{stream="device.*_exps"},fuse-splits{direct="device.*_exps"},insert-pdl,hoist-loads,reduce-edges'


class Bench:
    """Programs on a target, and their times."""

    def __init__(self, target: str, shapes: Shapes, repeats: int, seconds: float = 60.0) -> None:
        self.target, self.shapes, self.repeats, self.seconds = target, shapes, repeats, seconds
        self.metrics: dict[str, Metric] = {}
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        print(line, flush=True)
        self.lines.append(line)

    def program(self, graph: Graph, passes: str, mode: str) -> Any:
        """A program, whose graph is launched in one of the ways."""
        target = self.target if self.target != "cuda" else f"cuda{{splits={mode},prove=false}}"
        return forerun.compile(graph, target, pipeline=passes, weights=weights_of(graph))

    def step(self, program: Any, graph: Graph) -> Callable[[], object]:
        """What runs one step and waits; inputs and outputs stay where they are."""
        given = [b for b in graph.buffers.values() if b.role is BufferRole.INPUT]
        inputs = {b.name: np.ones(b.shape, numpy_dtype(b.dtype)) for b in given}
        ways = getattr(program._program, "_measured", None)
        for _ in range(4 if ways is None else WAYS * ROUNDS + 1):
            program.run(inputs)
        if ways is not None:
            best = {name: f"{1e6 * min(seconds[1:]):.0f}" for name, seconds in ways._seconds.items()}
            self.say(f"  {graph.name}: {ways.chosen} of {best}")
        if self.target != "cuda":
            return lambda: program.run(inputs)

        def once() -> None:
            program.launch()
            program.synchronize()

        return once

    def samples(self, steps: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
        """Microseconds of each of some steps, by turns there and back."""
        found: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(self.repeats):
            for name in (*steps, *reversed(steps)):
                begin = time.perf_counter()
                steps[name]()
                found[name].append(1e6 * (time.perf_counter() - begin))
        return found


MODES = ("graph", "signals", "plans", "synchronous", "measured")
WAYS = len(MODES) - 1
OURS = "measured"
"""What the metrics are of; the three others are told."""
HOST_LAYERS = (1, 2, 4, 6, 8, 12)


def borders(bench: Bench) -> None:
    """``splits.border_us``, ``.border_share``, ``.vs_critical_path``, ``.worst_ratio`` over placements."""
    plain = device_time = alone = 0.0
    worst: list[float] = []
    paths: list[Metric] = []
    for count in (0, *HOST_LAYERS):
        if count > bench.shapes.layers:
            continue
        graph = model(bench.shapes, count)
        programs = {mode: bench.program(graph, PLACED if count else "exact", mode) for mode in MODES}
        found = bench.samples({mode: bench.step(program, graph) for mode, program in programs.items()})
        for program in programs.values():
            program.close()
        middle = {mode: statistics.median(times) for mode, times in found.items()}
        bench.say(f"{count} host layers: " + ", ".join(f"{mode} {t:.0f} us" for mode, t in middle.items()))
        if not count:
            plain = middle[OURS]
            alone, device_time = host_layer_us(bench), expert_device_us(bench)
            bench.say(f"experts of a layer, alone: {alone:.0f} us on the host, {device_time:.0f} us on the device")
            continue
        host_time = host_step_us(bench, graph) if bench.target == "cuda" else count * alone
        own = plain + host_time - count * device_time
        exposed, synchronous = ((middle[mode] - own) / count for mode in (OURS, "synchronous"))
        bench.say(f"  border: {exposed:.1f} us, synchronous {synchronous:.1f} us, own times {own:.0f} us")
        worst.append(middle["synchronous"] / middle[OURS])
        if count in (1, 4, 8):
            paths.append(bootstrap_median([t / own for t in found[OURS]], "1"))
        if count == 8:
            bench.metrics["splits.border_us"] = bootstrap_median([(t - own) / count for t in found[OURS]], "us")
            share = [(t - own) / max(s - own, 1e-3) for t, s in zip(found[OURS], found["synchronous"], strict=True)]
            bench.metrics["splits.border_share"] = bootstrap_median(share, "1")
    if worst:
        bench.metrics["splits.worst_ratio"] = Metric(min(worst), "1", min(worst), max(worst))
        bench.metrics["splits.vs_critical_path"] = max(paths, key=lambda metric: metric.value)


def only_experts(bench: Bench, kind: str) -> Graph:
    """The experts of one layer, of one of the sets."""
    layers = Layers(f"only_{kind}", bench.shapes)
    x = layers.builder.input("x", DType.F32, (bench.shapes.width,))
    y = layers.builder.output("y", DType.F32, (bench.shapes.width,))
    made = layers._experts("0", x, kind)
    layers._launch(add.KERNEL, "end", elementwise_launch(bench.shapes.width), a=made, b=made, y=y)
    return layers.builder.build()


def expert_device_us(bench: Bench) -> float:
    """Microseconds of the expert nodes of a device layer: their share, by bytes, of a program of these alone."""
    graph = only_experts(bench, "device")
    program = bench.program(graph, "exact", "graph")
    if bench.target == "cuda":
        taken = 1e6 * program.seconds_per_replay(50)
    else:
        taken = statistics.median(bench.samples({"t": bench.step(program, graph)})["t"])
    program.close()
    return float(taken * _share_of_bytes(bench))


def _share_of_bytes(bench: Bench) -> float:
    """The share of a layer's bytes that its experts are."""
    s = bench.shapes
    experts = 3 * s.chosen * s.hidden * s.width
    return experts / (experts + s.experts * s.width)


def host_step_us(bench: Bench, graph: Graph) -> float:
    """Microseconds of all work of the host in a step, launched split by split; noting times costs little there.

    It is not that of the same work alone: programs keep what the host reads in pinned memory, which is faster to read.
    """
    program = bench.program(graph, PLACED, "synchronous,timeline=true")
    step, found = bench.step(program, graph), []
    for _ in range(bench.repeats):
        step()
        found.append(sum(span.ends - span.begins for span in program.timeline().spans if span.kind == "host") / 1e3)
    program.close()
    bench.say(f"  work of the host: {statistics.median(found):.0f} us")
    return statistics.median(found)


def host_layer_us(bench: Bench) -> float:
    """Microseconds of the four expert nodes on the host, called one after the other on ordinary memory.

    Each time other experts are chosen, as in a step: what was read the time before may still be in a cache.
    """
    graph = only_experts(bench, "host")
    values = {name: value.copy() for name, value in weights_of(graph).items()}
    arrays = {a: np.zeros(allocation.size, np.uint8) for a, allocation in graph.allocations.items() if a not in values}
    memory = {b.name: values[b.name] if b.name in values else arrays[b.allocation] for b in graph.buffers.values()}
    addresses = {name: array.ctypes.data for name, array in memory.items()}
    calls = []
    for name in ("gate_exps", "up_exps", "act", "down_exps"):
        node = graph.nodes[f"0.{name}"]
        assert isinstance(node, KernelNode)
        call = native_call(graph, node, addresses)
        if call is None:
            raise RuntimeError("there is no C++ compiler, so host kernels are NumPy's: their times say nothing")
        calls.append(call)
    times = []
    chosen = arrays[graph.buffers["0.chosen"].allocation].view(np.int32)[: bench.shapes.chosen]
    for number in range(24):
        chosen[:] = (number * len(chosen) + np.arange(len(chosen))) % bench.shapes.experts
        begin = time.perf_counter()
        for call in calls:
            call()
        times.append(1e6 * (time.perf_counter() - begin))
    read = 3 * bench.shapes.chosen * bench.shapes.hidden * bench.shapes.width * 2 / statistics.median(times) / 1e3
    bench.say(f"host experts read {read:.1f} GB/s; a plain sum of as many bytes {host_read_gbps():.1f} GB/s")
    bench.metrics["splits.host_read_gbps"] = Metric(read, "GB/s", read, read)
    return statistics.median(times)


def host_read_gbps() -> float:
    """Gigabytes a second that the host reads with all threads: a product with one long row each."""
    pool = _pool()
    text = """
    #include "host.h"
    extern "C" void run_part(void** p, int number, int parts) {
        const Part part{number, parts};
        const long words = 1l << 26;
        const unsigned long long* x = static_cast<const unsigned long long*>(p[0]);
        unsigned long long sum = 0;
        for (long i = part.begin(words); i < part.end(words); ++i) sum ^= x[i];
        static_cast<unsigned long long*>(p[1])[number * 8] = sum;
    }
    """
    made = library(text)
    if made is None or pool is None:
        return 0.0
    data, sums = np.ones(1 << 26, np.uint64), np.zeros(8 * 1024, np.uint64)
    arguments = (ctypes.c_void_p * 2)(data.ctypes.data, sums.ctypes.data)
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        pool[0](pool[1], ctypes.cast(made.run_part, ctypes.c_void_p), arguments)
        times.append(time.perf_counter() - begin)
    return data.nbytes / min(times) / 1e9


def two_sequences(bench: Bench) -> None:
    """``splits.two_sequences_speedup``: two chains, one host layer each."""
    graph = model(bench.shapes, 1, sequences=2)
    programs = {mode: bench.program(graph, PLACED, mode) for mode in MODES}
    found = bench.samples({mode: bench.step(program, graph) for mode, program in programs.items()})
    speedup = bootstrap_median_ratio(found["synchronous"], found[OURS])
    bench.metrics["splits.two_sequences_speedup"] = speedup
    middle = {mode: statistics.median(times) for mode, times in found.items()}
    bench.say("two sequences: " + ", ".join(f"{mode} {t:.0f} us" for mode, t in middle.items()))
    for program in programs.values():
        program.close()


def fetched(bench: Bench) -> None:
    """``splits.link_share``: all experts on the host, read after routing from pinned memory by the device's kernels."""
    graph = model(bench.shapes, 0)
    program = bench.program(graph, FETCHED, "graph")
    step = bench.step(program, graph)
    times = bench.samples({"t": step})["t"]
    s = bench.shapes
    moved = s.layers * 3 * s.chosen * s.hidden * s.width * 2
    resident = bench.program(graph, "exact", "graph")
    base = statistics.median(bench.samples({"t": bench.step(resident, graph)})["t"])
    rates = [moved / (t * 1e3) for t in times]
    bench.metrics["splits.link_share"] = bootstrap_median([rate / 55.5 for rate in rates], "1")
    bench.say(f"all experts fetched: {statistics.median(times):.0f} us, {statistics.median(rates):.1f} GB/s of 55.5")
    bench.say(f"  resident: {base:.0f} us")
    resident.close()
    program.close()


def dense_streamed(bench: Bench) -> None:
    """``splits.dense_vs_resident``: Llama-3.1-8B, whose last down matrix (117 MB) is fetched from the host, ahead."""
    graph = decode_step(bench.shapes, LLAMA_8B)
    last = max(int(name.split(".")[1]) for name in graph.buffers if name.startswith("blk."))
    streamed = f'place{{stream="blk.{last}.ffn_down*"}},splits'
    programs = {
        "streamed": bench.program(graph, streamed, "graph"),
        "resident": bench.program(graph, "exact", "graph"),
    }
    found = bench.samples({name: bench.step(program, graph) for name, program in programs.items()})
    bench.metrics["splits.dense_vs_resident"] = bootstrap_median_ratio(found["streamed"], found["resident"])
    bench.say(", ".join(f"dense {name}: {statistics.median(times):.0f} us" for name, times in found.items()))
    for program in programs.values():
        program.close()


def processor_time(bench: Bench) -> None:
    """``splits.cpu_ratio``: CPU seconds a step over those of the synchronous way.

    ``splits.sustained``: how fast that way is in the last sixth of a minute, over the first sixth.
    """
    graph = model(bench.shapes, min(4, bench.shapes.layers))
    processor = dict[str, float]()
    programs = {mode: bench.program(graph, PLACED, mode) for mode in MODES}
    for mode, program in programs.items():
        step = bench.step(program, graph)
        begin = time.process_time()
        for _ in range(bench.repeats):
            step()
        processor[mode] = (time.process_time() - begin) / bench.repeats
    bench.say("CPU ms a step: " + ", ".join(f"{mode} {1e3 * seconds:.1f}" for mode, seconds in processor.items()))
    ratio = processor[OURS] / max(processor["synchronous"], 1e-9)
    bench.metrics["splits.cpu_ratio"] = Metric(ratio, "1", ratio, ratio)
    times = _for_a_while(bench.step(programs[OURS], graph), bench.seconds)
    first, last = times[: len(times) // 6], times[-(len(times) // 6) :]
    bench.metrics["splits.sustained"] = bootstrap_median_ratio(first, last)
    bench.say(f"{len(times)} steps in {bench.seconds:.0f} s: {statistics.median(first):.0f} us at first, "
              f"{statistics.median(last):.0f} us at last")  # fmt: skip
    for program in programs.values():
        program.close()


def _for_a_while(step: Callable[[], object], seconds: float) -> list[float]:
    """Microseconds of each step, one after the other."""
    found: list[float] = []
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        step()
        found.append(1e6 * (time.perf_counter() - begin))
    return found


def undone(bench: Bench) -> None:
    """``splits.undo_ratio``: a step that can be undone when a host function raises, over one that cannot.

    Llama-3.2-1B, whose token is chosen on the host, by NumPy. It writes a row of each cache of keys and values.
    """
    graph = decode_step(bench.shapes, LLAMA_1B)
    passes = 'place{host="#argmax"},splits'
    programs = {"with": bench.program(graph, passes, "graph")}
    with mock.patch("forerun.runtime.cuda.loading.written_state", return_value=()):
        programs["without"] = bench.program(graph, passes, "graph")
    found = bench.samples({name: bench.step(program, graph) for name, program in programs.items()})
    bench.metrics["splits.undo_ratio"] = bootstrap_median_ratio(found["with"], found["without"])
    bench.say(", ".join(f"{name} a copy of state: {statistics.median(t):.1f} us" for name, t in found.items()))
    if bench.target == "cuda":
        replays = {name: 1e6 * program.seconds_per_replay(20) for name, program in programs.items()}
        bench.say(
            "  back to back, by the clock of the GPU: " + ", ".join(f"{n} {t:.1f} us" for n, t in replays.items())
        )
    for program in programs.values():
        program.close()


def same_bits(bench: Bench) -> None:
    """All ways of launching give the same bits for one placement."""
    graph = model(bench.shapes, 1)
    shown = PassManager(PLACED).run(graph).graph
    bench.say("splits: " + " ".join(f"{place}:{len(names)}" for place, names in splits(shown)))
    inputs = {"s0.x": np.ones(bench.shapes.width, np.float32)}
    found = set()
    for mode in MODES:
        program = bench.program(graph, PLACED, mode)
        found.add(program.run(inputs)["s0.y"].tobytes())
        program.close()
    bench.say(f"bit-identical over {', '.join(MODES)}: {len(found) == 1}")


def main() -> None:
    """Run all parts, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny shapes: a dry run")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--parts", default="", help="the names of some parts, separated by commas")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/splits.json")
    chosen = parser.parse_args()
    bench = Bench(chosen.target, SMALL if chosen.small else Shapes(), chosen.repeats, 1.0 if chosen.small else 60.0)
    for part in (same_bits, borders, two_sequences, fetched, dense_streamed, undone, processor_time):
        if chosen.parts and part.__name__ not in chosen.parts.split(","):
            continue
        print(f"== {part.__name__}", flush=True)
        known, begin = set(bench.metrics), time.perf_counter()
        try:
            part(bench)
        except Exception:  # the other parts may still say something
            traceback.print_exc()
        for name in [name for name in bench.metrics if name not in known]:
            print(f"{name:32} {bench.metrics[name]}", flush=True)
        print(f"  ({time.perf_counter() - begin:.1f} s)", flush=True)
    if chosen.write:
        write_result("splits", bench.metrics)


if __name__ == "__main__":
    main()
