"""What benchmarks of other people's captured graphs share: what is compared, what is timed, and what is told.

A program is compared with its own replay: fresh random inputs in every step, and every byte that its pointers can
reach. The first graph of a case is the denominator; all graphs and variants are timed by turns in one process.
"""

from __future__ import annotations

import fcntl
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from external_code import disassembling

import forerun

__all__ = [
    "VARIANTS", "Made", "Program", "about_capture", "bytes_at", "compared", "edges", "locked", "optimized", "ratios",
    "table", "timed", "torch_graph", "written_by",
]  # fmt: skip

ROUNDS, REPLAYS = 10, 12
OWN = "its own replay"
_SELDOM = 5
_SHOWN = 8
_AGAIN = 6
"""How often the own replay is tried again where a variant differs."""
VARIANTS: dict[str, str | None] = {
    "untouched clone": "",
    "wait at entry": "insert-pdl",
    "loads moved": "insert-pdl,hoist-loads{full_edges=false}",
    "order of hazards": "infer-dependencies,reduce-edges",
    "passes alone": forerun.CAPTURED_PIPELINE,
    "measured": None,
}
"""Pipelines; with none, what pays is measured."""


@dataclass
class Program:
    """A captured graph, and what belongs to it.

    Attributes:
        name: What it is called in tables.
        live: What was captured.
        replay: The program's own replay, on torch's current stream.
        refresh: Fills the inputs with random values of a seed.
        results: What the program sees: tensors.
        kept: What must stay alive.
        written: All device memory that its pointers reach, constants left out, as tensors of bytes.
        rewritten: Whether it is optimized; else only its own replay is timed, for comparison.
    """

    name: str
    live: Any
    replay: Callable[[], None]
    refresh: Callable[[int], None]
    results: list[Any] = field(default_factory=list)
    kept: Any = None
    written: list[Any] = field(default_factory=list)
    rewritten: bool = True
    saved: list[Any] = field(default_factory=list)

    def save(self) -> None:
        """Remember the memory as it is."""
        self.saved = self.saved or [tensor.clone() for tensor in self.written]
        for before, now in zip(self.saved, self.written, strict=True):
            before.copy_(now)

    def restore(self) -> None:
        """Put the memory back."""
        for now, before in zip(self.written, self.saved, strict=True):
            now.copy_(before)


@dataclass
class Made:
    """What became of a program in each variant.

    Attributes:
        replays: By the variant's name.
        about: Facts about each variant.
        kept: The graphs, which must stay alive.
    """

    replays: dict[str, Callable[[], None]] = field(default_factory=dict)
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    kept: list[Any] = field(default_factory=list)


# Capturing


def torch_graph(step: Callable[[], Any], warm: int = 3) -> tuple[Any, list[Any]]:
    """The graph of a step that torch captures, and the tensors that the step returns."""
    import torch

    with torch.no_grad():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(warm):
                step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph(keep_graph=True)
        with torch.cuda.graph(graph):
            results = step()
        graph.instantiate()
    return graph, list(results) if isinstance(results, list | tuple) else [results]


def bytes_at(address: int, size: int) -> Any:
    """Memory of the device as a tensor of bytes."""
    import torch

    class Memory:
        __cuda_array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (address, False), "version": 3}  # noqa: RUF012

    return torch.as_tensor(Memory(), device="cuda")


def written_by(live: Any, constants: Iterable[Any]) -> list[Any]:
    """All device memory that a graph's pointers reach, but for blocks that hold constants (tensors, or addresses)."""
    fixed = sorted(one if isinstance(one, int) else one.data_ptr() for one in constants)
    ranges = [m for m in live.graph.memory if m.kind == "device" and not any(address in m for address in fixed)]
    return [bytes_at(m.address, m.size) for m in ranges]


# Facts about a capture


def edges(captured: Any) -> dict[str, int]:
    """How many edges there are of each kind."""
    return dict(Counter(edge.kind for edge in captured.edges))


def about_capture(live: Any) -> dict[str, Any]:
    """Nodes, edges, what was opened, and the verdict on the graph as it is."""
    from forerun.frontends.captured import import_capture
    from forerun.ir.semantics import check

    captured = live.graph
    first = time.perf_counter()
    with disassembling() as seconds:
        import_capture(captured)  # machine code that was not seen before is disassembled and looked at
    begin = time.perf_counter()
    imported = import_capture(captured)
    read = time.perf_counter()
    verdict = check(imported.graph)
    kernels = [captured.function_of(node) for node in captured.nodes if node.function >= 0]
    return {
        "nodes": len(captured.nodes), "kinds": dict(captured.kinds), "kernels": len(kernels),
        "edges": edges(captured), "opened": sum(bool(one.text) for one in kernels),
        "images": sum(bool(one.image) for one in kernels),
        "functions": len(captured.functions), "opened_functions": sum(bool(one.text) for one in captured.functions),
        "images_found": sum(bool(one.image) for one in captured.functions), "remarks": list(captured.remarks),
        "verdict": verdict.status, "findings": [str(one)[:300] for one in verdict.findings[:3]],
        "strict": dict(Counter(imported.reasons.values())),
        "first_import_s": begin - first, "first_import_disassembly_s": seconds(),
        "import_s": read - begin, "check_s": time.perf_counter() - read,
    }  # fmt: skip


# Variants


