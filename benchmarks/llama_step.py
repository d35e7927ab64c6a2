"""A full bf16 decode step of Llama-3.2-1B shapes (embedding to argmax, batch 1) on one GPU.

Everything is measured in one process with CUDA events, in pairs A B B A; medians with bootstrap intervals. Before a
program is timed, its tokens and logits are compared with those of the plain graph of small kernels, on the same random
weights and KV rows; that graph's own values are compared with f32 PyTorch in ``llama_cuda.py``.

- 32 steps in one graph at three positions, microseconds a step, and the same graph with full edges and no hoist.
- One step in a graph at position 511, against ``torch.compile`` (coordinate descent, PDL in Triton) in a CUDA graph.
- ``--ablation``: what each pass brings, a row a version.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from common import Metric, bootstrap_median, bootstrap_median_ratio, paired, write_result
from torch_llama import DecodeModel, draw_weights

import forerun
from forerun.frontends.decode import decode_graph
from forerun.frontends.llama_config import LlamaConfig, shape_named
from forerun.ir.types import BufferRole, DType
from forerun.measure.bandwidth import read_bandwidth
from forerun.runtime.cuda import CudaTarget

SMS = 132
STEPS = 32
CONTEXT = 2304
POSITIONS = {"pos160": (144, 1024), "pos512": (496, 1024), "pos2048": (2032, CONTEXT)}
"""Where the first of the steps stands, and for how many positions the graph is made."""
FULL_EDGES = "fuse-kernels,infer-dependencies,reduce-edges"
REPEATS = 5
TOLERANCE = 2e-3
"""Relative L2 of logits after some steps, between versions that sum in different orders."""


@dataclass(frozen=True)
class Setting:
    """What all versions share: shapes, weights on the device, and KV rows."""

    config: LlamaConfig
    weights: dict[str, torch.Tensor]
    rows: dict[str, torch.Tensor]

    @classmethod
    def of(cls, shape: str, context: int) -> Setting:
        config = shape_named(shape)
        drawn = draw_weights(config)
        weights = {name: w.to(torch.bfloat16).contiguous() if w.ndim == 2 else w for name, w in drawn.items()}
        generator = torch.Generator("cuda").manual_seed(5)
        size = (context, config.kv_heads, config.head_size)
        rows = {
            f"blk.{layer}.{cache}": torch.randn(size, generator=generator, device="cuda").to(torch.bfloat16)
            for layer in range(config.layers)
            for cache in ("k_cache", "v_cache")
        }
        return cls(config, weights, rows)

    def graph(self, steps: int, context: int) -> forerun.Graph:
        return decode_graph(
            self.config,
            context=context,
            steps=steps,
            dtype=DType.BF16,
            cache_dtype=DType.BF16,
            splits=16,
            argmax_parts=SMS,
        )

    def compile(self, graph: forerun.Graph, pipeline: str, **options: Any) -> forerun.Executable:
        return forerun.compile(graph, target="cuda", pipeline=pipeline, weights=self.weights, **options)

    def fill(self, executable: forerun.Executable) -> None:
        for buffer in executable.graph.buffers.values():
            if buffer.role is BufferRole.STATE:
                torch.from_dlpack(executable.buffer(buffer.name)).copy_(self.rows[buffer.name][: buffer.shape[0]])
        torch.cuda.synchronize()


def answers(setting: Setting, executable: forerun.Executable, position: int) -> tuple[np.ndarray, np.ndarray]:
    setting.fill(executable)
    found = executable.run({"token": [11], "position": [position]})
    return found["next_token"], found["logits"]


def check(setting: Setting, executable: forerun.Executable, expected: dict[int, Any]) -> float:
    """The largest relative L2 error at the positions; the tokens must be equal, and all runs the same bit by bit."""
    worst = 0.0
    for position, (tokens, logits) in expected.items():
        found_tokens, found_logits = answers(setting, executable, position)
        for _ in range(REPEATS):
            again = answers(setting, executable, position)
            assert np.array_equal(again[1], found_logits), f"two runs at {position} differ: there is a race"
        assert np.array_equal(found_tokens, tokens), f"other tokens at {position}: {found_tokens} and {tokens}"
        worst = max(worst, float(np.linalg.norm(found_logits - logits) / np.linalg.norm(logits)))
    assert worst < TOLERANCE, f"relative L2 error {worst:.1e}"
    return worst


def event_us(run: Callable[[], object], stream: torch.cuda.Stream, repeats: int) -> float:
    """Microseconds of one run, by events around several."""
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record(stream)
    for _ in range(repeats):
        run()
    last.record(stream)
    last.synchronize()
    return 1e3 * first.elapsed_time(last) / repeats


def pairs(
    a: Callable[[], object], b: Callable[[], object], stream: torch.cuda.Stream, rounds: int, repeats: int
) -> tuple[list[float], list[float]]:
    """A B B A, after a warm-up of each."""
    return paired(lambda: event_us(a, stream, repeats), lambda: event_us(b, stream, repeats), rounds)


@contextlib.contextmanager
def launching(
    executable: forerun.Executable, stream: torch.cuda.Stream, position: int, inputs: Mapping[str, Any] | None = None
) -> Iterator[Callable[[], None]]:
    """A function that enqueues one replay at a position."""
    executable.run({"token": [11], "position": [position], **(inputs or {})})
    yield lambda: executable.launch(stream)
    executable.synchronize()


def measure_steps(setting: Setting, pipeline: str, options: dict[str, Any], rounds: int) -> dict[str, Metric]:
    """The 32-step graphs against themselves with full edges."""
    stream = torch.cuda.Stream()
    metrics = {"read_bandwidth_gbs": _exact(read_bandwidth(CudaTarget()) / 1e9, "GB/s")}
    errors = 0.0
    for context in sorted({context for _, context in POSITIONS.values()}):
        places = {name: at for name, (at, size) in POSITIONS.items() if size == context}
        graph = setting.graph(STEPS, context)
        with setting.compile(graph, "") as plain:
            expected = {at: answers(setting, plain, at) for at in places.values()}
        with setting.compile(graph, pipeline, **options) as fast, setting.compile(graph, FULL_EDGES) as full:
            errors = max(errors, check(setting, fast, expected), check(setting, full, expected))
            for name, position in places.items():
                with launching(fast, stream, position) as a, launching(full, stream, position) as b:
                    ours, theirs = pairs(a, b, stream, rounds, 4)
                metrics[f"llama_1b.step_us.{name}"] = bootstrap_median([us / STEPS for us in ours], "us")
                metrics[f"llama_1b.full_edges_us.{name}"] = bootstrap_median([us / STEPS for us in theirs], "us")
                if name == "pos512":
                    metrics["llama_1b.speedup_vs_full_edges"] = bootstrap_median_ratio(theirs, ours)
    metrics["llama_1b.step_logits_rel_l2"] = _exact(errors, "ratio")
    return metrics


def torch_step(setting: Setting, context: int, position: int) -> Callable[[], object]:
    """One compiled step in a CUDA graph; the function replays it."""
    import torch._inductor.config as inductor

    inductor.coordinate_descent_tuning = True
    inductor.triton.enable_pdl = True
    model = DecodeModel(setting.config, setting.weights, context)
    for layer, block in enumerate(model.blocks):
        for cache in ("k_cache", "v_cache"):
            getattr(block, cache).copy_(setting.rows[f"blk.{layer}.{cache}"][:context].transpose(0, 1)[None])
    step = torch.compile(model, fullgraph=True, dynamic=False)
    token = torch.tensor([11], device="cuda")
    place = torch.tensor([position], device="cuda")
    with torch.no_grad():
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                step(token, place)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = step(token, place)
    graph.outputs = outputs  # type: ignore[attr-defined]
    graph.replay.__self__.kept = (model, token, place)
    return graph.replay


def measure_against_torch(
    setting: Setting, name: str, pipeline: str, options: dict[str, Any], rounds: int, position: int = 511
) -> dict[str, Metric]:
    """One step against one compiled step."""
    stream = torch.cuda.Stream()
    context = 1024
    replay = torch_step(setting, context, position)
    with setting.compile(setting.graph(1, context), pipeline, **options) as fast:
        setting.fill(fast)
        found = fast.run({"token": [11], "position": [position]})
        replay()
        torch.cuda.synchronize()
        theirs = replay.__self__.outputs[1].float().cpu().numpy()
        error = float(np.linalg.norm(found["logits"] - theirs) / np.linalg.norm(theirs))
        assert error < 5e-2, f"torch says something else: relative L2 error {error:.1e}"
        with torch.cuda.stream(stream), launching(fast, stream, position) as ours:
            a, b = pairs(ours, replay, stream, rounds, 20)
    return {
        f"{name}.one_step_us": bootstrap_median(a, "us"),
        f"{name}.torch_compile_us": bootstrap_median(b, "us"),
        f"{name}.speedup_vs_torch_compile": bootstrap_median_ratio(b, a),
        f"{name}.torch_logits_rel_l2": _exact(error, "ratio"),
    }


ABLATION = {
    "full": "infer-dependencies,reduce-edges",
    "edges": "infer-dependencies,insert-pdl{trigger=end},reduce-edges",
    "wait_trigger": "infer-dependencies,insert-pdl{trigger=start},reduce-edges",
    "hoist_nc": "infer-dependencies,insert-pdl,hoist-loads,reduce-edges",
    "hoist": "infer-dependencies,insert-pdl,hoist-loads,reduce-edges",
    "fused": "fuse-kernels,infer-dependencies,insert-pdl,reduce-edges",
    "rings": "fuse-kernels,infer-dependencies,insert-pdl,hoist-loads,reduce-edges",
}


@contextlib.contextmanager
def constant_loads() -> Iterator[None]:
    """Weights are loaded as ``const __restrict__`` pointers would load them: ``ld.global.nc``, which may be moved."""
    from forerun.runtime.cuda import codegen_sources as sources

    original = sources.read_source

    def read(location: str) -> bytes:
        return original(location).replace(b"ld.global.L1::no_allocate.v4", b"ld.global.nc.L1::no_allocate.v4")

    sources.read_source = read
    sources.included.cache_clear()
    try:
        yield
    finally:
        sources.read_source = original
        sources.included.cache_clear()


def measure_ablation(setting: Setting, rounds: int, options: dict[str, Any]) -> dict[str, Metric]:
    """Each row in turns with the first, at positions 496 to 527."""
    stream = torch.cuda.Stream()
    position, context = POSITIONS["pos512"]
    graph = setting.graph(STEPS, context)
    metrics: dict[str, Metric] = {}
    with setting.compile(graph, ABLATION["full"]) as full:
        expected = {position: answers(setting, full, position)}
        rows = {**ABLATION, **({"tuned": ABLATION["rings"]} if options else {})}
        for name, pipeline in rows.items():
            with contextlib.ExitStack() as stack:
                if name == "hoist_nc":
                    stack.enter_context(constant_loads())
                version = stack.enter_context(setting.compile(graph, pipeline, **(options if name == "tuned" else {})))
                check(setting, version, expected)
                a = stack.enter_context(launching(version, stream, position))
                b = stack.enter_context(launching(full, stream, position))
                ours, base = pairs(a, b, stream, rounds, 2)
            metrics[f"ablation.{name}_us"] = bootstrap_median([us / STEPS for us in ours], "us")
            metrics[f"ablation.{name}_speedup"] = bootstrap_median_ratio(base, ours)
            print(f"{name:14} {statistics.median(ours) / STEPS:8.1f} us", flush=True)
    return metrics


def _exact(value: float, unit: str) -> Metric:
    return Metric(value, unit, value, value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="fast")
    parser.add_argument("--tuning", help="a tuning file to apply")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--ablation", action="store_true")
    parser.add_argument("--no-torch", action="store_true")
    arguments = parser.parse_args()
    options = {"tuning": arguments.tuning} if arguments.tuning else {}
    setting = Setting.of("llama-3.2-1b", CONTEXT)
    if arguments.ablation:
        write_result("ablation", measure_ablation(setting, arguments.rounds, options))
        return
    write_result("llama_step", measure_steps(setting, arguments.pipeline, options, arguments.rounds))
    if not arguments.no_torch:
        metrics = measure_against_torch(setting, "llama_1b", arguments.pipeline, options, arguments.rounds)
        write_result("llama_torch", metrics)


if __name__ == "__main__":
    main()
