"""A program that nobody here wrote: a decode step of ``transformers``' Llama that torch captured, made faster.

Each case runs in a process of its own, because images are seen from the start of CUDA on. In it torch's own replay is
the denominator, and all variants are timed in turns against it. Before a time counts, every byte that the graph can
write is compared after each of many steps with random tokens.

    python benchmarks/external_programs.py compiled --steps 1000
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import origin

import forerun

ROUNDS, REPLAYS = 10, 16
POSITION = 511


@dataclass
class Program:
    """A captured step, and what belongs to it."""

    graph: Any
    tokens: Any
    written: list[Any]
    saved: list[Any]
    results: list[Any]
    kept: Any

    def restore(self) -> None:
        for now, before in zip(self.written, self.saved, strict=True):
            now.copy_(before)

    def save(self) -> None:
        for now, before in zip(self.written, self.saved, strict=True):
            before.copy_(now)


def llama(compiled: bool, layers: int = 16) -> Any:
    """The model, its step, and the tensor of its token."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, StaticCache

    config = LlamaConfig(
        hidden_size=2048, intermediate_size=8192, num_hidden_layers=layers, num_attention_heads=32,
        num_key_value_heads=8, head_dim=64, vocab_size=128256, tie_word_embeddings=True, max_position_embeddings=4096,
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = LlamaForCausalLM(config).to(torch.bfloat16).eval()
    cache = StaticCache(config=config, max_cache_len=1024)
    token = torch.tensor([[11]], device="cuda")
    position = torch.tensor([POSITION], device="cuda")
    if compiled:
        model.forward = torch.compile(model.forward, fullgraph=True, dynamic=False)

    def step() -> Any:
        out = model(
            input_ids=token, past_key_values=cache, cache_position=position, position_ids=position[None], use_cache=True
        )
        return out.logits, out.logits.argmax(-1)

    return model, step, token


def capture(step: Callable[[], Any]) -> tuple[Any, list[Any]]:
    """The graph of a step, and the tensors that it returns."""
    import torch

    with torch.no_grad():
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph(keep_graph=True)
        with torch.cuda.graph(graph):
            results = list(step())
        graph.instantiate()
    return graph, results


def bytes_at(address: int, size: int) -> Any:
    """Memory of the device as a tensor of bytes."""
    import torch

    class Memory:
        __cuda_array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (address, False), "version": 3}  # noqa: RUF012

    return torch.as_tensor(Memory(), device="cuda")


def program(graph: Any, live: Any, model: Any, token: Any, results: list[Any]) -> Program:
    """The step with all memory that its pointers point into, the model's parameters left out."""
    weights = sorted(parameter.data_ptr() for parameter in model.parameters())
    ranges = [m for m in live.graph.memory if m.kind == "device" and not any(w in m for w in weights)]
    written = [bytes_at(m.address, m.size) for m in ranges]
    return Program(graph, token, written, [tensor.clone() for tensor in written], results, model)


def identical(one: Program, replays: dict[str, Callable[[], None]], steps: int) -> dict[str, dict[str, int]]:
    """In how many steps of each variant some byte differs from what torch's own replay leaves.

    Of all that the graph can write, and of what the program sees: logits, the token, the cache.
    """
    import torch

    generator = random.Random(0)
    wrong = {name: {"bytes": 0, "results": 0} for name in replays}
    places: Counter[int] = Counter()
    for _ in range(steps):
        one.tokens.fill_(generator.randrange(128256))
        one.save()
        one.graph.replay()
        torch.cuda.synchronize()
        expected = [tensor.clone() for tensor in one.written]
        results = [tensor.clone() for tensor in one.results]
        for name, replay in replays.items():
            one.restore()
            replay()
            torch.cuda.synchronize()
            differ = [n for n, (a, b) in enumerate(zip(one.written, expected, strict=True)) if not torch.equal(a, b)]
            places.update(differ)
            wrong[name]["bytes"] += bool(differ)
            wrong[name]["results"] += not all(torch.equal(a, b) for a, b in zip(one.results, results, strict=True))
    for number, count in places.items():
        print(f"  range {number} of {one.written[number].numel()} bytes differs {count} times", flush=True)
    return wrong


def timed(replays: dict[str, tuple[Program, Callable[[], None]]]) -> dict[str, list[float]]:
    """Microseconds of a step, by turns: forwards, then backwards."""
    import torch

    found: dict[str, list[float]] = {name: [] for name in replays}
    for number in range(ROUNDS):
        for name in sorted(replays, reverse=bool(number % 2)):
            one, replay = replays[name]
            one.restore()
            for _ in range(3):
                replay()
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            for _ in range(REPLAYS):
                replay()
            end.record()
            end.synchronize()
            found[name].append(1e3 * begin.elapsed_time(end) / REPLAYS)
    return found


def variants(case: str) -> dict[str, tuple[str | None, Any]]:
    """Pipelines, and what becomes of early loads."""
    entry, moved = "insert-pdl", "insert-pdl,hoist-loads{full_edges=false}"
    found: dict[str, tuple[str | None, Any]] = {"untouched clone": ("", "none"), "wait at entry": (entry, "none")}
    found["loads moved"] = (moved, "move")
    found["order of hazards"] = ("infer-dependencies", "none")
    if case == "eager":
        return found
    return {
        **found,
        "order of hazards, wait at entry": (f"infer-dependencies,{entry}", "none"),
        "measured": (None, "move"),
    }