def optimized(one: Program, limit_s: float, variants: Iterable[str] = VARIANTS) -> Made:
    """Each variant of a program; one that fails is told, and left out."""
    made = Made()
    for name in variants:
        pipeline = VARIANTS[name]
        begin = time.perf_counter()
        try:
            found = forerun.optimize(one.live, pipeline=pipeline, limit_s=limit_s)
        except Exception as error:
            made.about[name] = {"error": f"{type(error).__name__}: {str(error)[:2000]}"}
            print(f"  {one.name}, {name}: {type(error).__name__}: {str(error)[:800]}", flush=True)
            continue
        made.kept.append(found)
        made.replays[name] = found.replay
        made.about[name] = _about(found, time.perf_counter() - begin)
        print(f"  {one.name}, {name}: {found}; {made.about[name]}", flush=True)
    return made


def _about(found: Any, seconds: float) -> dict[str, Any]:
    codes = found.made.values()
    told = {
        "seconds": round(seconds, 2), "new_code": len(found.made),
        "early_loads": sum(code.early_loads for code in codes),
        "prefetches": sum(code.prefetches for code in codes),
        "edges": {str(kind): count for kind, count in found.graph.count_dependencies().items() if count},
        "unfit": dict(Counter(found.unfit.values())),
        "refused": dict(Counter(reason for code in codes for reason in code.refused)),
    }  # fmt: skip
    if found.search is not None:
        choices = Counter((one.target, one.trigger) for one in found.search.choices.values())
        told["choices"] = {f"{target}, trigger {trigger}": count for (target, trigger), count in choices.items()}
        told |= {"trials": len(found.search.trials), "order": str(found.search.order)}
        told |= {"kept": sum(trial.kept for trial in found.search.trials)}
        told |= {"us": 1e6 * found.search.seconds, "us_of_common_choices": 1e6 * found.search.begin}
    return told


# Comparing and timing


def compared(one: Program, replays: Mapping[str, Callable[[], None]], steps: int) -> dict[str, dict[str, Any]]:
    """In how many steps of each variant some byte, or some result, differs from what the own replay leaves.

    The own replay is compared with itself, too. Where a variant differs, the own one is replayed some times more: if
    one of these leaves the very same, the program varies, not the variant. What was measured is what users get, so it
    is compared in every step, and the others in every fifth.
    """
    import torch

    torch.cuda.synchronize()
    generator = random.Random(0)
    every = {OWN: one.replay, **replays}
    wrong: dict[str, dict[str, Any]] = {
        name: {"steps": 0, "bytes": 0, "results": 0, "as_another_own": 0, "where": []} for name in every
    }
    for step in range(steps):
        one.refresh(generator.randrange(1 << 31))
        one.save()
        expected = _left_by(one, one.replay)
        for name, replay in every.items():
            if name not in (OWN, "measured") and step % _SELDOM:
                continue
            counts = wrong[name]
            found = _left_by(one, replay)
            counts["steps"] += 1
            places = _differences(expected, found)
            if not places:
                continue
            if len(counts["where"]) < _SHOWN:
                counts["where"].append(f"step {step}: {places}")
            if name != OWN and any(not _differences(found, _left_by(one, one.replay)) for _ in range(_AGAIN)):
                counts["as_another_own"] += 1
                continue
            counts["bytes"] += any(kind == "bytes" for kind, *_ in places)
            counts["results"] += any(kind == "result" for kind, *_ in places)
    one.restore()
    return wrong


def _left_by(one: Program, replay: Callable[[], None]) -> dict[str, list[Any]]:
    """Copies of what a replay leaves, from the memory as it was saved."""
    import torch

    one.restore()
    replay()
    torch.cuda.synchronize()
    return {"bytes": [tensor.clone() for tensor in one.written], "result": [tensor.clone() for tensor in one.results]}


def _differences(first: Mapping[str, list[Any]], second: Mapping[str, list[Any]]) -> list[tuple[str, int, int]]:
    """What differs: of which kind, its number, and its size in bytes."""
    return [
        (kind, number, a.numel() * a.element_size())
        for kind in first
        for number, (a, b) in enumerate(zip(first[kind], second[kind], strict=True))
        if not _same(a, b)
    ]


def _same(first: Any, second: Any) -> bool:
    """Whether two tensors have the same bytes; NaN is equal to itself."""
    import torch

    views = [one.contiguous().reshape(-1).view(torch.uint8) for one in (first, second)]
    return bool(torch.equal(*views))


def timed(turns: Mapping[str, tuple[Program, Callable[[], None]]]) -> dict[str, list[float]]:
    """Microseconds of a replay, by turns: forwards, then backwards. Each begins with memory as it was."""
    import torch

    found: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(ROUNDS):
        order = list(turns) if number % 2 == 0 else list(reversed(turns))
        for name in order:
            one, replay = turns[name]
            if not one.saved:
                one.save()
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


def ratios(times: Mapping[str, list[float]], base: str) -> dict[str, float]:
    """Time of the base over time of each, by medians."""
    first = statistics.median(times[base])
    return {name: first / statistics.median(samples) for name, samples in times.items()}


def table(times: Mapping[str, list[float]], base: str, wrong: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for each variant: its time, how much faster it is, and in how many steps it differed."""
    lines = []
    for name, ratio in ratios(times, base).items():
        found = wrong.get(name)
        said = ""
        if found is not None:
            said = f", differs in {found['bytes']} (results: {found['results']}) of {found['steps']} steps"
            varied = found["as_another_own"]
            said += f"; in {varied} as another own replay" if varied else ""
        lines.append(f"  {name:44} {statistics.median(times[name]):9.1f} us {ratio:6.3f}x{said}")
    return "\n".join(lines)


# One GPU for many processes


@contextmanager
def locked(path: Path | None, *, alone: bool) -> Iterator[None]:
    """Hold a lock among processes: many may prepare at once; one is ``alone`` while it measures."""
    if path is None:
        yield
        return
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        try:
            yield
        finally:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)
