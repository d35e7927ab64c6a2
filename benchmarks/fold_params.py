"""A decode step of an engine that uploads five parameter arrays before each kernel, with and without ``fold-params``.

The kernels are small and unfused, and take their shapes, strides and options from memory, as those of engines do that
compile no kernel for a shape. Three versions of a step are timed in pairs A B B A, and their results compared bit by
bit: as it is, folded, and written without copies in the first place.

    python benchmarks/fold_params.py                      # a GPU: three models, and a program that CuPy captures
    python benchmarks/fold_params.py --dry-run            # no GPU: tiny shapes on the reference target, nothing timed
    python benchmarks/fold_params.py --foldings 10000     # bounded memory; needs no GPU
"""

from __future__ import annotations

import argparse
import gc
import resource
import traceback
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
from common import Metric, bootstrap_median_ratio, paired, write_result
from fold_params_kernels import binary, matvec, root_norm

import forerun
from forerun.frontends.llama_config import LlamaConfig, shape_named
from forerun.ir.graph import Graph
from forerun.ir.nodes import KernelNode, Launch, MemcpyNode
from forerun.ir.types import DEVICE0, DType

MODELS = ("smollm2-135m", "qwen2.5-0.5b", "llama-3.2-1b")
TINY = LlamaConfig("tiny", 2, 64, 2, 1, 32, 128, 96, 64)
ROUNDS, REPLAYS = 15, 20
POOL = 1 << 24
EPS = 1e-5


