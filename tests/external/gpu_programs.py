"""Programs in torch for ``test_on_gpu.py``, in a process of their own.

Images of kernels are seen only if CUDA was not at work before. Each part is tried, and its outcome printed; the last
line has them all as JSON.

    python tests/external/gpu_programs.py [PART ...]
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import forerun
from forerun.external.optimize import CAPTURED_PIPELINE

SIZE, STEPS = 1024, 20
SESSION = forerun.capture()
_session = SESSION.__enter__()  # for the whole process

import torch  # noqa: E402


@cache
def weights() -> list[Any]:
    torch.manual_seed(0)
    return [torch.randn(SIZE, SIZE, device="cuda") / SIZE**0.5 for _ in range(4)]


def chain(x: Any, own: list[Any]) -> Any:
    """Products that Inductor makes kernels of Triton of."""
    for weight in own:
        x = torch.relu((weight * x).sum(1)) + 0.01 * x
    return x


@cache
def compiled() -> Callable[[Any], Any]:
    own = weights()
    found = torch.compile(lambda x: chain(x, own), dynamic=False, fullgraph=True)
    with torch.no_grad():
        found(vector())
    return found


def vector() -> Any:
    return torch.randn(SIZE, device="cuda")


@cache
def captured() -> tuple[Any, Any, Any]:
    """A graph of the compiled chain, its input and its result."""
    function, x = compiled(), vector()
    graph = torch.cuda.CUDAGraph(keep_graph=True)
    torch.cuda.synchronize()
    with torch.no_grad(), torch.cuda.graph(graph):
        result = function(x)
    return graph, x, result


def poison(graph: Any) -> None:
    """Fill all memory of the graph's own pool with ones."""
    for segment in torch.cuda.memory_snapshot():
        if tuple(segment["segment_pool_id"]) == tuple(graph.pool()):
            bytes_at(segment["address"], segment["total_size"]).fill_(0xFF)
    torch.cuda.synchronize()


def bytes_at(address: int, size: int) -> Any:
    class Memory:
        __cuda_array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (address, False), "version": 3}  # noqa: RUF012

    return torch.as_tensor(Memory(), device="cuda")


def same(first: Any, second: Any) -> bool:
    return bool(torch.equal(first.view(torch.uint8), second.view(torch.uint8)))


def require(what: object, told: str) -> None:
    if not what:
        raise AssertionError(told)


def refused(work: Callable[[], object], words: str) -> None:
    try:
        work()
    except forerun.ForerunError as error:
        require(words in str(error), f"other words: {error}")
        return
    raise AssertionError(f"nothing is refused; expected: {words}")


def differ(graph: Any, fill: Callable[[], None], result: Any, replay: Callable[[], None]) -> int:
    """How many of some steps with fresh numbers give other bits than torch's own replay."""
    wrong = 0
    for _ in range(STEPS):
        fill()
        outcomes = []
        for one in (graph.replay, replay):
            poison(graph)
            one()
            torch.cuda.synchronize()
            outcomes.append(result.clone())
        require(not outcomes[0].isnan().any(), "torch's own replay stores no result")
        wrong += not same(*outcomes)
    return wrong


def graph_bits() -> dict[str, Any]:
    graph, x, result = captured()
    with forerun.optimize(graph, pipeline=CAPTURED_PIPELINE) as optimized:
        print(optimized)
        wrong = differ(graph, lambda: x.copy_(vector()), result, optimized.replay)
        require(optimized.made, f"no kernel got new code: {dict(optimized.reasons)}")
        require(optimized.graph.count_dependencies()["programmatic"], "no edge is programmatic")
        require(not wrong, f"{wrong} of {STEPS} steps differ")
        return {"kernels": len(optimized.made), "reasons": dict(optimized.reasons)}


def callable_bits() -> dict[str, Any]:
    x, function = vector(), compiled()
    with torch.no_grad():
        optimized = forerun.optimize(function, x, pipeline=CAPTURED_PIPELINE)
        wrong = 0
        for _ in range(STEPS):
            x.copy_(vector())
            expected = function(x)
            optimized.outputs.fill_(float("nan"))
            optimized.replay()
            wrong += not same(expected, optimized.outputs)
        require(optimized.made, f"no kernel got new code: {dict(optimized.reasons)}")
        require(not wrong, f"{wrong} of {STEPS} steps differ")
        optimized.close()
    return {"kernels": len(optimized.made)}