def _found(optimized: Any) -> str:
    """What a search found, in short."""
    search = optimized.search
    if search is None:
        return ""
    kept = sum(trial.kept for trial in search.trials)
    targets = Counter(choice.target for choice in search.choices.values())
    triggers = Counter(choice.trigger for choice in search.choices.values())
    times = f"{1e6 * search.begin:.1f} to {1e6 * search.seconds:.1f} us"
    return f", {len(search.trials)} trials, {kept} kept, {times}, {dict(targets)}, {dict(triggers)}"


def with_enable_pdl() -> tuple[Program, Callable[[], None]]:
    """The same model, with the waits that Inductor puts into its kernels."""
    import torch
    import torch._inductor.config as inductor

    torch._dynamo.reset()
    inductor.triton.enable_pdl = True
    try:
        _model, step, token = llama(True)
        graph, results = capture(step)
    finally:
        inductor.triton.enable_pdl = False
    saved = step_state(step)
    return Program(graph, token, saved, [tensor.clone() for tensor in saved], results, step), graph.replay


def step_state(step: Any) -> list[Any]:
    """The tensors of the step's cache, its counters among them."""
    import torch

    cache = next(cell.cell_contents for cell in step.__closure__ if hasattr(cell.cell_contents, "layers"))
    return [value for layer in cache.layers for value in vars(layer).values() if isinstance(value, torch.Tensor)]


def table(times: dict[str, list[float]], wrong: dict[str, dict[str, int]], steps: int) -> None:
    base = statistics.median(times["torch"])
    for name, samples in times.items():
        middle = statistics.median(samples)
        print(
            f"  {name:20} {middle:8.1f} us {base / middle:.3f}x  of {steps} steps differ {wrong.get(name)}", flush=True
        )


def run(case: str, steps: int, folder: Path | None) -> dict[str, Any]:
    with forerun.capture() as session:
        if case != "eager":
            import torch._inductor.config as inductor

            inductor.coordinate_descent_tuning = case != "plain"
            inductor.triton.enable_pdl = case == "enable_pdl"
        model, step, token = llama(case != "eager")
        graph, results = capture(step)
        begin = time.perf_counter()
        live = session.graph(graph)
        read = time.perf_counter() - begin
    captured = live.graph
    print(case, captured, f"read in {read:.2f} s", *captured.remarks, sep="\n  ", flush=True)
    if folder is not None:
        live.save(folder)
    one = program(graph, live, model, token, [*results, *step_state(step)])
    replays: dict[str, Callable[[], None]] = {"torch": graph.replay}
    made: dict[str, dict[str, Any]] = {}
    kept = []
    for name, (pipeline, early) in variants(case).items():
        begin = time.perf_counter()
        try:
            optimized = forerun.optimize(live, pipeline, early=early)
        except forerun.ForerunError as error:
            made[name] = {"error": str(error)[:4000]}
            print(f"  {name}: {str(error)[:1500]}", flush=True)
            continue
        seconds = time.perf_counter() - begin
        kept.append(optimized)
        replays[name] = optimized.replay
        refused = Counter(reason for code in optimized.made.values() for reason in code.refused)
        made[name] = {
            "pipeline": pipeline,
            "early": early,
            "early_loads": sum(code.early_loads for code in optimized.made.values()),
            "seconds": seconds,
            "trials": [] if optimized.search is None else [str(trial) for trial in optimized.search.trials],
            "kernels": len(optimized.made),
            "dependencies": optimized.graph.count_dependencies(),
            "unfit": dict(Counter(optimized.unfit.values())),
            "refused": dict(refused),
        }
        print(f"  {name}: {optimized}, {seconds:.1f} s{_found(optimized)}", flush=True)
        print(f"    unfit {dict(optimized.unfit)}, refused {dict(refused)}", flush=True)
    wrong = identical(one, replays, steps)
    turns = {name: (one, replay) for name, replay in replays.items()}
    if case == "compiled":
        turns["torch, enable_pdl"] = with_enable_pdl()
    times = timed(turns)
    base = statistics.median(times["torch"])
    for name, samples in times.items():
        middle = statistics.median(samples)
        print(
            f"  {name:36} {middle:8.1f} us {base / middle:.3f}x  of {steps} steps differ {wrong.get(name)}",
            flush=True,
        )
    reasons = Counter(kept[0].imported.reasons.values()) if kept else Counter()
    return {
        "case": case, "nodes": len(captured.nodes), "edges": len(captured.edges), "read_s": read,
        "images_found": sum(bool(f.image) for f in captured.functions), "functions": len(captured.functions),
        "opened": sum(n.function >= 0 and bool(captured.function_of(n).text) for n in captured.nodes),
        "strict": dict(reasons), "variants": made, "us": times, "steps": steps, "wrong": wrong,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=["compiled", "plain", "enable_pdl", "eager"])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    result = {**origin(), **run(arguments.case, arguments.steps, arguments.save)}
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.flush()
    os._exit(0)  # torch's own graphs and ours are given back in no order


if __name__ == "__main__":
    main()
