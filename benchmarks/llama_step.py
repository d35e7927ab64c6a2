"""A full bf16 decode step of Llama-3.2-1B shapes (embedding to argmax, batch 1) on one GPU.

Everything is measured in one process with CUDA events, in pairs A B B A; medians with bootstrap intervals. Before a
program is timed, its tokens and logits are compared with those of the plain graph of small kernels, on the same random
weights and KV rows; that graph's own values are compared with f32 PyTorch in ``llama_cuda.py``.

- 32 steps in one graph at three positions, microseconds a step, and the same graph with full edges and no hoist.
- One step in a graph at position 511, against ``torch.compile`` (coordinate descent, PDL in Triton) in a CUDA graph.
- ``--tune SECONDS``: forerun's own tuner on two of these steps, for 1,024 positions and then, in a third of the time,
  for 2,304, which has a file of its own; it begins with the choices of ``--tuning``, if there is such a file.
- ``--ablation``: what each pass brings, a row a version, all of them in turns; and the negative controls.

Everything in one process, which loads the weights once:

    python benchmarks/llama_step.py --tune 120 --tuning tuning.json --ablation --no-torch
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Metric, bootstrap_median, bootstrap_median_ratio, paired, write_result
from controls import measure_scratch_chain
from rows import ABLATION, FULL_EDGES, own_tuning, tuning_for
from torch_llama import DecodeModel, draw_weights

import forerun
from forerun.frontends.decode import decode_graph
from forerun.frontends.llama_config import LlamaConfig, shape_named
from forerun.ir.types import BufferRole, DType
from forerun.kernels import norm_head
from forerun.measure.bandwidth import read_bandwidth
from forerun.runtime.cuda import CudaTarget
from forerun.support.diagnostics import ForerunError

STEPS = 32
CONTEXT = 2304
POSITIONS = {"pos160": (144, 1024), "pos512": (496, 1024), "pos2048": (2032, CONTEXT)}
"""Where the first of the steps stands, and for how many positions the graph is made."""
TUNED_STEPS = 2
"""Steps of the graph that is tuned: what a step is to the next is in it, and loading it takes milliseconds."""
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
            argmax_parts=norm_head.PARTS,
        )

    def compile(self, graph: forerun.Graph, pipeline: str, **options: Any) -> forerun.Executable:
        return forerun.compile(graph, "cuda", pipeline, weights=self.weights, **{"tuning": None, **options})

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
    """The 32-step graphs against themselves with full edges; with options, the tuned ones, too."""
    stream = torch.cuda.Stream()
    metrics = {"read_bandwidth_gbs": _exact(read_bandwidth(CudaTarget()) / 1e9, "GB/s")}
    errors = 0.0
    for context in sorted({context for _, context in POSITIONS.values()}):
        places = {name: at for name, (at, size) in POSITIONS.items() if size == context}
        graph = setting.graph(STEPS, context)
        with setting.compile(graph, "") as plain:
            expected = {at: answers(setting, plain, at) for at in places.values()}
        with contextlib.ExitStack() as stack:
            full = stack.enter_context(setting.compile(graph, FULL_EDGES))
            fast = {"": stack.enter_context(setting.compile(graph, pipeline))}
            if options:
                tuned = {"tuning": tuning_for(options["tuning"], context)}
                fast["tuned_"] = stack.enter_context(setting.compile(graph, pipeline, **tuned))
            errors = max(errors, *(check(setting, version, expected) for version in (full, *fast.values())))
            for (prefix, version), (name, position) in product(fast.items(), places.items()):
                with launching(version, stream, position) as a, launching(full, stream, position) as b:
                    ours, theirs = pairs(a, b, stream, rounds, 4)
                metrics[f"llama_1b.{prefix}step_us.{name}"] = bootstrap_median([us / STEPS for us in ours], "us")
                if not prefix:
                    metrics[f"llama_1b.full_edges_us.{name}"] = bootstrap_median([us / STEPS for us in theirs], "us")
                if name == "pos512":
                    metrics[f"llama_1b.{prefix}speedup_vs_full_edges"] = bootstrap_median_ratio(theirs, ours)
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
    """One step against one compiled step; with options, the tuned one, too."""
    stream = torch.cuda.Stream()
    context = 1024
    replay = torch_step(setting, context, position)
    metrics: dict[str, Metric] = {}
    for prefix, given in {"": {}, **({"tuned_": options} if options else {})}.items():
        with setting.compile(setting.graph(1, context), pipeline, **given) as fast:
            setting.fill(fast)
            found = fast.run({"token": [11], "position": [position]})
            replay()
            torch.cuda.synchronize()
            theirs = replay.__self__.outputs[1].float().cpu().numpy()
            error = float(np.linalg.norm(found["logits"] - theirs) / np.linalg.norm(theirs))
            assert error < 5e-2, f"torch says something else: relative L2 error {error:.1e}"
            with torch.cuda.stream(stream), launching(fast, stream, position) as ours:
                a, b = pairs(ours, replay, stream, rounds, 20)
        metrics |= {
            f"{name}.{prefix}one_step_us": bootstrap_median(a, "us"),
            f"{name}.{prefix}speedup_vs_torch_compile": bootstrap_median_ratio(b, a),
            f"{name}.{prefix}torch_logits_rel_l2": _exact(error, "ratio"),
        }
        metrics.setdefault(f"{name}.torch_compile_us", bootstrap_median(b, "us"))
    return metrics


@contextlib.contextmanager
def constant_loads() -> Iterator[None]:
    """Weights are loaded as ``const __restrict__`` pointers would load them: ``ld.global.nc``, which may be moved."""
    from forerun.runtime.cuda.codegen import sources

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


def in_turns(
    versions: Mapping[str, Callable[[], object]], stream: torch.cuda.Stream, rounds: int, repeats: int
) -> dict[str, list[float]]:
    """Microseconds of a run of each, a round an entry: all in order, then all in the other order, after a warm-up."""
    order = [*versions, *reversed(versions)]
    for run in versions.values():
        event_us(run, stream, repeats)
    found: dict[str, list[float]] = {name: [] for name in versions}
    for _ in range(rounds):
        times: dict[str, float] = dict.fromkeys(versions, 0.0)
        for name in order:
            times[name] += event_us(versions[name], stream, repeats) / 2
        for name, us in times.items():
            found[name].append(us)
    return found


def measure_ablation(setting: Setting, rounds: int, options: dict[str, Any]) -> dict[str, Metric]:
    """All rows in turns, at positions 496 to 527, so that clocks that change change all; ``control_off`` is ``full``
    compiled once more, and must show no gain."""
    stream = torch.cuda.Stream()
    position, context = POSITIONS["pos512"]
    graph = setting.graph(STEPS, context)
    rows = {**ABLATION, **({"tuned": ABLATION["rings"]} if options else {}), "control_off": ABLATION["full"]}
    expected: dict[int, Any] = {}
    with contextlib.ExitStack() as stack:
        runs: dict[str, Callable[[], object]] = {}
        for name, pipeline in rows.items():
            began = time.perf_counter()
            given = options if name == "tuned" else {}
            try:
                with constant_loads() if name == "hoist_nc" else contextlib.nullcontext():
                    version = stack.enter_context(setting.compile(graph, pipeline, **given))
                expected = expected or {position: answers(setting, version, position)}
                error = check(setting, version, expected)
            except (AssertionError, ForerunError) as reason:
                print(f"{name:14} LEFT OUT, not timed: {reason}", flush=True)
                continue
            runs[name] = stack.enter_context(launching(version, stream, position))
            print(f"{name:14} ready in {time.perf_counter() - began:.1f} s, error {error:.1e}", flush=True)
        times = in_turns(runs, stream, rounds, 2)
    metrics: dict[str, Metric] = {}
    for name, found in times.items():
        metrics[f"ablation.{name}_us"] = bootstrap_median([us / STEPS for us in found], "us")
        if name != "full":
            metrics[f"ablation.{name}_speedup"] = bootstrap_median_ratio(times["full"], found)
        print(f"{name:14} {statistics.median(found) / STEPS:8.1f} us", flush=True)
    return metrics


def measure_tuning(setting: Setting, pipeline: str, seconds: float, file: Path) -> dict[str, Metric]:
    """Tune at position 511 of 1,024, and then at 2,047 of 2,304, from there and in a third of the time.

    A file is for graphs of as many positions, whatever their number of steps; what it has already is tried first.
    """
    metrics: dict[str, Metric] = {}
    for prefix, place, part in (("tuning", "pos512", 1.0), ("tuning_pos2048", "pos2048", 1 / 3)):
        position, context = POSITIONS[place]
        own, before = own_tuning(file, context), tuning_for(file, context)
        result = forerun.tune(
            setting.graph(TUNED_STEPS, context),
            "cuda",
            weights=setting.weights,
            inputs={"token": [11], "position": [position + STEPS // 2 - 1]},
            budget_seconds=part * seconds,
            pipeline=pipeline,
            file=own,
            begin=before if before.exists() else None,
            tolerance=TOLERANCE,
            progress=lambda trial, gone, _: print(f"{gone:6.1f} s  {trial.brief}", flush=True),
        )
        verdicts = [trial.verdict for trial in result.trials if trial.group]
        metrics |= {
            f"{prefix}.untuned_us": _exact(1e6 * result.untuned / TUNED_STEPS, "us"),
            f"{prefix}.tuned_us": _exact(1e6 * result.tuned / TUNED_STEPS, "us"),
            f"{prefix}.speedup": _exact(result.untuned / result.tuned, "ratio"),
            f"{prefix}.seconds": _exact(result.seconds, "s"),
            **{f"{prefix}.{name}": _exact(verdicts.count(name), "trials") for name in ("kept", "undone", "refused")},
            f"{prefix}.finished": _exact(float(result.finished), "1"),
        }
    return metrics


def _exact(value: float, unit: str) -> Metric:
    return Metric(value, unit, value, value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="fast")
    parser.add_argument("--tuning", type=Path, help="a tuning file to apply, or to write first with --tune")
    parser.add_argument("--tune", type=float, metavar="SECONDS", help="tune first, and write --tuning (tuning.json)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--ablation", action="store_true", help="what each pass brings, instead of the three positions")
    parser.add_argument("--all", action="store_true", help="--ablation, and then the three positions")
    parser.add_argument("--no-torch", action="store_true")
    arguments = parser.parse_args()
    setting = Setting.of("llama-3.2-1b", CONTEXT)
    file = arguments.tuning or (Path("tuning.json") if arguments.tune else None)
    options = {} if file is None else {"tuning": file}
    if arguments.tune:
        write_result("tuning", measure_tuning(setting, arguments.pipeline, arguments.tune, file))
    if arguments.ablation or arguments.all:
        write_result("ablation", measure_scratch_chain() | measure_ablation(setting, arguments.rounds, options))
    if arguments.ablation and not arguments.all:
        return
    write_result("llama_step", measure_steps(setting, arguments.pipeline, options, arguments.rounds))
    if not arguments.no_torch:
        metrics = measure_against_torch(setting, "llama_1b", arguments.pipeline, options, arguments.rounds)
        write_result("llama_torch", metrics)


if __name__ == "__main__":
    main()