@dataclass
class Step:
    """A step while it is built: whether its parameters are uploaded, or lie on the device from the start."""

    builder: forerun.GraphBuilder
    uploads: bool
    kernels: int = 0

    def parameters(self, **values: list[int]) -> dict[str, str]:
        """Five small arrays for the next kernel."""
        number, names = self.kernels, {}
        self.kernels += 1
        for name, value in values.items():
            stem = f"{name}.{number}"
            if self.uploads:
                host = self.builder.constant(f"host.{stem}", "i32", value)
                names[name] = self.builder.temp(stem, "i32", len(value))
                self.builder.copy(host, stem, node=f"upload.{stem}")
            else:
                names[name] = self.builder.constant(stem, "i32", value, place=DEVICE0)
        return names

    def matvec(self, weight: str, x: str, y: str, rows: int, columns: int) -> None:
        """``y = w x``."""
        if weight not in self.builder._buffers:
            self.builder.weight(weight, DType.BF16, (rows, columns))
        given = self.parameters(dims=[rows, columns], wstep=[columns, 1], xstep=[1], ystep=[1], options=[0, 0])
        launch = Launch((-(-rows // 4), 1, 1), (128, 1, 1))
        self.builder.launch(matvec, w=weight, x=x, y=y, launch=launch, **given)

    def norm(self, weight: str, x: str, y: str, width: int) -> None:
        """The root mean square norm."""
        self.builder.weight(weight, "f32", width)
        bits = int(np.float32(EPS).view(np.int32))
        given = self.parameters(dims=[width], wstep=[1], xstep=[1], ystep=[1], options=[bits])
        self.builder.launch(root_norm, w=weight, x=x, y=y, launch=Launch((1, 1, 1), (512, 1, 1)), **given)

    def binary(self, a: str, b: str, y: str, width: int, operation: int) -> None:
        """0: a sum, 1: ``silu(a) b``."""
        given = self.parameters(dims=[width], astep=[1], bstep=[1], ystep=[1], options=[operation])
        launch = Launch((-(-width // 256), 1, 1), (256, 1, 1))
        self.builder.launch(binary, a=a, b=b, y=y, launch=launch, **given)


def step_of(config: LlamaConfig, *, uploads: bool) -> Graph:
    """Norms, products, sums and gates of a decode step; in the place of attention, the query is handed on."""
    builder = forerun.GraphBuilder(f"{config.name}_{'uploads' if uploads else 'resident'}")
    step = Step(builder, uploads)
    width, hidden = config.width, config.hidden
    queries, keys = config.heads * config.head_size, config.kv_heads * config.head_size
    x = builder.input("x", "f32", width)
    for layer in range(config.layers):
        at = f"blk.{layer}."
        sizes = {"n": width, "q": queries, "k": keys, "v": keys, "o": width, "h": width}
        sizes |= {"m": width, "gate": hidden, "up": hidden, "act": hidden, "down": width, "x": width}
        for name, size in sizes.items():
            builder.temp(at + name, "f32", size)
        step.norm(at + "attn_norm", x, at + "n", width)
        for name, rows in (("q", queries), ("k", keys), ("v", keys)):
            step.matvec(f"{at}w{name}", at + "n", at + name, rows, width)
        step.matvec(at + "wo", at + "q", at + "o", width, queries)
        step.binary(x, at + "o", at + "h", width, 0)
        step.norm(at + "ffn_norm", at + "h", at + "m", width)
        step.matvec(at + "wgate", at + "m", at + "gate", hidden, width)
        step.matvec(at + "wup", at + "m", at + "up", hidden, width)
        step.binary(at + "gate", at + "up", at + "act", hidden, 1)
        step.matvec(at + "wdown", at + "act", at + "down", width, hidden)
        step.binary(at + "h", at + "down", at + "x", width, 0)
        x = at + "x"
    builder.temp("last", "f32", width)
    builder.output("logits", "f32", config.vocabulary)
    step.norm("output_norm", x, "last", width)
    step.matvec("output", "last", "logits", config.vocabulary, width)
    return builder.build()


class Weights(Mapping[str, Any]):
    """Small random numbers for every weight, all of them pieces of one pool."""

    def __init__(self, graph: Graph) -> None:
        generator = np.random.default_rng(0)
        self._pool = (generator.random(POOL, np.float32) - 0.5).astype(ml_dtypes.bfloat16)
        self._buffers = {b.name: b for b in graph.buffers.values() if b.needs_value}

    def __getitem__(self, name: str) -> Any:
        buffer = self._buffers[name]
        if buffer.dtype is DType.F32:
            return np.ones(buffer.shape, np.float32)
        scale = np.float32(2 / np.sqrt(buffer.shape[-1]))
        pool = (self._pool[:POOL].astype(np.float32) * scale).astype(ml_dtypes.bfloat16)
        return np.resize(pool, buffer.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._buffers)

    def __len__(self) -> int:
        return len(self._buffers)


def copies(graph: Graph) -> int:
    """The copy nodes of a graph."""
    return sum(isinstance(node, MemcpyNode) for node in graph)


# A step in three versions


@dataclass
class Versions:
    """The loaded versions of one step: as it is, folded, and written without copies."""

    unfolded: Any
    folded: Any
    resident: Any

    def close(self) -> None:
        """Give everything back."""
        for program in (self.folded, self.resident, self.unfolded):
            program.close()


def load(config: LlamaConfig, target: str, pipeline: str = "") -> Versions:
    """Compile the versions; on a GPU the weights are uploaded once."""
    graph = step_of(config, uploads=True)
    values = Weights(graph)
    join = ",".join
    unfolded = forerun.compile(graph, target, pipeline, weights=values, tuning=None)
    shared = {name: unfolded.buffer(name) for name in values} if target.startswith("cuda") else values
    folds = join(["fold-params", *([pipeline] if pipeline else [])])
    folded = forerun.compile(graph, target, folds, weights=shared, tuning=None)
    resident = forerun.compile(step_of(config, uploads=False), target, pipeline, weights=shared, tuning=None)
    return Versions(unfolded, folded, resident)


def is_identical(versions: Versions, config: LlamaConfig) -> bool:
    """Whether all versions give the same bits for a few inputs."""
    generator = np.random.default_rng(1)
    for _ in range(3):
        x = generator.standard_normal(config.width).astype(np.float32)
        found = [program(x=x)["logits"] for program in (versions.unfolded, versions.folded, versions.resident)]
        if not np.isfinite(found[0]).all() or any(one.tobytes() != found[0].tobytes() for one in found):
            return False
    return True


def measured(name: str, pipeline: str) -> dict[str, Any]:
    """One model on a GPU."""
    config = shape_named(name)
    versions = load(config, "cuda", pipeline)
    try:
        same = is_identical(versions, config)
        slow, fast = paired(
            lambda: versions.unfolded.seconds_per_replay(REPLAYS),
            lambda: versions.folded.seconds_per_replay(REPLAYS),
            ROUNDS,
        )
        own, other = paired(
            lambda: versions.folded.seconds_per_replay(REPLAYS),
            lambda: versions.resident.seconds_per_replay(REPLAYS),
            ROUNDS,
        )
        return {
            "model": name,
            "identical": same,
            "kernels": sum(isinstance(node, KernelNode) for node in versions.folded.graph),
            "before": copies(versions.unfolded.graph),
            "after": copies(versions.folded.graph),
            "us": [1e6 * float(np.median(times)) for times in (slow, fast, other)],
            "speedup": bootstrap_median_ratio(slow, fast),
            "vs_written_without": bootstrap_median_ratio(own, other),
        }
    finally:
        versions.close()
        gc.collect()


# Bounded memory


def fold_often(count: int, target: str) -> dict[str, float]:
    """Compile and close that many steps of varying shapes; what Python holds after a tenth of them and at the end."""
    small = replace(TINY, layers=1)
    marks: list[int] = []
    tracemalloc.start()
    for number in range(count):
        config = replace(small, width=32 * (1 + number % 7), hidden=32 * (1 + number % 11), vocabulary=8 + number % 53)
        graph = step_of(config, uploads=True)
        with forerun.compile(graph, target, "fold-params", weights=Weights(graph), tuning=None, instruments=()) as made:
            assert copies(made.graph) == 0
        if number in (count // 10, count - 1):
            gc.collect()
            marks.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    return {"foldings": count, "growth": marks[-1] - marks[0], "peak_rss": resource.getrusage(0).ru_maxrss * 1024}


# All of it


def attempt(what: str, run: Callable[[], Any]) -> Any:
    """What a part gives; a failure is printed, and the others go on."""
    print(f"-- {what}", flush=True)
    try:
        return run()
    except Exception:
        traceback.print_exc()
        return None


def _captured() -> dict[str, Any]:
    from fold_params_captured import measured_capture

    return measured_capture()


def dry_run() -> None:
    """All versions of a tiny step on the reference target."""
    versions = load(TINY, "reference")
    before, after = copies(versions.unfolded.graph), copies(versions.folded.graph)
    print(f"identical: {is_identical(versions, TINY)}, copies: {before} -> {after}")
    versions.close()
    print(fold_often(30, "reference"))


def main() -> None:
    """Measure, print a table, write ``results/fold_params.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--pipeline", default="", help="what follows fold-params, and stands alone without it")
    parser.add_argument("--foldings", type=int, default=0, help="how many steps of varying shapes to compile")
    parser.add_argument("--target", default="reference", help="of the foldings")
    parser.add_argument("--dry-run", action="store_true")
    chosen = parser.parse_args()
    if chosen.dry_run:
        dry_run()
        return
    if chosen.foldings:
        print(attempt("foldings", lambda: fold_often(chosen.foldings, chosen.target)))
        return
    # First: its kernels must be seen when they are loaded, before CUDA is at work.
    captured = attempt("a program that CuPy captures", _captured)
    found = [attempt(name, lambda name=name: measured(name, chosen.pipeline)) for name in chosen.models]
    rows = [row for row in found if row is not None]
    for row in rows:
        slow, fast, other = row["us"]
        print(
            f"{row['model']:14} {row['kernels']:4} kernels, copies {row['before']:4} -> {row['after']}, "
            f"{slow:8.1f} us -> {fast:8.1f} ({row['speedup'].value:.3f}x), without copies {other:8.1f} us "
            f"({row['vs_written_without'].value:.4f}), identical: {row['identical']}"
        )
    print("captured by CuPy:", captured)
    if rows:
        write_result(
            "fold_params", metrics_of(rows), details={"models": [_plain(row) for row in rows], "captured": captured}
        )


def metrics_of(rows: list[dict[str, Any]]) -> dict[str, Metric]:
    """The worst of the models."""
    before, after = min(row["before"] for row in rows), max(row["after"] for row in rows)
    return {
        "fold_params.copies_before": Metric(before, "copies", before, before),
        "fold_params.copies_after": Metric(after, "copies", after, after),
        "fold_params.speedup": min((row["speedup"] for row in rows), key=lambda metric: metric.value),
        "fold_params.vs_written_without": max(
            (row["vs_written_without"] for row in rows), key=lambda metric: metric.value
        ),
    }


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value.value if isinstance(value, Metric) else value for key, value in row.items()}


if __name__ == "__main__":
    main()