def wrapped_function() -> dict[str, Any]:
    def work(one: dict[str, Any], scale: float, *, bias: Any) -> tuple[Any, dict[str, Any]]:
        y = one["x"] * scale + bias
        return y, {"sum": y.sum(), "name": "sum"}

    step = forerun.torch.optimize(work, pipeline=CAPTURED_PIPELINE)
    kept = []
    with torch.inference_mode():
        for size in (64, 128, 64, 128):
            for scale in (2.0, 3.0):
                x, bias = torch.randn(size, device="cuda"), torch.randn(size, device="cuda")
                found, more = step({"x": x}, scale, bias=bias)
                expected, _ = work({"x": x}, scale, bias=bias)
                require(more["name"] == "sum", "what is not a tensor is lost")
                kept.append((found, expected))
    require(all(same(*pair) for pair in kept), "results differ from the function's, or were overwritten")
    require(len(step.graphs) == 4, f"{len(step.graphs)} graphs for 4 kinds of arguments")
    model = torch.nn.Linear(8, 8, device="cuda")
    refused(lambda: forerun.torch.optimize(model)(torch.ones(8, device="cuda")), "want gradients")
    refused(lambda: step({"x": torch.ones(4)}, 1.0, bias=torch.ones(4)), "is on cpu")
    with torch.no_grad():
        refused(lambda: forerun.torch.optimize(lambda one: one.add_(1))(torch.ones(4, device="cuda")), "writes into")
        # Called in other modes, with the same model.
        linear = forerun.torch.optimize(model, pipeline=CAPTURED_PIPELINE)
        plain = linear(torch.ones(8, device="cuda"))
    with torch.inference_mode():
        require(same(plain, linear(torch.ones(8, device="cuda")).clone()), "inference mode gives something else")
    step.close()
    return {}


def random_numbers() -> dict[str, Any]:
    """Dropout and two draws, as torch's own replay draws them."""
    x, drop = vector(), torch.nn.Dropout(0.5)

    def step() -> Any:
        return drop(x) + torch.rand_like(x) * torch.randn(SIZE, device="cuda")

    step()
    graph = torch.cuda.CUDAGraph(keep_graph=True)
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        result = step()
    generator = torch.cuda.default_generators[torch.cuda.current_device()]

    def draws(replay: Callable[[], None], seed: int) -> tuple[list[Any], int]:
        torch.cuda.manual_seed(seed)
        found = []
        for number in range(4):
            replay()
            found.append(result.clone())
            if number == 1:
                torch.rand(5, device="cuda")  # draws between replays count
        return found, generator.get_offset()

    expected = {seed: draws(graph.replay, seed) for seed in (1, 123456789012345)}
    torch.cuda.manual_seed(77)
    before = generator.initial_seed(), generator.get_offset()
    optimized = forerun.optimize(graph, pipeline=CAPTURED_PIPELINE)
    require((generator.initial_seed(), generator.get_offset()) == before, "optimize moved the generator")
    advances = optimized._rewritten.clone.generators
    require(advances, "it is not noticed that the graph draws random numbers")
    for seed, (tensors, offset) in expected.items():
        found, now = draws(optimized.replay, seed)
        require(now == offset, f"the offset is {now}, torch's own replay leads to {offset}")
        require(all(same(*pair) for pair in zip(tensors, found, strict=True)), f"seed {seed}: other numbers")
        require(not same(found[0], found[1]), "replays repeat their numbers")
    optimized.close()
    # A function whose first call draws what it would draw without forerun.
    function = forerun.torch.optimize(lambda one: drop(one) + torch.rand_like(one), pipeline=CAPTURED_PIPELINE)
    with torch.no_grad():
        torch.cuda.manual_seed(5)
        first = [drop(x) + torch.rand_like(x) for _ in range(2)]
        torch.cuda.manual_seed(5)
        second = [function(x) for _ in range(2)]
    drawn_alike = all(same(*pair) for pair in zip(first, second, strict=True))
    function.close()
    return {"increment": advances[0].increment, "words": len(state_words(graph)), "as_eager": drawn_alike}


def state_words(graph: Any) -> tuple[int, ...]:
    from forerun.runtime.cuda.capture.random_numbers import state_words

    return state_words(_session.graph(graph).graph)


def other_generator() -> dict[str, Any]:
    own = torch.Generator("cuda")
    own.manual_seed(3)
    torch.rand(SIZE, device="cuda", generator=own)
    graph = torch.cuda.CUDAGraph(keep_graph=True)
    graph.register_generator_state(own)
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        torch.rand(SIZE, device="cuda", generator=own)
    refused(lambda: forerun.optimize(graph, pipeline=CAPTURED_PIPELINE), "another generator")
    return {}


def no_random_numbers() -> dict[str, Any]:
    graph, _, _ = captured()
    optimized = forerun.optimize(graph, pipeline=CAPTURED_PIPELINE)
    require(optimized._rewritten.clone.generators == (), "a graph that draws nothing advances a generator")
    optimized.close()
    return {"words": len(state_words(graph))}


def after_reset() -> dict[str, Any]:
    x = vector()
    graph = torch.cuda.CUDAGraph(keep_graph=True)
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        y = x * 2
    optimized = forerun.optimize(graph, pipeline=CAPTURED_PIPELINE)
    optimized.replay()
    graph.reset()
    refused(optimized.replay, "was reset")
    with torch.cuda.graph(graph):
        y = x * 3
    refused(optimized.replay, "was reset")
    require(optimized.refresh(), "the second capture is not taken over")
    optimized.replay()
    require(same(y, x * 3), "the second capture computes something else")
    graph.reset()
    refused(optimized.refresh, "did not keep the graph")
    refused(optimized.replay, "is closed")
    return {}


