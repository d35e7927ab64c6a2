"""Figures of splits on a GPU: what borders cost, and what overlaps, on layers of gpt-oss-20b's shapes.

    python -m benchmarks.splits [--small] [--target reference] [--parts borders,undone]

Experts of all device layers are one set of weights, and those of all host layers another one, so that 24 layers fit any
machine; four experts of a layer are 200 MB. The baseline is the same program, launched split by split with a
synchronization in between (``cuda{splits=synchronous}``). All ways of launching are measured by turns in one program:
how fast the host reads depends on where its memory lies, by more than what the ways differ in. Each part prints its
lines and goes on after a failure; the table comes last.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import statistics
import time
import traceback
from collections.abc import Callable
from unittest import mock

import numpy as np

from benchmarks.common import Metric, bootstrap_median, bootstrap_median_ratio, write_result
from benchmarks.split_models import LLAMA_1B, LLAMA_8B, SMALL, Layers, Shapes, decode_step, model, weights_of
from benchmarks.split_ways import MODES, OURS, PLACED, Bench
from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode
from forerun.ir.types import DType
from forerun.kernels import add
from forerun.kernels.shapes import elementwise_launch
from forerun.passes.infra.manager import PassManager
from forerun.passes.splits.order import splits
from forerun.runtime.native import native_call
from forerun.runtime.native.build import library
from forerun.runtime.native.kernels import native_pool

FETCHED = 'place{stream="device.*_exps"},fuse-splits{direct="device.*_exps"},insert-pdl,hoist-loads,reduce-edges'


HOST_LAYERS = (1, 2, 4, 6, 8, 12)


def borders(bench: Bench) -> None:
    """``splits.border_us``, ``.border_share``, ``.vs_critical_path``, ``.worst_ratio`` over placements.

    A step's own time is that of its nodes on the device, and on the host; the rest is that of borders. For the critical
    path, the host's time is that of the very step. For borders it is one time for all ways, the shortest: what a way
    adds to it by waking threads between calls, or inside of them, is a cost of that way.
    """
    plain_graph = model(bench.shapes, 0)
    program = bench.program(plain_graph, "exact", "graph")
    plain = statistics.median(bench.samples({"plain": bench.step(program, plain_graph)})["plain"])
    program.close()
    alone, device_time = host_layer_us(bench), expert_device_us(bench)
    bench.say(f"no host layers: {plain:.0f} us; experts of a layer, alone: {alone:.0f} us on the host, "
              f"{device_time:.0f} us on the device")  # fmt: skip
    worst: list[Metric] = []
    paths: list[Metric] = []
    for count in HOST_LAYERS:
        if count > bench.shapes.layers:
            continue
        ways = bench.ways(model(bench.shapes, count))
        found = ways.samples(bench.repeats)
        ways.close()
        times = {mode: [t for t, _ in samples] for mode, samples in found.items()}
        host_us = {mode: statistics.median(host for _, host in samples) for mode, samples in found.items()}
        device_us = plain - count * device_time
        own_us = device_us + min(host_us.values())
        exposed = {mode: [(t - own_us) / count for t in times[mode]] for mode in found}
        bench.say(f"{count} host layers: " + ", ".join(
            f"{mode} {statistics.median(times[mode]):.0f} us (host {host_us[mode]:.0f}, "
            f"border {statistics.median(exposed[mode]):.1f})" for mode in found))  # fmt: skip
        worst.append(bootstrap_median_ratio(times["synchronous"], times[OURS]))
        if count in (1, 4, 8):
            paths.append(bootstrap_median_ratio(times[OURS], [device_us + host for _, host in found[OURS]]))
        if count == 8:
            bench.metrics["splits.border_us"] = bootstrap_median(exposed[OURS], "us")
            whole = statistics.median(exposed["synchronous"])
            bench.metrics["splits.border_share"] = bootstrap_median([e / whole for e in exposed[OURS]], "1")
    if worst:
        bench.metrics["splits.worst_ratio"] = min(worst, key=lambda metric: metric.value)
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
    pool = native_pool()
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
        pool.library.pool_run(pool.handle, made.run_part, arguments)
        times.append(time.perf_counter() - begin)
    return data.nbytes / min(times) / 1e9


def two_sequences(bench: Bench) -> None:
    """``splits.two_sequences_speedup``: two chains, one host layer each."""
    ways = bench.ways(model(bench.shapes, 1, sequences=2))
    found = {mode: [t for t, _ in samples] for mode, samples in ways.samples(bench.repeats).items()}
    ways.close()
    speedup = bootstrap_median_ratio(found["synchronous"], found[OURS])
    bench.metrics["splits.two_sequences_speedup"] = speedup
    middle = {mode: statistics.median(times) for mode, times in found.items()}
    bench.say("two sequences: " + ", ".join(f"{mode} {t:.0f} us" for mode, t in middle.items()))


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
    ways = bench.ways(model(bench.shapes, min(4, bench.shapes.layers)))
    processor: dict[str, list[float]] = {mode: [] for mode in ways.steps}
    for _ in range(3):
        for mode, step in ways.steps.items():
            begin = time.process_time()
            for _ in range(bench.repeats):
                step()
            processor[mode].append((time.process_time() - begin) / bench.repeats)
    middle = {mode: statistics.median(seconds) for mode, seconds in processor.items()}
    bench.say("CPU ms a step: " + ", ".join(f"{mode} {1e3 * seconds:.1f}" for mode, seconds in middle.items()))
    bench.metrics["splits.cpu_ratio"] = bootstrap_median_ratio(processor[OURS], processor["synchronous"])
    times = _for_a_while(ways.steps[OURS], bench.seconds) if bench.seconds else []
    ways.close()
    if times:
        first, last = times[: len(times) // 6], times[-(len(times) // 6) :]
        bench.metrics["splits.sustained"] = bootstrap_median_ratio(first, last)
        bench.say(f"{len(times)} steps in {bench.seconds:.0f} s: {statistics.median(first):.0f} us at first, "
                  f"{statistics.median(last):.0f} us at last")  # fmt: skip


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
    ways = {"with": bench.ways(graph, passes)}
    with mock.patch("forerun.runtime.cuda.loading.written_state", return_value=()):
        ways["without"] = bench.ways(graph, passes)
    for mode in MODES:
        found = bench.samples({name: one.steps[mode] for name, one in ways.items()}, 10)
        ratio = bootstrap_median_ratio(found["with"], found["without"])
        bench.say(f"{mode}: " + ", ".join(f"{name} a copy of state: {statistics.median(t):.1f} us" for name, t in
                                          found.items()) + f", {ratio}")  # fmt: skip
        if mode == ways["with"].fastest:
            bench.metrics["splits.undo_ratio"] = ratio
    for one in ways.values():
        one.close()


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
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long steps go on; 0: not at all")
    parser.add_argument(
        "--write", nargs="?", const="splits", default="", metavar="NAME", help="write a file of results; splits"
    )
    chosen = parser.parse_args()
    bench = Bench(chosen.target, SMALL if chosen.small else Shapes(), chosen.repeats, chosen.seconds)
    for part in (same_bits, undone, two_sequences, processor_time, borders, fetched, dense_streamed):
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
        if chosen.write and bench.metrics:
            with contextlib.redirect_stdout(None):
                write_result(chosen.write, bench.metrics)  # now: a machine that is lent may be taken away


if __name__ == "__main__":
    main()