def changed_parameters() -> dict[str, Any]:
    """One of the weights becomes another one in the program's graph, which is instantiated again."""
    from cuda.bindings import driver

    function, x = compiled(), vector()
    graph = torch.cuda.CUDAGraph(keep_graph=True)
    torch.cuda.synchronize()
    with torch.no_grad(), torch.cuda.graph(graph):
        result = function(x)
    live = _session.graph(graph)
    optimized = forerun.optimize(live, pipeline=CAPTURED_PIPELINE)
    require(not live.changes(), f"it changed without a change: {live.changes()}")
    require(not optimized.refresh(), "it is taken over without a change")
    first, second = (weight.data_ptr() for weight in weights()[:2])
    at, number = next((n, p) for n, node in enumerate(live.graph.nodes) for p, _, v in node.pointers() if v == first)
    error, old = driver.cuGraphKernelNodeGetParams(live.handles.nodes[at])
    require(not error, "the node cannot be read")
    count = len(live.graph.nodes[at].parameters)
    places = list((ctypes.c_void_p * count).from_address(int(old.kernelParams)))
    value = ctypes.c_uint64(second)
    places[number] = ctypes.addressof(value)
    table = (ctypes.c_void_p * count)(*places)
    old.kernelParams = ctypes.addressof(table)
    (error,) = driver.cuGraphKernelNodeSetParams(live.handles.nodes[at], old)
    require(not error, "the node cannot be changed")
    graph.instantiate()
    seen = f"parameter {number} changed at n{at}"
    require(live.changes() == seen, f"the change is not seen: {live.changes()}")
    before = optimized.imported.captured
    require(optimized.refresh(), "the change is not taken over")
    require(optimized.imported.captured != before, "it was not read again")
    wrong = differ(graph, lambda: x.copy_(vector()), result, optimized.replay)
    require(not wrong, f"{wrong} of {STEPS} steps differ")
    optimized.close()
    return {}


def other_captures() -> dict[str, Any]:
    """The program captures the same step again, with another input; one executable becomes each of the two."""
    graph, x, result = captured()
    function, other_x = compiled(), vector()
    other = torch.cuda.CUDAGraph(keep_graph=True)
    torch.cuda.synchronize()
    with torch.no_grad(), torch.cuda.graph(other):
        other_result = function(other_x)
    optimized = forerun.optimize(graph, pipeline=CAPTURED_PIPELINE)
    require(str(optimized.update(graph)) == "reused", "the same graph is not reused")
    told, seconds = [], []
    for source, given, found in ((other, other_x, other_result), (graph, x, result), (other, other_x, other_result)):
        begin = time.perf_counter()
        told.append(str(optimized.update(source)))
        seconds.append(time.perf_counter() - begin)
        wrong = differ(source, lambda given=given: given.copy_(vector()), found, optimized.replay)
        require(not wrong, f"{wrong} of {STEPS} steps differ after: {told[-1]}")
    require(all(one.startswith(("parameters", "instantiated")) for one in told), f"another way: {told}")
    optimized.close()
    return {"told": told, "seconds": seconds}


def remembered() -> dict[str, Any]:
    graph, x, result = captured()
    times = []
    for _ in range(2):
        begin = time.perf_counter()
        optimized = forerun.optimize(graph)
        times.append(time.perf_counter() - begin)
        wrong = differ(graph, lambda: x.copy_(vector()), result, optimized.replay)
        require(not wrong, f"{wrong} of {STEPS} steps differ")
        trials = 0 if optimized.search is None else len(optimized.search.trials)
        optimized.close()
    require(trials == 0, "the second time it was measured again")
    require(times[1] <= 2, f"the second time it takes {times[1]:.2f} s")
    return {"seconds": times}


PARTS: tuple[Callable[[], dict[str, Any]], ...] = (
    graph_bits, no_random_numbers, callable_bits, wrapped_function, random_numbers, other_generator, after_reset,
    changed_parameters, other_captures, remembered,
)  # fmt: skip


def main(names: list[str]) -> None:
    outcomes = {}
    for part in PARTS:
        if names and part.__name__ not in names:
            continue
        begin = time.perf_counter()
        try:
            outcome = {"ok": True, **part()}
        except Exception as error:
            traceback.print_exc()
            outcome = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        outcomes[part.__name__] = {**outcome, "s": round(time.perf_counter() - begin, 2)}
        print(part.__name__, outcomes[part.__name__], flush=True)
    print(json.dumps(outcomes, default=str), flush=True)
    os._exit(0)  # torch's graphs and ours are given back in no order


if __name__ == "__main__":
    main(sys.argv[1:])
